"""A session with a node in which every count is accounted for. Enters: a script's acts. Leaves: what metrics must say.

A script talks to the node through `MetricSession.client`, which counts what goes over the wire, and says with
`expect` what else must have been counted. `settle` compares: what is expected must have been counted, and
nothing else may have. Values that time moves (memory, ages, peaks) are compared by `check` alone.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from simnode.metrics.catalogue import CATALOGUE
from simnode.metrics.model import Kind, Metric, Per, Source
from simnode.protocol.codec.base import Encoding
from simnode.protocol.messages.requests import ClientRequest, Put, StreamChunk
from simnode.protocol.messages.responses import HostResult, UpdateNotification
from tests.support.live_node import LiveNode, wait_until
from tests.support.wire import ConnectionEnded, FrameClient, Message, get_of, put_of

TOKEN = "right"
SETTLE_TIMEOUT_S = 10.0

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A name as exported, and its labels, sorted."""

Values = dict[Series, float]

MOVED_BY_TIME = frozenset(
    {
        "simnode_memory_samples_total",
        "simnode_process_up",
        "simnode_process_heartbeat_age_seconds",
        "simnode_process_cpu_seconds_total",
        "simnode_node_backlog_peak_60s_chunks",
        "simnode_node_backlog_peak_60s_bytes",
        "simnode_segments",
        "simnode_segment_bytes",
        "simnode_granted_bytes",
        "simnode_lingering_bytes",
        *(name for metric in CATALOGUE if metric.kind is Kind.PEAK for name in metric.exported_names),
        *(f"{metric.name}_bucket" for metric in CATALOGUE if metric.kind is Kind.HISTOGRAM),
        "simnode_request_duration_seconds_sum",
    }
)
"""What `settle` does not compare; scripts look at these with `check`."""


def series(name: str, **labels: str) -> Series:
    """A time series."""
    return name, tuple(sorted(labels.items()))


def series_of(metric: Metric) -> Iterator[Series]:
    """Every time series that a node with one process of each role exports for a metric, buckets and info aside."""
    if metric.kind is Kind.INFO:
        return
    for role in metric.roles if metric.per is not Per.NODE else (None,):
        of_process = {"role": str(role), "slot": "0"} if metric.per is Per.PROCESS else {"role": str(role)}
        for values in metric.combinations:
            own = dict(zip((label.name for label in metric.labels), values, strict=True))
            for name in metric.exported_names:
                if not name.endswith("_bucket"):
                    yield series(name, **own, **(of_process if role is not None else {}))


def scrape(url: str) -> Values:
    """What the exporter says now, buckets aside, each histogram being whole in itself."""
    with urlopen(url, timeout=10) as reply:
        text = reply.read().decode()
    values: Values = {}
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("simnode_"):
            continue
        counted: dict[Series, float] = {}
        for sample in family.samples:
            labels = dict(sample.labels)
            if sample.name.endswith("_bucket"):
                bound = labels.pop("le")
                key = series(f"{family.name}_count", **labels)
                assert sample.value >= counted.get(key, 0.0), f"{key}: the bucket {bound} holds less than the one below"
                counted[key] = sample.value
            else:
                values[series(sample.name, **labels)] = sample.value
        for key, count in counted.items():
            assert values[key] == count, f"{key} is not the sum of its buckets"
    return values


