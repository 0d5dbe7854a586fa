"""Scripts: what clients make the node hold, by kind; and whom that costs the connection."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from websockets.frames import Frame, Opcode

from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import KIB, MIB
from simnode.protocol.messages.requests import Put, QueryNeighborHostingInfo
from tests.support.live_node import stop
from tests.support.metric_session import CountingClient, MetricSession
from tests.support.wire import chunks_of, get_of

HANDLER = {"role": "connection_handler", "slot": "0"}
SMALL_BYTES = 60 * KIB
MANY = 40
"""Small states: more than the kernel takes on the way to a store that stands still, or to a client."""

LINGERING_BYTES = 9 * MIB // 4
"""Less than a quarter of the node's budget, and twice as much is more."""


def check_held(session: MetricSession, kind: str, low: int, high: int) -> None:
    session.check("simnode_held_bytes", low, high, kind=kind, **HANDLER)
    for name in ("simnode_held_peak_60s_bytes", "simnode_held_peak_life_bytes"):
        session.check(name, low, 1 << 40, kind=kind, **HANDLER)


def unfinished_messages_are_held(session: MetricSession) -> None:
    with session.client() as client:
        request = session.new_put(bytes(MIB))
        client.send(chunks_of(client.encode(request), 1)[0])
        check_held(session, "lease", MIB, 2 * MIB)
        client.sock.sendall(Frame(Opcode.BINARY, bytes(100 * KIB)).serialize(mask=True)[:-1])
        check_held(session, "message", 100 * KIB, MIB)
        client.reset()
    session.expect("simnode_streams_total", direction="inbound", outcome="aborted")
    for kind in ("lease", "message"):
        session.check("simnode_held_bytes", 0, kind=kind, **HANDLER)


@contextmanager
def store_that_stands_still(session: MetricSession) -> Iterator[None]:
    pid = session.node.pid_of("contract_store-0")
    stop(pid)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def put_all(client: CountingClient, requests: list[Put]) -> None:
    """Sends PUTs of new contracts without reading."""
    for request in requests:
        client.send(request)
        client.session.expect_answered("put", Encoding.NATIVE, "ok")


def requests_that_wait_for_the_store_are_held(session: MetricSession) -> None:
    """Small ones in the heap, and on the link; large ones in their segments."""
    with session.client() as client:
        small = [session.new_put(bytes(SMALL_BYTES)) for _ in range(MANY)]
        large = session.new_put(bytes(MIB))
        with store_that_stands_still(session):
            put_all(client, small)
            check_held(session, "request", MANY * SMALL_BYTES, 2 * MANY * SMALL_BYTES)
            check_held(session, "link", 1, MANY * SMALL_BYTES)
            session.check("simnode_granted_bytes", MANY * SMALL_BYTES, 16 * MIB)
            put_all(client, [large])
            check_held(session, "storing", MIB, 2 * MIB)
        for _ in range(MANY + 1):
            client.answer()
    session.expect_stored_together([*small, large])
    for kind in ("request", "link", "storing"):
        session.check("simnode_held_bytes", 0, kind=kind, **HANDLER)


def answers_that_are_not_read_are_held(session: MetricSession) -> None:
    with session.client(receive_buffer_bytes=4096) as client:
        request = session.put(client, bytes(SMALL_BYTES))
        for _ in range(MANY):
            client.send(get_of(request.contract.key))
            session.expect_answered("get", Encoding.NATIVE, "ok")
        check_held(session, "answer", 1, MANY * (SMALL_BYTES + KIB))
        for _ in range(MANY):
            client.answer()
    session.check("simnode_held_bytes", 0, kind="answer", **HANDLER)


CONTRACTS = 1_100
"""The list of so many is a long answer, which is kept."""


def long_answers_are_kept_for_a_while(session: MetricSession) -> None:
    with session.client() as client:
        requests = [session.new_put(b"") for _ in range(CONTRACTS)]
        for at in range(0, CONTRACTS, 100):
            put_all(client, requests[at : at + 100])
            for _ in requests[at : at + 100]:
                client.answer()
        session.expect_stored_together(requests)
        client.asks("node_query", QueryNeighborHostingInfo())
        check_held(session, "report", 64 * KIB, MIB)
    session.check("simnode_held_bytes", 0, kind="report", **HANDLER)


def whoever_holds_what_is_not_current_is_closed_when_it_is_too_much(session: MetricSession) -> None:
    with session.client() as writer, session.client(receive_buffer_bytes=4096) as reader:
        request = session.new_put(bytes(LINGERING_BYTES))
        writer.asks("put", request)
        session.stored(request)
        for number in (1, 2):
            reader.send(get_of(request.contract.key))
            session.check("simnode_held_bytes", number * LINGERING_BYTES, 8 * MIB, kind="version", **HANDLER)
            newer = Put(
                contract=request.contract,
                state=type(request.state)(bytes([number]) * LINGERING_BYTES),
                related_contracts=(),
                subscribe=False,
                blocking_subscribe=False,
            )
            if number == 2:
                reader.has_ended = True
                session.expect("simnode_connections_closed_total", reason="too_slow")
            writer.asks("put", newer)
            session.expect_commits()
            if number == 1:
                check_held(session, "version", LINGERING_BYTES, 4 * MIB)
                session.check("simnode_lingering_bytes", LINGERING_BYTES, 4 * MIB)
        session.expect("simnode_requests_total", 2, kind="get", encoding="native", outcome="ok")
        session.expect_between("simnode_request_duration_seconds_count", 1, 2, kind="get", encoding="native")
        session.check("simnode_connections_closed_total", 1, reason="too_slow")
    session.check("simnode_lingering_bytes", 0)
    session.check("simnode_held_bytes", 0, kind="version", **HANDLER)


SCRIPTS: tuple[Callable[[MetricSession], None], ...] = (
    unfinished_messages_are_held,
    requests_that_wait_for_the_store_are_held,
    answers_that_are_not_read_are_held,
    long_answers_are_kept_for_a_while,
    whoever_holds_what_is_not_current_is_closed_when_it_is_too_much,
)
