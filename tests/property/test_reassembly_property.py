"""However messages are cut, mixed and reordered, what comes out is what went in."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from simnode.protocol.blob import Blob
from simnode.protocol.errors import ReassemblyError, ReassemblyErrorKind
from simnode.protocol.limits import CHUNK_SIZE, MAX_ABORTED_STREAMS_REMEMBERED, MAX_CONCURRENT_STREAMS, Limits
from simnode.protocol.messages.requests import StreamChunk
from simnode.protocol.reassembly import Completed, HeapSink, NeedsSink, ReassemblyBuffer, SinkRefused


class CountedSink(HeapSink):
    """A sink of which one must know how it ended."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes)
        self.nbytes = nbytes
        self.endings = 0

    def write(self, offset, data):
        assert self.endings == 0
        assert 0 <= offset <= offset + len(data) <= self.nbytes
        super().write(offset, data)

    def finish(self, nbytes):
        self.endings += 1
        return super().finish(nbytes)

    def discard(self):
        self.endings += 1
        super().discard()


def stream_of(stream_id: int, pieces: list[bytes]) -> list[StreamChunk]:
    return [
        StreamChunk(stream_id=stream_id, index=index, total=len(pieces), data=Blob(piece))
        for index, piece in enumerate(pieces)
    ]


pieces = st.lists(st.binary(max_size=9), min_size=1, max_size=6)


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[dict[int, bytes], list[StreamChunk]]:
    """Up to eight messages, by stream id, and their chunks in any order and any mixture."""
    ids = st.integers(0, 2**32 - 1)
    streams = draw(st.dictionaries(ids, pieces, min_size=1, max_size=MAX_CONCURRENT_STREAMS))
    chunks = [chunk for stream_id, parts in streams.items() for chunk in stream_of(stream_id, parts)]
    messages = {stream_id: b"".join(parts) for stream_id, parts in streams.items()}
    return messages, draw(st.permutations(chunks))


@given(arrivals(), st.booleans())
def test_up_to_eight_streams_come_back_however_they_are_cut_and_mixed(arrival, is_announced):
    messages, chunks = arrival
    buffer = ReassemblyBuffer(Limits())
    sinks = []
    whole = {}
    for chunk in chunks:
        expected = len(messages[chunk.stream_id]) if is_announced else None
        progress = buffer.receive_chunk(chunk, 0.0, expected_nbytes=expected)
        while isinstance(progress, NeedsSink):
            sinks.append(CountedSink(progress.nbytes))
            progress = buffer.provide_sink(chunk.stream_id, sinks[-1], 0.0)
        buffer.check_invariants()
        if isinstance(progress, Completed):
            whole[chunk.stream_id] = bytes(progress.message)
    assert whole == messages
    assert len(buffer) == buffer.reserved_bytes == buffer.backlog_bytes == buffer.backlog_chunks == 0
    assert all(sink.endings == 1 for sink in sinks)


SURVIVED = {
    ReassemblyErrorKind.INDEX_OUT_OF_RANGE,
    ReassemblyErrorKind.TOO_MANY_STREAMS,
    ReassemblyErrorKind.DUPLICATE_INDEX,
}


