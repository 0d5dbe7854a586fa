"""What a handler counts. Enters: its slab. Leaves: one call for each thing that happens. Next: `handler.py`."""

from __future__ import annotations

from typing import Final

from simnode.metrics.cells import Counter, Histogram
from simnode.metrics.slab import StatsSlab
from simnode.node.ledger import Kind
from simnode.protocol.codec.base import Encoding
from simnode.protocol.messages.requests import (
    ApplicationMessages,
    Authenticate,
    ClientRequest,
    Close,
    Disconnect,
    Get,
    Put,
    RegisterDelegate,
    Subscribe,
    UnregisterDelegate,
    Update,
)

ReplyTimer = tuple[Histogram, float]
"""A reply on its way: what its duration is counted in, and when its request's last byte came, in seconds.

A tuple, because every reply has one, and a tuple costs a fifth of an object.
"""

_KINDS: Final[dict[type, str]] = {
    Put: "put",
    Get: "get",
    Update: "update",
    Subscribe: "subscribe",
    ApplicationMessages: "delegate",
    RegisterDelegate: "delegate",
    UnregisterDelegate: "delegate",
    Authenticate: "authenticate",
    Disconnect: "disconnect",
    Close: "close",
}


def kind_of(request: ClientRequest) -> str:
    """The request's value of the label `kind`."""
    return _KINDS.get(type(request), "node_query")


class HandlerStats:
    """The handler's cells, found once."""

    def __init__(self, slab: StatsSlab) -> None:
        self.requests = slab.counters("simnode_requests_total")
        self.durations = slab.histograms("simnode_request_duration_seconds")
        self.streams = slab.counters("simnode_streams_total")
        self.reassembly_errors = slab.counters("simnode_reassembly_errors_total")
        self.refused = slab.counters("simnode_connections_refused_total")
        self.closed = slab.counters("simnode_connections_closed_total")
        self.open = slab.gauge("simnode_connections_open")
        self.opened = slab.counter("simnode_connections_opened_total")
        self.notifications_sent = slab.counter("simnode_notifications_total", outcome="sent")
        self.notifications_coalesced = slab.counter("simnode_notifications_total", outcome="coalesced")
        self.notifications_encoded = slab.counters("simnode_notifications_encoded_total")
        self.chunks_in = slab.counter("simnode_chunks_total", direction="inbound")
        self.chunks_out = slab.counter("simnode_chunks_total", direction="outbound")
        self.messages_in = slab.counter("simnode_messages_total", direction="inbound")
        self.messages_out = slab.counter("simnode_messages_total", direction="outbound")
        self.bytes_in = slab.counter("simnode_payload_bytes_total", direction="inbound")
        self.bytes_out = slab.counter("simnode_payload_bytes_total", direction="outbound")
        self.backlog_chunks_in = slab.peak("simnode_backlog_chunks", direction="inbound")
        self.backlog_chunks_out = slab.peak("simnode_backlog_chunks", direction="outbound")
        self.backlog_bytes_in = slab.peak("simnode_backlog_bytes", direction="inbound")
        self.backlog_bytes_out = slab.peak("simnode_backlog_bytes", direction="outbound")
        self.held = {kind: slab.peak("simnode_held_bytes", kind=kind.value) for kind in Kind}
        self.materialized = slab.peak("simnode_outbound_materialized_bytes")

        self._of_encoding = {encoding: EncodingStats(self, encoding) for encoding in Encoding}

    def held_changed(self, kind: Kind, change: int, now_s: float) -> None:
        """The ledger's entries of a kind have changed by so many bytes."""
        self.held[kind].add(change, now_s)

    def of(self, encoding: Encoding) -> EncodingStats:
        """The requests in one encoding."""
        return self._of_encoding[encoding]


class EncodingStats:
    """The requests in one encoding.

    Args:
        stats: of the process.
        encoding: of the connections that count here.
    """

    def __init__(self, stats: HandlerStats, encoding: Encoding) -> None:
        self._stats = stats
        self._encoding = encoding.value
        #: by the request's class and the outcome: looked up once for each request, so by nothing dearer to hash
        self._cells: dict[tuple[type, str], tuple[Counter, Histogram]] = {}

    def answered(self, request: ClientRequest, outcome: str, received_at: float) -> ReplyTimer:
        """The answer to a request whose last byte came at `received_at` is made; it is still to be sent."""
        cells = self._cells.get((type(request), outcome))
        if cells is None:
            kind = kind_of(request)
            cells = (self._stats.requests[kind, self._encoding, outcome], self._stats.durations[kind, self._encoding])
            self._cells[type(request), outcome] = cells
        counter, duration = cells
        counter.inc()
        return duration, received_at

    def unanswered(self, request: ClientRequest, outcome: str, received_at: float, now_s: float) -> None:
        """A request that gets no answer was carried out."""
        duration, _ = self.answered(request, outcome, received_at)
        duration.observe(now_s - received_at)


class Backlog:
    """One connection's part of its process's backlog, so that the sums stay exact.

    Args:
        stats: of the process.
    """

    __slots__ = ("_bytes_in", "_chunks_out", "_held", "_stats", "bytes_out", "chunks_in")

    def __init__(self, stats: HandlerStats) -> None:
        self._stats = stats
        #: as noted last; the bytes change only when this does
        self.chunks_in = 0
        self._bytes_in = 0
        #: as noted last; the others are 0 when this is
        self.bytes_out = 0
        self._chunks_out = self._held = 0

    def note_inbound(self, chunks: int, nbytes: int, now_s: float) -> None:
        """Chunks and bytes of incomplete streams, now."""
        self._stats.backlog_chunks_in.add(chunks - self.chunks_in, now_s)
        self._stats.backlog_bytes_in.add(nbytes - self._bytes_in, now_s)
        self.chunks_in, self._bytes_in = chunks, nbytes

    def note_outbound(self, chunks: int, nbytes: int, held: int, now_s: float) -> None:
        """Chunks and bytes due and not written, and bytes held in the heap for them, now."""
        if nbytes != self.bytes_out:
            self._stats.backlog_bytes_out.add(nbytes - self.bytes_out, now_s)
            self.bytes_out = nbytes
        if chunks != self._chunks_out:
            self._stats.backlog_chunks_out.add(chunks - self._chunks_out, now_s)
            self._chunks_out = chunks
        if held != self._held:
            self._stats.materialized.add(held - self._held, now_s)
            self._held = held

    def clear(self, now_s: float) -> None:
        """The connection is gone."""
        self.note_inbound(0, 0, now_s)
        self.note_outbound(0, 0, 0, now_s)