@dataclass
class MetricSession:
    """A node, what its metrics must say by now, and which of them a script has moved.

    Attributes:
        node: with one handler.
        expected: least and greatest value of every series that is compared.
        moved: the series that some script expected to be above 0 or to have changed, and that were.
    """

    node: LiveNode
    expected: dict[Series, tuple[float, float]] = field(default_factory=dict)
    moved: set[Series] = field(default_factory=set)
    _moving: set[Series] = field(default_factory=set)
    _codes: set[bytes] = field(default_factory=set)
    _contracts: int = 0

    def __post_init__(self) -> None:
        self._accept(scrape(self.node.metrics_url))

    # ---- saying what must be counted ---------------------------------------------------------

    def expect(self, name: str, by: float = 1, **labels: str) -> None:
        """A counter, or a gauge that is compared, changes by exactly so much."""
        self.expect_between(name, by, by, **labels)

    def expect_between(self, name: str, low: float, high: float, **labels: str) -> None:
        """It changes by so much at the least, and so much at the most."""
        key = series(name, **labels)
        assert key in self.expected, f"no such series, or none that is compared: {key}"
        least, most = self.expected[key]
        self.expected[key] = (least + low, most + high)
        if low or high:
            self._moving.add(key)

    def expect_answered(self, kind: str, encoding: Encoding, outcome: str) -> None:
        """A request was carried out, and its answer, if it gets one, has begun to leave."""
        self.expect("simnode_requests_total", kind=kind, encoding=encoding.value, outcome=outcome)
        if kind != "undecodable":
            self.expect("simnode_request_duration_seconds_count", kind=kind, encoding=encoding.value)

    def expect_commits(self, number: int = 1, *, writes: int | None = None) -> None:
        """So many transactions, of one write each unless `writes` says how many they had together."""
        self.expect("simnode_store_commits_total", number, outcome="ok")
        self.expect("simnode_store_commit_batch_writes_count", number)
        self.expect("simnode_store_commit_batch_writes_sum", number if writes is None else writes)

    def expect_stored_together(self, requests: list[Put]) -> None:
        """The PUTs of new contracts were committed, in one transaction or several."""
        for request in requests:
            self._expect_new(request)
        self.expect_between("simnode_store_commits_total", 1, len(requests), outcome="ok")
        self.expect_between("simnode_store_commit_batch_writes_count", 1, len(requests))
        self.expect("simnode_store_commit_batch_writes_sum", len(requests))

    # ---- acting ------------------------------------------------------------------------------

    @contextmanager
    def client(self, encoding: Encoding = Encoding.NATIVE, query: str = "", **options: Any) -> Iterator[CountingClient]:
        """An authorized connection, closed at the end of the block if the script has not ended it."""
        with self.stranger(encoding, f"authToken={TOKEN}&{query}".rstrip("&"), **options) as client:
            yield client

    @contextmanager
    def stranger(
        self, encoding: Encoding = Encoding.NATIVE, query: str = "", **options: Any
    ) -> Iterator[CountingClient]:
        """A connection without a token."""
        url = f"{self.node.url}?{query}" if query else self.node.url
        with CountingClient(self, url, encoding=encoding, **options) as client:
            self.expect("simnode_connections_opened_total")
            yield client
            if not client.has_ended:
                client.leave()

    def new_put(self, state: bytes, *, subscribe: bool = False) -> Put:
        """The PUT of a contract that nobody else uses; all have one code."""
        self._contracts += 1
        return put_of(state, params=b"contract %d" % self._contracts, subscribe=subscribe)

    def put(self, client: CountingClient, state: bytes) -> Put:
        """Stores a contract."""
        request = self.new_put(state)
        client.asks("put", request)
        self.stored(request)
        return request

    def stored(self, request: Put) -> None:
        """The PUT of a new contract was committed, in a transaction of its own."""
        self.expect_commits()
        self._expect_new(request)

    def _expect_new(self, request: Put) -> None:
        code = bytes(request.contract.data)
        nbytes = len(request.state) + len(request.contract.params) + (0 if code in self._codes else len(code))
        self._codes.add(code)
        self.expect("simnode_store_contracts")
        self.expect("simnode_store_bytes", nbytes)

    # ---- looking -----------------------------------------------------------------------------

    def settle(self) -> None:
        """Waits until every series has the value that is expected of it.

        Raises:
            AssertionError: one has another; all of them are named.
        """
        found: list[str] = []
        values: Values = {}

        def is_settled() -> bool:
            nonlocal values
            values = scrape(self.node.metrics_url)
            found[:] = [
                f"{key}: {values.get(key)}, expected {low:.12g}" + (f" to {high:.12g}" if high != low else "")
                for key, (low, high) in self.expected.items()
                if not low <= values.get(key, -1) <= high
            ]
            return not found

        try:
            wait_until("metrics are as expected", is_settled, timeout_s=SETTLE_TIMEOUT_S)
        except AssertionError:
            self._accept(values)  # so that the next script is judged by itself
            raise AssertionError("metrics are not as the script implies:\n" + "\n".join(found)) from None
        self.moved |= self._moving
        self._accept(values)

    def check(self, name: str, low: float, high: float | None = None, **labels: str) -> float:
        """Waits until a series has a value within bounds (`low` exactly, without `high`); returns it."""
        key = series(name, **labels)
        most = low if high is None else high
        value = -1.0

        def is_there() -> bool:
            nonlocal value
            value = scrape(self.node.metrics_url).get(key, -1.0)
            return low <= value <= most

        try:
            wait_until("it is as expected", is_there, timeout_s=SETTLE_TIMEOUT_S)
        except AssertionError:
            raise AssertionError(f"{key} is {value}, not {low} to {most}") from None
        if value > 0:
            self.moved.add(key)
        return value

    def check_peak(self, name: str, infixed: str, value: float, **labels: str) -> None:
        """A peak's value now, its highest of 60 s and its highest for life are all this."""
        self.check(name, value, **labels)
        for peak in ("peak_60s", "peak_life"):
            self.check(infixed.format(peak), value, **labels)

    def value(self, name: str, **labels: str) -> float:
        """A series as it is now."""
        return scrape(self.node.metrics_url)[series(name, **labels)]

    def forget(self) -> None:
        """A script failed half way: what was expected by it is not expected any more."""
        self._accept(scrape(self.node.metrics_url))

    def _accept(self, values: Values) -> None:
        self._moving = set()
        self.expected = {
            key: (value, value)
            for key, value in values.items()
            if key[0] not in MOVED_BY_TIME and not key[0].startswith("simnode_build_info")
        }


