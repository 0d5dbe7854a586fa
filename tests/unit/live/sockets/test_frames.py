"""FrameReader: the same messages however the bytes are cut, and none of them in the heap twice."""

from __future__ import annotations

import tracemalloc

import pytest
from websockets.frames import CloseCode, Frame, Opcode

from simnode.live.sockets.frames import MAX_HEADER_BYTES, PIECE_BYTES, TURN_FRAMES, frame_header
from simnode.protocol.blob import Buffer
from simnode.protocol.errors import SinkFailed
from simnode.protocol.limits import KIB, WHOLE_MESSAGE_SIZE
from tests.support.vectors import counting_bytes
from tests.unit.live.sockets.conftest import MASK, MAX_MESSAGE_BYTES, Receiver, Room, fragmented, frame

LARGE = WHOLE_MESSAGE_SIZE + 1
PING = frame(Opcode.PING, b"are you there?")


@pytest.mark.parametrize("nbytes", [0, 1, 125, 126, 127, 65535, 65536, WHOLE_MESSAGE_SIZE])
def test_message_of_any_small_length_is_received(receiver: Receiver, nbytes: int) -> None:
    receiver.feed(frame(Opcode.BINARY, counting_bytes(nbytes)))
    assert receiver.messages == [counting_bytes(nbytes)]
    assert not receiver.rooms


@pytest.mark.parametrize("nbytes", [LARGE, LARGE + 2, 3 * PIECE_BYTES, MAX_MESSAGE_BYTES])
def test_large_message_goes_into_a_room_of_its_length(receiver: Receiver, nbytes: int) -> None:
    data = frame(Opcode.BINARY, counting_bytes(nbytes))
    for at in range(0, len(data), 100_003):
        receiver.feed(data[at : at + 100_003])
    assert receiver.messages == [counting_bytes(nbytes)]
    assert len(receiver.rooms) == 1
    assert not receiver.rooms[0].is_discarded


def test_message_over_the_whole_size_is_large_and_one_byte_less_is_not(receiver: Receiver) -> None:
    receiver.feed(frame(Opcode.BINARY, bytes(WHOLE_MESSAGE_SIZE)))
    assert not receiver.rooms
    receiver.feed(frame(Opcode.BINARY, bytes(WHOLE_MESSAGE_SIZE + 1)))
    assert len(receiver.rooms) == 1


def test_text_message_is_received_as_bytes_whatever_is_in_it(receiver: Receiver) -> None:
    receiver.feed(frame(Opcode.TEXT, b"\xff\xfe"))
    assert receiver.messages == [b"\xff\xfe"]


SEQUENCE = (
    frame(Opcode.BINARY, b"one")
    + PING
    + b"".join(fragmented(b"two and three", 3, 3, 8))
    + frame(Opcode.BINARY, counting_bytes(200))
    + frame(Opcode.PONG, b"")
    + frame(Opcode.BINARY, b"")
)


def test_bytes_one_by_one(receiver: Receiver) -> None:
    for at in range(len(SEQUENCE)):
        receiver.feed(SEQUENCE[at : at + 1])
    assert receiver.messages == [b"one", b"two and three", counting_bytes(200), b""]
    assert [control[0] & 0x0F for control in receiver.controls] == [Opcode.PING, Opcode.PONG]
    assert receiver.controls[0] == PING


def test_every_cut_in_two() -> None:
    for at in range(len(SEQUENCE) + 1):
        receiver = Receiver()
        receiver.feed(SEQUENCE[:at])
        receiver.feed(SEQUENCE[at:])
        assert receiver.messages == [b"one", b"two and three", counting_bytes(200), b""], at
        assert len(receiver.controls) == 2


