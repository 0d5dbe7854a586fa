import pytest

from simnode.protocol.blob import Blob
from simnode.protocol.errors import LocalProtocolError, ReassemblyError, ReassemblyErrorKind, SinkFailed
from simnode.protocol.limits import (
    CHUNK_SIZE,
    MAX_ABORTED_STREAMS_REMEMBERED,
    MAX_CHUNK_DATA_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_MESSAGE_SIZE,
    MAX_TOTAL_CHUNKS,
    MIB,
    STREAM_TTL_S,
    Limits,
)
from simnode.protocol.messages.requests import StreamChunk
from simnode.protocol.reassembly import Completed, HeapSink, NeedsSink, ReassemblyBuffer, SinkRefused
from tests.support.vectors import load_json

VECTORS = load_json("behaviour.json")["reassembly"]


class RecordingSink(HeapSink):
    """A sink that remembers what became of it."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes)
        self.nbytes = nbytes
        self.writes: list[tuple[int, bytes]] = []
        self.is_finished = False
        self.is_discarded = False

    def write(self, offset, data):
        assert offset + len(data) <= self.nbytes, "a sink is never written outside its room"
        self.writes.append((offset, bytes(data)))
        super().write(offset, data)

    def finish(self, nbytes):
        self.is_finished = True
        return super().finish(nbytes)

    def discard(self):
        self.is_discarded = True
        super().discard()


class Receiver:
    """A buffer whose wishes for sinks are granted at once, and whose invariants hold after every step."""

    def __init__(self, **limits: float) -> None:
        self.buffer = ReassemblyBuffer(Limits(**limits))
        self.sinks: list[RecordingSink] = []

    def receive(self, stream_id, index, total, data=b"", *, now=0.0, expected_nbytes=None):
        chunk = StreamChunk(stream_id=stream_id, index=index, total=total, data=Blob(data))
        try:
            progress = self.buffer.receive_chunk(chunk, now, expected_nbytes=expected_nbytes)
            while isinstance(progress, NeedsSink):
                self.buffer.check_invariants()
                self.sinks.append(RecordingSink(progress.nbytes))
                progress = self.buffer.provide_sink(stream_id, self.sinks[-1], now)
        finally:
            self.buffer.check_invariants()
        return None if progress is None else bytes(progress.message)

    def refusal(self, *args, **kwargs) -> ReassemblyError:
        with pytest.raises(ReassemblyError) as refused:
            self.receive(*args, **kwargs)
        assert refused.value.stream_id == args[0]
        return refused.value


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.buffer.discard_all()
    receiver.buffer.check_invariants()
    assert receiver.buffer.reserved_bytes == receiver.buffer.backlog_bytes == receiver.buffer.backlog_chunks == 0
    assert all(sink.is_finished != sink.is_discarded for sink in receiver.sinks), "each sink ends in exactly one way"


# ---- what the reference does -------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_a_golden_sequence_ends_as_the_reference_ends_it(receiver, vector):
    *before, (stream_id, index, total, data) = vector["chunks"]
    for chunk in before:
        receiver.receive(*chunk[:3], bytes.fromhex(chunk[3]))
    match vector["last"]:
        case {"error": text}:
            assert str(receiver.refusal(stream_id, index, total, bytes.fromhex(data))) == text
        case {"complete": message}:
            assert receiver.receive(stream_id, index, total, bytes.fromhex(data)) == bytes.fromhex(message)
        case "incomplete":
            assert receiver.receive(stream_id, index, total, bytes.fromhex(data)) is None


@pytest.mark.parametrize("index", [0, 9])
def test_a_zero_total_is_found_before_a_wrong_index(receiver, index):
    assert receiver.refusal(1, index, 0).kind is ReassemblyErrorKind.ZERO_TOTAL


def test_too_large_a_total_is_found_before_a_wrong_index(receiver):
    assert receiver.refusal(1, 300, 257).kind is ReassemblyErrorKind.TOTAL_TOO_LARGE


def test_a_wrong_index_is_found_before_a_ninth_stream(receiver):
    open_streams(receiver, MAX_CONCURRENT_STREAMS)
    assert receiver.refusal(99, 2, 2).kind is ReassemblyErrorKind.INDEX_OUT_OF_RANGE


def test_a_wrong_index_is_found_before_another_total(receiver):
    receiver.receive(1, 0, 2)
    assert receiver.refusal(1, 3, 3).kind is ReassemblyErrorKind.INDEX_OUT_OF_RANGE


def test_another_total_is_found_before_a_duplicate(receiver):
    receiver.receive(1, 0, 2)
    assert receiver.refusal(1, 0, 3).kind is ReassemblyErrorKind.TOTAL_MISMATCH


def test_a_duplicate_is_found_before_too_large_a_chunk(receiver):
    receiver.receive(1, 0, 2)
    assert receiver.refusal(1, 0, 2, bytes(MAX_CHUNK_DATA_SIZE + 1)).kind is ReassemblyErrorKind.DUPLICATE_INDEX


def test_a_ninth_stream_is_found_before_too_large_a_chunk(receiver):
    open_streams(receiver, MAX_CONCURRENT_STREAMS)
    assert receiver.refusal(99, 0, 2, bytes(MAX_CHUNK_DATA_SIZE + 1)).kind is ReassemblyErrorKind.TOO_MANY_STREAMS


# ---- what a stream survives, and what it does not ----------------------------------------------


def test_a_duplicate_chunk_is_refused_and_the_stream_survives(receiver):
    receiver.receive(1, 0, 2, b"first")
    error = receiver.refusal(1, 0, 2, b"again")
    assert not error.kills_stream
    assert receiver.receive(1, 1, 2, b"second") == b"firstsecond"


def test_an_index_out_of_range_is_refused_and_the_stream_survives(receiver):
    receiver.receive(1, 0, 2, b"first")
    assert not receiver.refusal(1, 2, 2, b"wrong").kills_stream
    assert receiver.receive(1, 1, 2, b"second") == b"firstsecond"


def test_a_ninth_stream_is_refused_and_may_come_again_when_there_is_room(receiver):
    open_streams(receiver, MAX_CONCURRENT_STREAMS)
    assert not receiver.refusal(8, 0, 2, b"ninth").kills_stream
    assert receiver.receive(3, 1, 2, b"b") == b"ab"
    assert receiver.receive(8, 0, 2, b"ni") is None
    assert receiver.receive(8, 1, 2, b"nth") == b"ninth"


def test_the_eight_streams_survive_a_ninth(receiver):
    open_streams(receiver, MAX_CONCURRENT_STREAMS)
    receiver.refusal(8, 0, 2)
    for stream_id in range(MAX_CONCURRENT_STREAMS):
        assert receiver.receive(stream_id, 1, 2, b"b") == b"ab"


@pytest.mark.parametrize(
    ("index", "total", "data"),
    [(1, 0, b""), (1, MAX_TOTAL_CHUNKS + 1, b""), (1, 3, b""), (1, 2, bytes(MAX_CHUNK_DATA_SIZE + 1))],
    ids=["zero total", "total too large", "other total", "chunk too large"],
)
def test_a_stream_is_killed_and_its_late_chunks_are_dropped_silently(receiver, index, total, data):
    receiver.receive(1, 0, 2, b"a")
    assert 1 in receiver.buffer
    assert receiver.refusal(1, index, total, data).kills_stream
    assert receiver.sinks[0].is_discarded
    assert 1 not in receiver.buffer
    assert receiver.buffer.reserved_bytes == 0
    assert receiver.receive(1, 1, 2, b"b") is None
    assert receiver.receive(1, 0, 0) is None
    assert len(receiver.buffer) == 0


@pytest.mark.parametrize(("total", "data"), [(0, b""), (257, b""), (2, bytes(MAX_CHUNK_DATA_SIZE + 1))])
def test_a_stream_that_never_opened_is_silenced_too(receiver, total, data):
    receiver.refusal(1, 0, total, data)
    assert receiver.receive(1, 1, 2, b"b") is None
    assert len(receiver.buffer) == 0


def test_a_killed_stream_is_silent_for_60_seconds_and_its_id_is_free_then(receiver):
    receiver.refusal(1, 0, 0, now=100.0)
    assert receiver.receive(1, 0, 1, b"late", now=159.9) is None
    assert receiver.receive(1, 0, 1, b"new", now=160.0) == b"new"
    assert receiver.receive(1, 0, 1, b"newer", now=160.0) == b"newer"


def test_late_chunks_do_not_prolong_the_silence(receiver):
    receiver.refusal(1, 0, 0, now=0.0)
    assert receiver.receive(1, 0, 2, now=59.0) is None
    assert receiver.receive(1, 0, 1, b"new", now=61.0) == b"new"


def test_of_64_killed_streams_the_oldest_is_forgotten(receiver):
    for stream_id in range(MAX_ABORTED_STREAMS_REMEMBERED):
        receiver.refusal(stream_id, 0, 0)
    assert receiver.receive(0, 0, 1, b"late") is None
    receiver.refusal(MAX_ABORTED_STREAMS_REMEMBERED, 0, 0)
    assert receiver.receive(0, 0, 1, b"forgotten") == b"forgotten"
    for stream_id in range(1, MAX_ABORTED_STREAMS_REMEMBERED + 1):
        assert receiver.receive(stream_id, 0, 1, b"late") is None


# ---- order -------------------------------------------------------------------------------------


def test_chunks_in_order_are_written_once_and_never_read_back(receiver):
    for index in range(4):
        message = receiver.receive(1, index, 4, bytes([index]) * (index + 1))
    assert message == b"\0\1\1\2\2\2\3\3\3\3"
    (sink,) = receiver.sinks
    assert [offset for offset, _ in sink.writes] == [0, 1, 3, 6]


def test_chunks_out_of_order_are_put_in_order_in_a_second_sink_of_the_right_size(receiver):
    receiver.receive(1, 2, 3, b"three")
    receiver.receive(1, 0, 3, b"one")
    assert receiver.receive(1, 1, 3, b"") == b"onethree"
    first, second = receiver.sinks
    assert first.is_discarded
    assert second.nbytes == 8
    assert second.is_finished


def test_a_stream_of_one_chunk_is_whole_as_soon_as_it_has_a_sink(receiver):
    assert receiver.receive(1, 0, 1, b"all") == b"all"


def test_an_empty_message_is_a_message(receiver):
    assert receiver.receive(1, 0, 1, b"") == b""


def test_streams_may_take_turns(receiver):
    receiver.receive(1, 0, 2, b"a1")
    receiver.receive(2, 1, 2, b"b2")
    assert receiver.receive(1, 1, 2, b"a2") == b"a1a2"
    assert receiver.receive(2, 0, 2, b"b1") == b"b1b2"


def test_stream_ids_may_be_the_whole_range_of_u32(receiver):
    receiver.receive(2**32 - 1, 0, 2, b"a")
    receiver.receive(0, 0, 2, b"c")
    assert receiver.receive(2**32 - 1, 1, 2, b"b") == b"ab"
    assert receiver.receive(0, 1, 2, b"d") == b"cd"


# ---- bytes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "first_nbytes", "reserved"),
    [
        (1, 0, CHUNK_SIZE),
        (3, 10, 3 * CHUNK_SIZE),
        (3, CHUNK_SIZE, 3 * CHUNK_SIZE),
        (3, CHUNK_SIZE + 1, 3 * (CHUNK_SIZE + 1)),
        (100, MIB, 100 * MIB),
        (101, MIB, MAX_MESSAGE_SIZE),
    ],
)
def test_a_stream_reserves_for_all_its_chunks_before_they_arrive(total, first_nbytes, reserved):
    buffer = ReassemblyBuffer(Limits())
    chunk = StreamChunk(stream_id=1, index=0, total=total, data=Blob(bytes(first_nbytes)))
    assert buffer.receive_chunk(chunk, 0.0) == NeedsSink(reserved)
    assert buffer.reserved_bytes == reserved
    buffer.check_invariants()


def test_an_announced_stream_reserves_what_was_announced(receiver):
    receiver.receive(1, 0, 2, b"abc", expected_nbytes=5)
    assert receiver.buffer.reserved_bytes == 5
    assert receiver.receive(1, 1, 2, b"de", expected_nbytes=5) == b"abcde"


def test_an_announced_stream_may_turn_out_shorter(receiver):
    assert receiver.receive(1, 0, 1, b"abc", expected_nbytes=5) == b"abc"


def test_an_announcement_reserves_no_more_than_its_chunks_can_hold(receiver):
    receiver.receive(1, 0, 2, b"abc", expected_nbytes=MAX_MESSAGE_SIZE)
    assert receiver.buffer.reserved_bytes == 2 * MAX_CHUNK_DATA_SIZE


def test_an_announcement_over_the_largest_message_is_refused(receiver):
    error = receiver.refusal(1, 0, 256, b"abc", expected_nbytes=MAX_MESSAGE_SIZE + 1)
    assert error.kind is ReassemblyErrorKind.STREAM_TOO_LARGE
    assert str(error) == "stream 1 announces 104857601 bytes, maximum is 104857600"
    assert receiver.receive(1, 1, 256) is None


@pytest.mark.parametrize("chunks", [[b"abcdef"], [b"abc", b"def"]], ids=["first chunk", "second chunk"])
def test_a_stream_that_outgrows_its_reservation_is_killed(receiver, chunks):
    *before, last = chunks
    for index, data in enumerate(before):
        receiver.receive(1, index, 3, data, expected_nbytes=5)
    error = receiver.refusal(1, len(before), 3, last, expected_nbytes=5)
    assert error.kind is ReassemblyErrorKind.STREAM_TOO_LARGE
    assert error.kills_stream
    assert str(error) == "stream 1 exceeds the 5 bytes reserved for its 3 chunks"
    assert receiver.sinks[0].is_discarded


def test_a_chunk_of_1_mib_is_the_largest(receiver):
    assert receiver.receive(1, 0, 1, bytes(MAX_CHUNK_DATA_SIZE)) == bytes(MAX_CHUNK_DATA_SIZE)
    error = receiver.refusal(2, 0, 1, bytes(MAX_CHUNK_DATA_SIZE + 1))
    assert error.kind is ReassemblyErrorKind.CHUNK_TOO_LARGE
    assert str(error) == "chunk of 1048577 bytes exceeds maximum 1048576 for stream 2"


def test_a_stream_beyond_the_connections_budget_is_killed_and_the_others_go_on():
    receiver = Receiver(max_connection_bytes=3 * CHUNK_SIZE)
    receiver.receive(1, 0, 2, b"a")
    error = receiver.refusal(2, 0, 2, b"b")
    assert error.kind is ReassemblyErrorKind.OUT_OF_BUDGET
    assert error.kills_stream
    assert str(error) == "stream 2 needs 524288 bytes, 262144 are left for this connection"
    assert receiver.receive(3, 0, 1, b"fits") == b"fits"
    assert receiver.receive(1, 1, 2, b"b") == b"ab"


def test_the_budget_is_used_to_its_last_byte():
    receiver = Receiver(max_connection_bytes=2 * CHUNK_SIZE)
    assert receiver.receive(1, 0, 2, b"a") is None
    assert receiver.buffer.reserved_bytes == 2 * CHUNK_SIZE


def test_the_backlog_counts_what_arrived_of_incomplete_streams(receiver):
    receiver.receive(1, 0, 3, b"abc")
    receiver.receive(2, 1, 2, b"de")
    assert (receiver.buffer.backlog_chunks, receiver.buffer.backlog_bytes) == (2, 5)
    receiver.receive(2, 0, 2, b"f")
    assert (receiver.buffer.backlog_chunks, receiver.buffer.backlog_bytes) == (1, 3)


# ---- time --------------------------------------------------------------------------------------


def test_without_streams_there_is_no_deadline(receiver):
    assert receiver.buffer.next_deadline() is None
    assert receiver.buffer.expire(1e9) == []


def test_a_stream_expires_60_seconds_after_its_last_chunk_not_after_its_first(receiver):
    """Slow uploads are legal."""
    receiver.receive(1, 0, 4, now=0.0)
    receiver.receive(1, 1, 4, now=50.0)
    assert receiver.buffer.next_deadline() == 50.0 + STREAM_TTL_S
    assert receiver.buffer.expire(109.9) == []
    (error,) = receiver.buffer.expire(110.0)
    receiver.buffer.check_invariants()
    assert error.kind is ReassemblyErrorKind.EXPIRED
    assert error.kills_stream
    assert str(error) == "stream 1 expired: 2 of 4 chunks, none for 60 s"
    assert receiver.sinks[0].is_discarded
    assert receiver.receive(1, 2, 4, now=111.0) is None


def test_a_refused_chunk_does_not_prolong_a_streams_life(receiver):
    receiver.receive(1, 0, 2, now=0.0)
    receiver.refusal(1, 0, 2, now=50.0)
    receiver.refusal(1, 2, 2, now=50.0)
    assert receiver.buffer.next_deadline() == STREAM_TTL_S


def test_only_the_streams_that_are_late_expire(receiver):
    for stream_id, now in ((1, 0.0), (2, 10.0), (3, 0.0)):
        receiver.receive(stream_id, 0, 2, b"a", now=now)
    assert receiver.buffer.next_deadline() == 60.0
    assert [error.stream_id for error in receiver.buffer.expire(60.0)] == [1, 3]
    assert receiver.buffer.next_deadline() == 70.0
    assert receiver.receive(2, 1, 2, b"b", now=69.0) == b"ab"


def test_expiring_at_the_deadline_always_ends_a_stream():
    """Otherwise a shell that wakes at the deadline would wake for ever."""
    for now in (0.1, 1 / 3, 1e6 + 0.7, 123456.789):
        receiver = Receiver(stream_ttl_s=0.1)
        receiver.receive(1, 0, 2, now=now)
        assert len(receiver.buffer.expire(receiver.buffer.next_deadline())) == 1


def test_a_streams_bytes_are_known_while_it_is_incomplete(receiver):
    receiver.receive(1, 0, 3, bytes(1000), now=0.0)
    receiver.receive(1, 1, 3, bytes(10), now=1.0)
    assert receiver.buffer.bytes_of(1) == 1010


# ---- sinks and their absence -------------------------------------------------------------------


def test_a_stream_without_room_is_killed_with_the_shells_reason(receiver):
    chunk = StreamChunk(stream_id=1, index=0, total=2, data=Blob(b"a"))
    receiver.buffer.receive_chunk(chunk, 0.0)
    with pytest.raises(ReassemblyError, match=r"^the node is full$") as refused:
        receiver.buffer.provide_sink(1, SinkRefused("the node is full"), 0.0)
    assert refused.value.kind is ReassemblyErrorKind.OUT_OF_BUDGET
    assert refused.value.kills_stream
    assert receiver.receive(1, 1, 2, b"b") is None
    assert len(receiver.buffer) == 0


def test_a_stream_without_room_to_be_put_in_order_is_killed_and_gives_its_room_back(receiver):
    receiver.receive(1, 1, 2, b"b")
    chunk = StreamChunk(stream_id=1, index=0, total=2, data=Blob(b"a"))
    assert receiver.buffer.receive_chunk(chunk, 0.0) == NeedsSink(2)
    with pytest.raises(ReassemblyError, match=r"^the node is full$"):
        receiver.buffer.provide_sink(1, SinkRefused("the node is full"), 0.0)
    assert receiver.sinks[0].is_discarded
    assert receiver.buffer.reserved_bytes == 0


@pytest.mark.parametrize("is_compaction", [False, True])
@pytest.mark.parametrize("is_granted", [False, True])
def test_a_sink_for_a_stream_that_expired_meanwhile_is_discarded(receiver, is_compaction, is_granted):
    """Finding room takes a shell some time, and nobody else would give this room back."""
    answer = RecordingSink(2) if is_granted else SinkRefused("no room")
    if is_compaction:
        receiver.receive(1, 1, 2, b"b")
    receiver.buffer.receive_chunk(StreamChunk(stream_id=1, index=0, total=2, data=Blob(b"a")), 0.0)
    receiver.buffer.expire(60.0)
    assert receiver.buffer.provide_sink(1, answer, 60.0) is None
    assert isinstance(answer, SinkRefused) or answer.is_discarded
    assert len(receiver.buffer) == 0


@pytest.mark.parametrize("answer", [HeapSink(2), SinkRefused("no room")], ids=["sink", "refusal"])
def test_a_sink_nobody_asked_for_is_the_callers_mistake(receiver, answer):
    with pytest.raises(LocalProtocolError, match="stream 1 asked for no sink"):
        receiver.buffer.provide_sink(1, answer, 0.0)
    receiver.receive(1, 0, 2, b"a")
    with pytest.raises(LocalProtocolError, match="stream 1 asked for no sink"):
        receiver.buffer.provide_sink(1, answer, 0.0)
    assert receiver.receive(1, 1, 2, b"b") == b"ab"


def test_a_chunk_before_the_sink_is_the_callers_mistake(receiver):
    receiver.buffer.receive_chunk(StreamChunk(stream_id=1, index=0, total=2, data=Blob(b"a")), 0.0)
    with pytest.raises(LocalProtocolError, match="while its sink is still asked for"):
        receiver.buffer.receive_chunk(StreamChunk(stream_id=1, index=1, total=2, data=Blob(b"b")), 0.0)


def test_an_aborted_stream_gives_its_room_back_and_is_silent_afterwards(receiver):
    receiver.receive(1, 0, 2, b"a")
    error = receiver.buffer.abort(1, "the node needs the room", 0.0)
    receiver.buffer.check_invariants()
    assert (error.kind, str(error)) == (ReassemblyErrorKind.OUT_OF_BUDGET, "the node needs the room")
    assert error.kills_stream
    assert receiver.sinks[0].is_discarded
    assert receiver.receive(1, 1, 2, b"b") is None


def test_aborting_a_stream_that_is_gone_does_nothing(receiver):
    receiver.receive(1, 0, 1, b"whole")
    assert receiver.buffer.abort(1, "the node needs the room", 0.0) is None
    assert receiver.receive(1, 0, 1, b"again") == b"again"


def test_discarding_everything_gives_every_sink_back(receiver):
    receiver.receive(1, 0, 2, b"a")
    receiver.receive(2, 0, 2, b"a")
    receiver.buffer.receive_chunk(StreamChunk(stream_id=3, index=0, total=2, data=Blob(b"a")), 0.0)
    receiver.buffer.discard_all()
    assert [sink.is_discarded for sink in receiver.sinks] == [True, True]
    assert len(receiver.buffer) == 0


def test_a_heap_sink_holds_what_was_written_and_nothing_once_discarded():
    sink = HeapSink(4)
    sink.write(2, b"cd")
    sink.write(0, b"ab")
    assert bytes(sink.read(1, 3)) == b"bc"
    assert sink.finish(3) == b"abc"
    sink.discard()
    assert bytes(sink.read(0, 4)) == b""


def test_a_whole_message_is_read_only():
    buffer = ReassemblyBuffer(Limits())
    buffer.receive_chunk(StreamChunk(stream_id=1, index=0, total=1, data=Blob(b"a")), 0.0)
    progress = buffer.provide_sink(1, HeapSink(CHUNK_SIZE), 0.0)
    assert isinstance(progress, Completed)
    assert progress.message.view.readonly


def open_streams(receiver: Receiver, count: int) -> None:
    for stream_id in range(count):
        receiver.receive(stream_id, 0, 2, b"a")


# ---- sinks that fail -----------------------------------------------------------------------------


class FailingSink(RecordingSink):
    def write(self, offset, data):
        raise SinkFailed("the disk is full")


def test_a_stream_whose_sink_fails_is_killed_and_the_others_survive():
    buffer, sink = ReassemblyBuffer(Limits()), FailingSink(2 * CHUNK_SIZE)
    for stream_id in (1, 2):
        buffer.receive_chunk(StreamChunk(stream_id=stream_id, index=0, total=2, data=Blob(b"a")), 0.0)
    with pytest.raises(ReassemblyError, match="the disk is full") as refused:
        buffer.provide_sink(1, sink, 0.0)
    assert (refused.value.kind, refused.value.kills_stream) == (ReassemblyErrorKind.SINK_FAILED, True)
    buffer.check_invariants()
    assert 1 not in buffer
    assert 2 in buffer
    # the late chunk of the killed stream is dropped silently
    assert buffer.receive_chunk(StreamChunk(stream_id=1, index=1, total=2, data=Blob(b"b")), 0.0) is None


def test_a_sink_that_fails_at_a_later_chunk_is_given_back():
    buffer, sink = ReassemblyBuffer(Limits()), RecordingSink(2 * CHUNK_SIZE)
    buffer.receive_chunk(StreamChunk(stream_id=1, index=0, total=2, data=Blob(b"a")), 0.0)
    buffer.provide_sink(1, sink, 0.0)
    sink.write = FailingSink(0).write
    with pytest.raises(ReassemblyError) as refused:
        buffer.receive_chunk(StreamChunk(stream_id=1, index=1, total=2, data=Blob(b"b")), 0.0)
    assert refused.value.kind is ReassemblyErrorKind.SINK_FAILED
    assert sink.is_discarded
    buffer.check_invariants()


def test_both_sinks_go_back_when_the_second_one_of_an_unordered_stream_fails():
    buffer, first, second = ReassemblyBuffer(Limits()), RecordingSink(2 * CHUNK_SIZE), FailingSink(2)
    buffer.receive_chunk(StreamChunk(stream_id=1, index=1, total=2, data=Blob(b"b")), 0.0)
    buffer.provide_sink(1, first, 0.0)
    assert buffer.receive_chunk(StreamChunk(stream_id=1, index=0, total=2, data=Blob(b"a")), 0.0) == NeedsSink(2)
    with pytest.raises(ReassemblyError) as refused:
        buffer.provide_sink(1, second, 0.0)
    assert refused.value.kind is ReassemblyErrorKind.SINK_FAILED
    assert first.is_discarded
    assert second.is_discarded
    assert len(buffer) == 0
    buffer.check_invariants()
