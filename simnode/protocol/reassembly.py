"""StreamChunks back into messages. Enters: chunks, sinks and the time. Leaves: whole messages. Next: `connection.py`.

The bytes go where a `Sink` puts them (the heap, a leased segment, nowhere), in order of arrival.
When that is index order, as it always is for a conforming client, the message is contiguous and
nothing is copied again; when it is not, a second sink is asked for and one pass puts it in order.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from simnode.protocol.blob import Blob, Buffer
from simnode.protocol.errors import LocalProtocolError, ReassemblyError, ReassemblyErrorKind, SinkFailed
from simnode.protocol.limits import (
    CHUNK_SIZE,
    MAX_ABORTED_STREAMS_REMEMBERED,
    MAX_TOTAL_CHUNKS,
    Limits,
)
from simnode.protocol.messages.requests import StreamChunk
from simnode.protocol.record import record


class Sink(Protocol):
    """Room for one message."""

    def write(self, offset: int, data: Buffer) -> None:
        """Puts `data` at `offset` bytes; never outside the room that was asked for.

        Raises:
            SinkFailed: the machine does not take it; the sink is only to be discarded.
        """

    def read(self, start: int, stop: int) -> Buffer:
        """What was written there; valid until the next call."""

    def finish(self, nbytes: int) -> Blob:
        """The first `nbytes` as a Blob. The sink takes no more writes."""

    def discard(self) -> None:
        """Gives the room back; the message will not be finished."""


@record(kw_only=False)
class SinkRefused:
    """No room for the stream; `reason` is fit to be sent to the peer."""

    reason: str


class HeapSink:
    """A sink in the heap: for clients and tests."""

    __slots__ = ("_room",)

    def __init__(self, nbytes: int) -> None:
        self._room = bytearray(nbytes)

    def write(self, offset: int, data: Buffer) -> None:
        self._room[offset : offset + len(data)] = data

    def read(self, start: int, stop: int) -> Buffer:
        return memoryview(self._room)[start:stop]

    def finish(self, nbytes: int) -> Blob:
        return Blob(memoryview(self._room)[:nbytes])

    def discard(self) -> None:
        self._room = bytearray()


@dataclass(slots=True)
class _Stream:
    total: int
    reserved: int
    opened_at: float
    last_chunk_at: float
    sink: Sink | None = None
    #: by index: where the chunk's bytes lie in the sink; None until it arrives
    spans: list[tuple[int, int] | None] = field(default_factory=list)
    nbytes: int = 0
    received: int = 0
    in_order: bool = True
    #: the chunk that waits for the sink
    waiting: StreamChunk | None = None


@record(kw_only=False)
class Completed:
    """A stream whose last chunk arrived."""

    message: Blob


@record(kw_only=False)
class NeedsSink:
    """A stream that cannot go on until `provide_sink` was called with room for `nbytes`."""

    nbytes: int


class ReassemblyBuffer:
    """The incomplete streams of one connection, in one direction.

    Args:
        limits: how many streams, how large, how long.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._streams: dict[int, _Stream] = {}
        #: ids of killed streams with the time until which their chunks are dropped; oldest first
        self._aborted: OrderedDict[int, float] = OrderedDict()
        #: always the sum of `reserved` over the incomplete streams
        self.reserved_bytes = 0
        #: chunks and payload bytes that arrived and belong to no whole message yet
        self.backlog_chunks = 0
        self.backlog_bytes = 0

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, stream_id: object) -> bool:
        return stream_id in self._streams

    def receive_chunk(
        self, chunk: StreamChunk, now: float, *, expected_nbytes: int | None = None
    ) -> Completed | NeedsSink | None:
        """Takes one chunk in.

        Args:
            chunk: its data is copied to the sink, or kept until the sink is provided.
            now: seconds on the caller's monotonic clock.
            expected_nbytes: the whole message's length when a StreamHeader announced it.

        Returns:
            `Completed` when it was the last missing one, `NeedsSink` when room is needed first.

        Raises:
            ReassemblyError: the chunk does not fit (the peer's fault). Checked in the reference's
                order: zero total, too large a total, index, ninth stream, other total, duplicate;
                then our own limits on bytes. Or its sink failed, and the stream is gone.
        """
        stream_id, total, index = chunk.stream_id, chunk.total, chunk.index
        if self._aborted and self._is_aborted(stream_id, now):
            return None
        if total == 0:
            raise self._refuse(ReassemblyErrorKind.ZERO_TOTAL, "total_chunks is zero", chunk, now)
        if total > MAX_TOTAL_CHUNKS:
            text = f"total_chunks {total} exceeds maximum {MAX_TOTAL_CHUNKS}"
            raise self._refuse(ReassemblyErrorKind.TOTAL_TOO_LARGE, text, chunk, now)
        if index >= total:
            text = f"chunk index {index} out of range for stream {stream_id} (total {total})"
            raise self._refuse(ReassemblyErrorKind.INDEX_OUT_OF_RANGE, text, chunk, now)
        stream = self._streams.get(stream_id)
        if stream is None:
            return self._open(chunk, now, expected_nbytes)
        if stream.total != total:
            text = f"total_chunks mismatch for stream {stream_id} (expected {stream.total}, got {total})"
            raise self._refuse(ReassemblyErrorKind.TOTAL_MISMATCH, text, chunk, now)
        if stream.sink is None:
            raise LocalProtocolError(f"stream {stream_id} got a chunk while its sink is still asked for")
        if stream.spans[index] is not None:
            text = f"duplicate chunk index {index} for stream {stream_id}"
            raise self._refuse(ReassemblyErrorKind.DUPLICATE_INDEX, text, chunk, now)
        return self._append(stream, stream.sink, chunk, now)

    def provide_sink(self, stream_id: int, sink: Sink | SinkRefused, now: float) -> Completed | NeedsSink | None:
        """Goes on with a stream that needed a sink.

        A sink for a stream that ended while the sink was looked for is discarded at once.

        Returns:
            As `receive_chunk`.

        Raises:
            ReassemblyError: there was no room, or it failed; the stream is gone.
            LocalProtocolError: the stream asked for no sink (the caller's fault).
        """
        stream = self._streams.get(stream_id)
        if stream is None and stream_id in self._aborted:
            # it expired, or was aborted, while the shell was looking for room
            if not isinstance(sink, SinkRefused):
                sink.discard()
            return None
        if stream is None or (stream.waiting is None and stream.received < stream.total):
            raise LocalProtocolError(f"stream {stream_id} asked for no sink")
        if isinstance(sink, SinkRefused):
            self._kill(stream_id, now)
            raise ReassemblyError(
                ReassemblyErrorKind.OUT_OF_BUDGET, sink.reason, stream_id=stream_id, kills_stream=True
            )
        if stream.waiting is None:
            return self._compact(stream_id, stream, sink, now)
        chunk, stream.waiting, stream.sink = stream.waiting, None, sink
        return self._append(stream, sink, chunk, now)

    def next_deadline(self) -> float | None:
        """When the next stream expires, in seconds on the caller's clock."""
        if not self._streams:
            return None
        return min(stream.last_chunk_at for stream in self._streams.values()) + self._limits.stream_ttl_s

    def expire(self, now: float) -> list[ReassemblyError]:
        """Ends the streams whose last chunk is too long ago, an error for each."""
        ttl = self._limits.stream_ttl_s
        late = [stream_id for stream_id, stream in self._streams.items() if stream.last_chunk_at + ttl <= now]
        errors = []
        for stream_id in late:
            stream = self._streams[stream_id]
            text = f"stream {stream_id} expired: {stream.received} of {stream.total} chunks, none for {ttl:g} s"
            self._kill(stream_id, now)
            errors.append(ReassemblyError(ReassemblyErrorKind.EXPIRED, text, stream_id=stream_id, kills_stream=True))
        return errors

    def abort(self, stream_id: int, reason: str, now: float) -> ReassemblyError | None:
        """Ends a stream whose room is needed elsewhere; its late chunks are dropped silently.

        Returns:
            What the peer is to be told, or None when there is no such stream (any more).
        """
        if stream_id not in self._streams:
            return None
        self._kill(stream_id, now)
        return ReassemblyError(ReassemblyErrorKind.OUT_OF_BUDGET, reason, stream_id=stream_id, kills_stream=True)

    def bytes_of(self, stream_id: int) -> int:
        """Payload bytes of an incomplete stream that have come."""
        return self._streams[stream_id].nbytes

    def discard_all(self) -> None:
        """Gives back every sink: the connection is gone."""
        for stream_id in list(self._streams):
            self._drop(stream_id)

    def check_invariants(self) -> None:
        """Asserts what the attributes promise; for tests."""
        streams = self._streams.values()
        assert self.reserved_bytes == sum(stream.reserved for stream in streams)
        assert self.backlog_bytes == sum(stream.nbytes for stream in streams)
        assert self.backlog_chunks == sum(stream.received for stream in streams)
        assert len(streams) <= self._limits.max_concurrent_streams
        for stream in streams:
            assert stream.received == sum(span is not None for span in stream.spans)
        assert len(self._aborted) <= MAX_ABORTED_STREAMS_REMEMBERED

    # ---- inside ------------------------------------------------------------------------------

    def _open(self, chunk: StreamChunk, now: float, expected_nbytes: int | None) -> NeedsSink:
        limits = self._limits
        if len(self._streams) >= limits.max_concurrent_streams:
            text = f"too many concurrent streams ({len(self._streams)}), maximum is {limits.max_concurrent_streams}"
            raise self._refuse(ReassemblyErrorKind.TOO_MANY_STREAMS, text, chunk, now)
        self._check_chunk_size(chunk, now)
        if expected_nbytes is None:
            # `total` counts chunks, not bytes: a conforming peer's chunks are all as large as its first
            reserved = min(chunk.total * max(CHUNK_SIZE, len(chunk.data)), limits.max_message_bytes)
        elif expected_nbytes > limits.max_message_bytes:
            text = f"stream {chunk.stream_id} announces {expected_nbytes} bytes, maximum is {limits.max_message_bytes}"
            raise self._refuse(ReassemblyErrorKind.STREAM_TOO_LARGE, text, chunk, now)
        else:
            # a header may promise more than its chunks can hold, to make us reserve it
            reserved = min(expected_nbytes, chunk.total * limits.max_chunk_data_bytes)
        if self.reserved_bytes + reserved > limits.max_connection_bytes:
            text = (
                f"stream {chunk.stream_id} needs {reserved} bytes, "
                f"{limits.max_connection_bytes - self.reserved_bytes} are left for this connection"
            )
            raise self._refuse(ReassemblyErrorKind.OUT_OF_BUDGET, text, chunk, now)
        self._streams[chunk.stream_id] = _Stream(
            total=chunk.total,
            reserved=reserved,
            opened_at=now,
            last_chunk_at=now,
            spans=[None] * chunk.total,
            waiting=chunk,
        )
        self.reserved_bytes += reserved
        return NeedsSink(reserved)

    def _append(self, stream: _Stream, sink: Sink, chunk: StreamChunk, now: float) -> Completed | NeedsSink | None:
        self._check_chunk_size(chunk, now)
        nbytes = len(chunk.data)
        start, stop = stream.nbytes, stream.nbytes + nbytes
        if stop > stream.reserved:
            text = (
                f"stream {chunk.stream_id} exceeds the {stream.reserved} bytes reserved for its {stream.total} chunks"
            )
            raise self._refuse(ReassemblyErrorKind.STREAM_TOO_LARGE, text, chunk, now)
        try:
            sink.write(start, chunk.data.view)
        except SinkFailed as failure:
            raise self._refuse(ReassemblyErrorKind.SINK_FAILED, str(failure), chunk, now) from failure
        stream.spans[chunk.index] = (start, stop)
        stream.in_order = stream.in_order and chunk.index == stream.received
        stream.nbytes = stop
        stream.received += 1
        stream.last_chunk_at = now
        self.backlog_chunks += 1
        self.backlog_bytes += nbytes
        if stream.received < stream.total:
            return None
        if not stream.in_order:
            return NeedsSink(stream.nbytes)
        self._remove(chunk.stream_id)
        return Completed(sink.finish(stream.nbytes))

    def _compact(self, stream_id: int, stream: _Stream, target: Sink, now: float) -> Completed:
        assert stream.sink is not None
        at = 0
        try:
            for span in stream.spans:
                assert span is not None
                target.write(at, stream.sink.read(*span))
                at += span[1] - span[0]
        except SinkFailed as failure:
            target.discard()
            self._kill(stream_id, now)
            raise ReassemblyError(
                ReassemblyErrorKind.SINK_FAILED, str(failure), stream_id=stream_id, kills_stream=True
            ) from failure
        self._drop(stream_id)
        return Completed(target.finish(at))

    def _check_chunk_size(self, chunk: StreamChunk, now: float) -> None:
        limit = self._limits.max_chunk_data_bytes
        if len(chunk.data) > limit:
            text = f"chunk of {len(chunk.data)} bytes exceeds maximum {limit} for stream {chunk.stream_id}"
            raise self._refuse(ReassemblyErrorKind.CHUNK_TOO_LARGE, text, chunk, now)

    #: these leave the stream as it was, so that its remaining chunks still complete it
    _SURVIVED = frozenset(
        {
            ReassemblyErrorKind.INDEX_OUT_OF_RANGE,
            ReassemblyErrorKind.TOO_MANY_STREAMS,
            ReassemblyErrorKind.DUPLICATE_INDEX,
        }
    )

    def _refuse(self, kind: ReassemblyErrorKind, text: str, chunk: StreamChunk, now: float) -> ReassemblyError:
        kills = kind not in self._SURVIVED
        if kills:
            self._kill(chunk.stream_id, now)
        return ReassemblyError(kind, text, stream_id=chunk.stream_id, kills_stream=kills)

    def _kill(self, stream_id: int, now: float) -> None:
        self._drop(stream_id)
        self._aborted[stream_id] = now + self._limits.stream_ttl_s
        self._aborted.move_to_end(stream_id)
        while len(self._aborted) > MAX_ABORTED_STREAMS_REMEMBERED:
            self._aborted.popitem(last=False)

    def _is_aborted(self, stream_id: int, now: float) -> bool:
        until = self._aborted.get(stream_id)
        if until is None:
            return False
        if now < until:
            return True
        del self._aborted[stream_id]
        return False

    def _drop(self, stream_id: int) -> None:
        stream = self._remove(stream_id)
        if stream is not None and stream.sink is not None:
            stream.sink.discard()

    def _remove(self, stream_id: int) -> _Stream | None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self.reserved_bytes -= stream.reserved
            self.backlog_chunks -= stream.received
            self.backlog_bytes -= stream.nbytes
        return stream