@pytest.mark.parametrize("cut", [1, 2, 9, 13, 14, 15, 16, 17, 18, 100, 262_143, 262_161, 589_850])
def test_large_frame_cut_anywhere_is_unmasked_right(cut: int) -> None:
    """The mask's turn goes on where the piece before ended."""
    receiver = Receiver()
    data = frame(Opcode.BINARY, counting_bytes(LARGE)) + frame(Opcode.BINARY, b"next")
    receiver.feed(data[:cut])
    receiver.feed(data[cut:])
    assert receiver.messages == [counting_bytes(LARGE), b"next"]


@pytest.mark.parametrize("cuts", [(0,), (1,), (1, 1), (10, 500_000), (LARGE - 1,), (LARGE,), (300_000, 300_001)])
def test_fragmented_large_message_with_control_frames_between(receiver: Receiver, cuts: tuple[int, ...]) -> None:
    for piece in fragmented(counting_bytes(LARGE), *cuts):
        receiver.feed(piece + PING)
    assert receiver.messages == [counting_bytes(LARGE)]
    assert receiver.controls == [PING] * (len(cuts) + 1)
    *outgrown, last = receiver.rooms
    assert all(room.is_discarded for room in outgrown)
    assert not last.is_discarded


def test_room_of_a_fragmented_message_grows_where_it_is_to_twice_its_size(receiver: Receiver) -> None:
    cuts = range(64 * KIB, MAX_MESSAGE_BYTES, 64 * KIB)
    for piece in fragmented(counting_bytes(MAX_MESSAGE_BYTES), *cuts):
        receiver.feed(piece)
    assert receiver.messages == [counting_bytes(MAX_MESSAGE_BYTES)]
    assert len(receiver.rooms) == 1
    assert receiver.asked <= 5


def test_message_cut_into_single_bytes_takes_no_more_than_its_length(receiver: Receiver) -> None:
    """A list of fragments would take sixty bytes of heap for each."""
    pieces = b"".join(fragmented(bytes(8_000), *range(2, 8_000, 2)))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        receiver.reader.feed(memoryview(pieces[:-7]), 0, len(pieces) - 7)
        assert tracemalloc.get_traced_memory()[0] - before < 24_000
    finally:
        tracemalloc.stop()