class CountingClient(FrameClient):
    """A connection whose every message is expected in the metrics. It must read all that it is sent, or `reset`."""

    def __init__(self, session: MetricSession, url: str, *, encoding: Encoding, **options: Any) -> None:
        self.session = session
        self.encoding = encoding
        self.has_ended = False
        super().__init__(url, encoding=encoding, **options)

    def send(self, message: bytes | ClientRequest, *, fragment_bytes: int = 0) -> None:
        data = message if isinstance(message, bytes) else self.encode(message)
        self._expect_message("inbound", len(data))
        if isinstance(message, StreamChunk):
            self.session.expect("simnode_chunks_total", direction="inbound")
        super().send(data, fragment_bytes=fragment_bytes)

    def message(self) -> Message:
        message = super().message()
        self._expect_message("outbound", len(message.data))
        result = self.decode(message.data)
        if isinstance(result, StreamChunk):
            self.session.expect("simnode_chunks_total", direction="outbound")
            if result.index == result.total - 1:
                self.session.expect("simnode_streams_total", direction="outbound", outcome="completed")
        if isinstance(result, UpdateNotification):
            self.session.expect("simnode_notifications_total", outcome="sent")
        return message

    def asks(self, kind: str, request: ClientRequest, outcome: str = "ok") -> HostResult:
        """Sends a request, reads its answer, and expects both to be counted."""
        self.session.expect_answered(kind, self.encoding, outcome)
        return self.ask(request)

    def is_served(self) -> None:
        """A round trip, after which the node has seen all that was sent before."""
        self.asks("get", get_of(self.session.new_put(b"").contract.key), "not_found")

    def leave(self) -> None:
        """Ends the connection with a close frame."""
        self.send_close()
        self.ended("peer_closed")

    def ended(self, reason: str) -> None:
        """Reads what is still to come, to the end of the connection, for which the node has this reason."""
        self.has_ended = True
        self.session.expect("simnode_connections_closed_total", reason=reason)
        try:
            while True:
                self.message()
        except ConnectionEnded:
            self.sock.close()

    def reset(self, reason: str = "connection_lost") -> None:
        """Ends the TCP connection at once, whatever was due."""
        self.has_ended = True
        self.session.expect("simnode_connections_closed_total", reason=reason)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _expect_message(self, direction: str, nbytes: int) -> None:
        self.session.expect("simnode_messages_total", direction=direction)
        self.session.expect("simnode_payload_bytes_total", nbytes, direction=direction)


def every_series(metrics: Iterable[Metric] = CATALOGUE) -> set[Series]:
    """All of them."""
    return {key for metric in metrics for key in series_of(metric)}


def is_exporters(metric: Metric) -> bool:
    """Whether no process writes it."""
    return metric.source is Source.EXPORTER