class ReassemblyMachine(RuleBasedStateMachine):
    """Any peer, any clock and any shell against a plain model of streams and silent ids."""

    LIMITS = Limits(max_chunk_data_bytes=8, max_connection_bytes=20 * CHUNK_SIZE, stream_ttl_s=10.0)

    def __init__(self) -> None:
        super().__init__()
        self.buffer = ReassemblyBuffer(self.LIMITS)
        self.now = 0.0
        self.sinks: list[CountedSink] = []
        #: by id of an incomplete stream: its total, its chunks by index, the time of the last
        self.streams: dict[int, tuple[int, dict[int, bytes], float]] = {}
        #: by id of a killed stream: until when it is silent
        self.silent: dict[int, float] = {}

    def kill(self, stream_id: int) -> None:
        self.streams.pop(stream_id, None)
        self.silent.pop(stream_id, None)
        self.silent[stream_id] = self.now + 10.0
        if len(self.silent) > MAX_ABORTED_STREAMS_REMEMBERED:
            del self.silent[next(iter(self.silent))]

    def try_to_receive(
        self, chunk: StreamChunk, is_granted: bool
    ) -> tuple[Completed | NeedsSink | None, ReassemblyError | None]:
        try:
            progress = self.buffer.receive_chunk(chunk, self.now)
            while isinstance(progress, NeedsSink):
                answer: CountedSink | SinkRefused = SinkRefused("no room")
                if is_granted:
                    answer = CountedSink(progress.nbytes)
                    self.sinks.append(answer)
                progress = self.buffer.provide_sink(chunk.stream_id, answer, self.now)
        except ReassemblyError as error:
            return None, error
        return progress, None

    def refusal_of(self, chunk: StreamChunk, is_granted: bool) -> ReassemblyErrorKind | None:
        """The rules once more, in the order of the reference and then ours."""
        if chunk.total == 0:
            return ReassemblyErrorKind.ZERO_TOTAL
        if chunk.total > 256:
            return ReassemblyErrorKind.TOTAL_TOO_LARGE
        if chunk.index >= chunk.total:
            return ReassemblyErrorKind.INDEX_OUT_OF_RANGE
        total, parts, _ = self.streams.get(chunk.stream_id, (chunk.total, {}, 0.0))
        if not parts and len(self.streams) == 8:
            return ReassemblyErrorKind.TOO_MANY_STREAMS
        if total != chunk.total:
            return ReassemblyErrorKind.TOTAL_MISMATCH
        if chunk.index in parts:
            return ReassemblyErrorKind.DUPLICATE_INDEX
        if len(chunk.data) > 8:
            return ReassemblyErrorKind.CHUNK_TOO_LARGE
        is_out_of_room = not parts and sum(total for total, _, _ in self.streams.values()) + total > 20
        arrived = [*parts, chunk.index]
        wants_sink = not parts or (len(arrived) == total and arrived != sorted(arrived))
        if is_out_of_room or (wants_sink and not is_granted):
            return ReassemblyErrorKind.OUT_OF_BUDGET
        return None

    @rule(
        stream_id=st.integers(0, 9),
        index=st.integers(0, 3),
        total=st.sampled_from([0, 1, 2, 2, 3, 3, 3, 257]),
        data=st.binary(max_size=8) | st.just(b"too large"),
        is_granted=st.sampled_from([True, True, True, False]),
    )
    def receive(self, stream_id, index, total, data, is_granted):
        chunk = StreamChunk(stream_id=stream_id, index=index, total=total, data=Blob(data))
        before = self.streams.get(stream_id)
        is_silent = self.now < self.silent.get(stream_id, 0.0)
        progress, error = self.try_to_receive(chunk, is_granted)
        if is_silent:
            assert progress is error is None
            return
        refusal = self.refusal_of(chunk, is_granted)
        assert (None if error is None else error.kind) == refusal
        if error is not None:
            assert error.stream_id == stream_id
            assert error.kills_stream == (refusal not in SURVIVED)
            if error.kills_stream:
                self.kill(stream_id)
            return
        self.silent.pop(stream_id, None)
        parts = {**before[1], index: data} if before else {index: data}
        if len(parts) < total:
            assert progress is None
            self.streams[stream_id] = (total, parts, self.now)
        else:
            assert isinstance(progress, Completed)
            assert bytes(progress.message) == b"".join(parts[index] for index in range(total))
            self.streams.pop(stream_id, None)

    @rule(seconds=st.floats(0.0, 6.0))
    def let_time_pass(self, seconds):
        self.now += seconds
        deadline = self.buffer.next_deadline()
        late = {stream_id for stream_id, (_, _, last) in self.streams.items() if last + 10.0 <= self.now}
        assert (deadline is not None and deadline <= self.now) == bool(late)
        assert {error.stream_id for error in self.buffer.expire(self.now)} == late
        for stream_id in sorted(late, key=list(self.streams).index):
            self.kill(stream_id)

    @rule(stream_id=st.integers(0, 9))
    def abort(self, stream_id):
        error = self.buffer.abort(stream_id, "room is needed", self.now)
        assert (error is not None) == (stream_id in self.streams)
        if error is not None:
            self.kill(stream_id)

    @invariant()
    def the_buffer_has_what_the_model_has(self):
        self.buffer.check_invariants()
        assert len(self.buffer) == len(self.streams)
        assert all(stream_id in self.buffer for stream_id in self.streams)
        assert self.buffer.backlog_chunks == sum(len(parts) for _, parts, _ in self.streams.values())
        assert self.buffer.reserved_bytes <= self.LIMITS.max_connection_bytes
        assert sum(sink.endings == 0 for sink in self.sinks) == len(self.streams)
        assert all(sink.endings <= 1 for sink in self.sinks)

    def teardown(self):
        self.buffer.discard_all()
        self.buffer.check_invariants()
        assert all(sink.endings == 1 for sink in self.sinks)


TestReassemblyMachine = ReassemblyMachine.TestCase
TestReassemblyMachine.settings = settings(max_examples=40, stateful_step_count=40)