def test_empty_fragments_without_end_take_no_memory(receiver: Receiver) -> None:
    receiver.feed(frame(Opcode.BINARY, b"", fin=False))
    empty = bytes((0x00, 0x80)) + MASK
    data = memoryview(empty * 5_000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        at = 0
        while at < len(data):
            at = receiver.reader.feed(data, at, len(data))
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()


# ---- no room -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [(), (100,), (600_000,)])
def test_without_room_the_message_goes_by_and_the_next_is_received(cuts: tuple[int, ...]) -> None:
    receiver = Receiver(has_room=False)
    for piece in fragmented(counting_bytes(2 * LARGE), *cuts):
        receiver.feed(piece)
    assert receiver.discarded == [2 * LARGE]
    receiver.feed(frame(Opcode.BINARY, b"next"))
    assert receiver.messages == [b"next"]
    receiver.has_room = True
    receiver.feed(frame(Opcode.BINARY, counting_bytes(LARGE)))
    assert receiver.messages == [b"next", counting_bytes(LARGE)]


def test_room_that_cannot_grow_is_given_back_and_the_message_goes_by(receiver: Receiver) -> None:
    first, second = fragmented(bytes(2 * LARGE), LARGE)
    receiver.feed(first)
    receiver.has_room = False
    receiver.feed(second)
    assert receiver.discarded == [2 * LARGE]
    assert [room.is_discarded for room in receiver.rooms] == [True]


def test_nothing_is_read_until_the_room_is_there() -> None:
    receiver = Receiver(answers_at_once=False)
    data = frame(Opcode.BINARY, counting_bytes(LARGE)) + frame(Opcode.BINARY, b"next")
    receiver.feed(data)
    assert receiver.wanted == [LARGE]
    receiver.feed(b"")
    assert receiver.wanted == [LARGE], "asked once"
    assert not receiver.messages
    receiver.provide_room()
    receiver.feed(b"")
    assert receiver.messages == [counting_bytes(LARGE), b"next"]


def test_reader_that_is_blocked_by_its_owner_stops_at_the_next_frame(receiver: Receiver) -> None:
    data = memoryview(frame(Opcode.BINARY, b"one") + frame(Opcode.BINARY, b"two"))
    receiver.reader.blocked = True
    assert receiver.reader.feed(data, 0, len(data)) == 0
    receiver.reader.blocked = False
    assert receiver.reader.feed(data, 0, len(data)) == len(data)
    assert receiver.messages == [b"one", b"two"]


def test_owner_that_blocks_in_an_event_gets_nothing_more() -> None:
    class Blocks(Receiver):
        def message_received(self, message: bytes) -> None:
            super().message_received(message)
            self.reader.blocked = True

    receiver = Blocks(answers_at_once=False)
    one, two = frame(Opcode.BINARY, b"one"), frame(Opcode.BINARY, b"two")
    assert receiver.reader.feed(memoryview(one + two), 0, len(one + two)) == len(one)
    assert receiver.messages == [b"one"]


def test_reader_says_how_many_bytes_it_wants(receiver: Receiver) -> None:
    """So that the rest of a frame is read behind its beginning and nothing behind it."""
    data = frame(Opcode.BINARY, counting_bytes(70_000))
    for stop, wanted in ((0, 2), (1, 2), (2, 14), (13, 14), (14, len(data)), (69_000, len(data))):
        assert receiver.reader.feed(memoryview(data), 0, stop) == 0
        assert receiver.reader.wanted == wanted, stop


# ---- violations ----------------------------------------------------------------------------------

UNFINISHED = b"\x02\x81\0\0\0\0x"
"""A masked binary frame of one byte that is not the last of its message."""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x82\x00", "incorrect masking"),
        (b"\x88\x00", "incorrect masking"),
        (b"\xc2\x80", "reserved bits must be 0"),
        (b"\xa2\x80", "reserved bits must be 0"),
        (b"\x92\x80", "reserved bits must be 0"),
        (b"\x83\x80", "invalid opcode: 0x03"),
        (b"\x8b\x80", "invalid opcode: 0x0b"),
        (b"\x09\x80", "fragmented control frame"),
        (b"\x89\xfe", "control frame too long"),
        (b"\x80\x80", "unexpected continuation frame"),
        (UNFINISHED + b"\x82\x80", "expected a continuation frame"),
        (UNFINISHED + b"\x01\x80", "expected a continuation frame"),
    ],
)
def test_two_bytes_are_enough_to_see_what_is_wrong(receiver: Receiver, data: bytes, reason: str) -> None:
    """An unmasked or empty frame has no more than these: waiting for a mask would wait for ever."""
    receiver.feed(data)
    assert receiver.violations == [(CloseCode.PROTOCOL_ERROR, reason)]


@pytest.mark.parametrize("fin", [True, False])
def test_frame_over_the_limit_is_seen_in_its_header(receiver: Receiver, fin: bool) -> None:
    header = bytes((0x82 if fin else 0x02, 0xFF)) + (MAX_MESSAGE_BYTES + 1).to_bytes(8, "big") + MASK
    receiver.feed(header)
    ((code, _),) = receiver.violations
    assert code == CloseCode.MESSAGE_TOO_BIG


def test_length_of_sixty_four_bits_is_too_much(receiver: Receiver) -> None:
    receiver.feed(b"\x82\xff" + b"\xff" * 8 + MASK)
    ((code, _),) = receiver.violations
    assert code == CloseCode.MESSAGE_TOO_BIG


@pytest.mark.parametrize("cuts", [(MAX_MESSAGE_BYTES,), (10, MAX_MESSAGE_BYTES), (MAX_MESSAGE_BYTES // 2,)])
def test_fragments_over_the_limit_together_are_too_much_and_the_room_goes_back(cuts: tuple[int, ...]) -> None:
    receiver = Receiver()
    for piece in fragmented(bytes(MAX_MESSAGE_BYTES + 1), *cuts):
        receiver.feed(piece)
    ((code, _),) = receiver.violations
    assert code == CloseCode.MESSAGE_TOO_BIG
    assert all(room.is_discarded for room in receiver.rooms)
    assert not receiver.messages


def test_whatever_comes_after_a_violation_is_swallowed(receiver: Receiver) -> None:
    """It must be read off the socket, or closing it would take the close frame from the peer."""
    data = memoryview(b"\x83\x80" + frame(Opcode.BINARY, b"x") * 1000)
    assert receiver.reader.feed(data, 0, len(data)) == len(data)
    receiver.reader.blocked = False
    assert receiver.reader.feed(data, 0, len(data)) == len(data)
    assert len(receiver.violations) == 1
    assert not receiver.messages


def test_room_of_a_reader_that_is_closed_meanwhile_goes_back() -> None:
    receiver = Receiver(answers_at_once=False)
    receiver.feed(frame(Opcode.BINARY, bytes(LARGE)))
    receiver.reader.close()
    receiver.provide_room()
    assert receiver.rooms[0].is_discarded
    receiver.reader.close()


@pytest.mark.parametrize("has_room", [True, False])
def test_room_that_grows_while_its_reader_is_closed_goes_back_once(has_room: bool) -> None:
    receiver = Receiver()
    first, second = fragmented(bytes(2 * LARGE), LARGE)
    receiver.feed(first)
    receiver.answers_at_once = False
    receiver.feed(second)
    receiver.reader.close()
    receiver.has_room = has_room
    receiver.provide_room()
    assert [room.is_discarded for room in receiver.rooms] == [True]


def test_closing_in_the_middle_of_a_large_message_gives_its_room_back(receiver: Receiver) -> None:
    receiver.feed(frame(Opcode.BINARY, bytes(LARGE))[:-1])
    receiver.reader.close()
    assert receiver.rooms[0].is_discarded


@pytest.mark.parametrize("nbytes", [0, 125, 126, 65535, 65536, 1 << 32])
def test_header_of_our_own_frames_is_what_the_library_writes(nbytes: int) -> None:
    for fin in (True, False):
        ours = frame_header(0x2, nbytes, fin=fin)
        if nbytes <= 65536:
            assert ours == Frame(Opcode.BINARY, bytes(nbytes), fin=fin).serialize(mask=False)[: len(ours)]
        else:
            assert ours[1:] == b"\x7f" + nbytes.to_bytes(8, "big")


def test_a_turn_takes_a_few_frames_and_leaves_the_rest() -> None:
    """A peer that sends thousands of requests at once must not keep the loop from the others."""
    receiver = Receiver()
    data = frame(Opcode.BINARY, b"x") * (TURN_FRAMES + 1)
    view = memoryview(data)
    at = receiver.reader.feed(view, 0, len(view))
    assert receiver.reader.is_turn_over
    assert len(receiver.messages) == TURN_FRAMES
    assert receiver.reader.feed(view, at, len(view)) == len(view)
    assert not receiver.reader.is_turn_over
    assert len(receiver.messages) == TURN_FRAMES + 1


def test_pings_have_turns_too() -> None:
    receiver = Receiver()
    data = memoryview(frame(Opcode.PING, b"") * 100)
    receiver.reader.feed(data, 0, len(data))
    assert receiver.reader.is_turn_over
    assert len(receiver.controls) == TURN_FRAMES


def test_a_turn_that_ends_with_the_bytes_is_not_over() -> None:
    receiver = Receiver()
    data = memoryview(frame(Opcode.BINARY, b"x") * TURN_FRAMES)
    assert receiver.reader.feed(data, 0, len(data)) == len(data)
    assert not receiver.reader.is_turn_over


def test_a_large_message_that_is_given_up_gives_its_room_back_and_is_read_to_its_end() -> None:
    receiver = Receiver()
    data = frame(Opcode.BINARY, bytes(LARGE))
    receiver.feed(data[:1000])
    assert receiver.reader.large_bytes == 1000 - MAX_HEADER_BYTES
    assert receiver.reader.give_up_large()
    assert receiver.rooms[0].is_discarded
    assert not receiver.reader.give_up_large()
    receiver.feed(data[1000:])
    assert receiver.discarded == [LARGE]
    receiver.feed(frame(Opcode.BINARY, b"next"))
    assert receiver.messages == [b"next"]


def test_a_message_that_waits_for_room_is_not_given_up() -> None:
    receiver = Receiver(answers_at_once=False)
    receiver.feed(frame(Opcode.BINARY, bytes(LARGE))[:100])
    assert not receiver.reader.give_up_large()


def test_who_may_not_be_given_much_needs_room_for_less() -> None:
    """Before authentication a connection may keep next to nothing in the heap."""
    receiver = Receiver(has_room=False)
    receiver.reader.take_whole_up_to(1000)
    receiver.feed(frame(Opcode.BINARY, bytes(1000)) + frame(Opcode.BINARY, bytes(1001)))
    receiver.feed(frame(Opcode.BINARY, bytes(70_000)))
    assert (receiver.messages, receiver.discarded) == ([bytes(1000)], [1001, 70_000])
    receiver.reader.take_whole_up_to(WHOLE_MESSAGE_SIZE)
    receiver.feed(frame(Opcode.BINARY, bytes(70_000)))
    assert receiver.messages[1:] == [bytes(70_000)]


def test_an_unfinished_message_is_known_by_its_bytes() -> None:
    receiver = Receiver()
    receiver.feed(frame(Opcode.BINARY, bytes(300), fin=False))
    assert receiver.reader.unfinished_bytes == 300
    receiver.feed(frame(Opcode.CONT, b""))
    assert receiver.reader.unfinished_bytes == 0


# ---- rooms that fail -----------------------------------------------------------------------------


class FailingRoom(Room):
    """Takes so many bytes; then its disk is full."""

    def __init__(self, nbytes: int, takes_bytes: int) -> None:
        super().__init__(nbytes)
        self.takes_bytes = takes_bytes

    def write(self, offset: int, data: Buffer) -> None:
        if offset + len(data) > self.takes_bytes:
            raise SinkFailed("full")
        super().write(offset, data)


@pytest.mark.parametrize("takes_bytes", [0, PIECE_BYTES])
def test_message_whose_room_fails_is_read_to_its_end_and_the_next_one_is_received(takes_bytes: int) -> None:
    receiver = Receiver(answers_at_once=False)
    receiver.feed(frame(Opcode.BINARY, bytes(LARGE)) + PING + frame(Opcode.BINARY, b"next"))
    room = FailingRoom(receiver.wanted.pop(), takes_bytes)
    receiver.reader.blocked = False
    receiver.reader.provide_room(room)
    receiver.feed(b"")
    assert room.is_discarded
    assert receiver.discarded == [LARGE]
    assert receiver.messages == [b"next"]
    assert (len(receiver.controls), receiver.violations) == (1, [])


def test_fragments_whose_room_fails_are_read_to_the_end(receiver: Receiver) -> None:
    """What came before the message was large is written as soon as there is room."""
    receiver.answers_at_once = False
    first, *rest = fragmented(bytes(2 * LARGE), 1000, LARGE)
    receiver.feed(first + rest[0])
    room = FailingRoom(receiver.wanted.pop(), 0)
    receiver.reader.blocked = False
    receiver.reader.provide_room(room)
    receiver.feed(b"".join(rest[1:]) + frame(Opcode.BINARY, b"next"))
    assert room.is_discarded
    assert (receiver.discarded, receiver.messages) == ([2 * LARGE], [b"next"])
