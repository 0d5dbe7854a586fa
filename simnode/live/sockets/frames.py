"""RFC 6455 frames, one direction each. Enters: bytes of a socket. Leaves: messages in place. Next: `websocket.py`.

The `websockets` library answers and judges control frames and does the handshake; data frames
never pass through it, because its parser holds a whole frame two to three times (a 100 MB frame
cost 191 to 287 MiB there) and this one none: a payload is unmasked in pieces of at most 256 KiB
straight into the room it will live in.
"""

from __future__ import annotations

import struct
from typing import Protocol

from websockets.frames import CloseCode

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the C extension: the library's own fallback
    from websockets.utils import apply_mask

from simnode.protocol.blob import Buffer
from simnode.protocol.errors import SinkFailed
from simnode.protocol.limits import CHUNK_SIZE, WHOLE_MESSAGE_SIZE
from simnode.protocol.reassembly import Sink

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

MAX_HEADER_BYTES = 14
MAX_CONTROL_PAYLOAD_BYTES = 125
PIECE_BYTES = CHUNK_SIZE
"""What is unmasked at once; also the size of the frames we cut a large message into."""

_WHOLE_BINARY = 0x80 | BINARY
"""The first byte of a binary message in one frame."""
_MASKED = 0x80
_MASKED_U16 = _MASKED | 126
"""The second byte of a client's frame: its length, or that it follows in two bytes."""
TURN_FRAMES = 8
"""Frames that one `feed` takes before the other connections of the process have their turn: 0.4 ms of small GETs."""

_SHORTEST_BYTES = 6
"""Of a client's frame: two bytes and the mask."""

_U16 = struct.Struct(">H")
_U64 = struct.Struct(">Q")


def frame_header(opcode: int, length: int, *, fin: bool = True) -> bytes:
    """The header of an unmasked frame, as a server sends it."""
    first = opcode | (0x80 if fin else 0)
    if length < 126:
        return bytes((first, length))
    if length < 1 << 16:
        return bytes((first, 126)) + _U16.pack(length)
    return bytes((first, 127)) + _U64.pack(length)


class FrameEvents(Protocol):
    """Who is told what a `FrameReader` found. Each may set `FrameReader.blocked` to have the rest wait."""

    def message_received(self, message: bytes) -> None:
        """A whole message of up to `whole_bytes`, unmasked, owned by the receiver."""

    def large_message_received(self, sink: Sink, nbytes: int) -> None:
        """A larger one; its bytes are in the sink that was given for it."""

    def large_message_discarded(self, nbytes: int) -> None:
        """A larger one that had no room, or whose room failed, was read and thrown away."""

    def room_needed(self, nbytes: int, sink: Sink | None) -> None:
        """The reader waits for `provide_room` with a sink of that many bytes, or None.

        Args:
            nbytes: the room.
            sink: to be given back with that much room, and the bytes that are in it; None: any sink will do.
        """

    def control_received(self, frame: bytes) -> None:
        """A whole, well-formed ping, pong or close frame, masked as it came."""

    def violation(self, code: CloseCode, reason: str) -> None:
        """The peer broke the protocol; nothing after this is read."""


class FrameReader:
    """The incoming data frames of one connection, as messages.

    Args:
        events: who is told.
        max_message_bytes: above it, over all fragments, the connection fails with 1009.
        whole_bytes: a message of up to so many bytes is given out in one piece; a larger one needs room.
    """

    __slots__ = (
        "_at",
        "_capacity",
        "_discarding",
        "_events",
        "_fin",
        "_fragments",
        "_frame_left",
        "_grows",
        "_in_message",
        "_is_closed",
        "_mask",
        "_max_message_bytes",
        "_room_wanted",
        "_short_bytes",
        "_sink",
        "_whole_bytes",
        "blocked",
        "is_turn_over",
        "wanted",
    )

    def __init__(self, events: FrameEvents, *, max_message_bytes: int, whole_bytes: int = WHOLE_MESSAGE_SIZE) -> None:
        self._events = events
        self._max_message_bytes = max_message_bytes
        self.take_whole_up_to(whole_bytes)
        #: whether `feed` stopped because it took `TURN_FRAMES`, and not for want of bytes or room
        self.is_turn_over = False
        #: set by whoever wants the rest to wait; `feed` then returns at the next boundary
        self.blocked = False
        #: how many bytes, from where `feed` stopped, would let it go on: a hint for the next read
        self.wanted = 2
        self._is_closed = False
        self._in_message = False
        #: bytes of the message in progress that were taken
        self._at = 0
        #: the message in progress, while it is small; one buffer, because a peer may cut it into single bytes
        self._fragments = bytearray()
        #: where it goes when it is large
        self._sink: Sink | None = None
        self._capacity = 0
        self._discarding = False
        #: what was asked for, and whether it is more of the same room
        self._room_wanted = 0
        self._grows = False
        #: payload bytes of the frame in progress that are still to come (large messages only)
        self._frame_left = 0
        self._fin = True
        self._mask = b""

    def take_whole_up_to(self, nbytes: int) -> None:
        """Gives out messages of up to `nbytes` in one piece from now on; larger ones need room."""
        self._whole_bytes = nbytes
        self._short_bytes = min(nbytes, self._max_message_bytes)

    @property
    def unfinished_bytes(self) -> int:
        """Bytes in the heap of a message in progress; those of a large one are in its room."""
        return len(self._fragments)

    @property
    def large_bytes(self) -> int:
        """Bytes that have come of a large message in progress."""
        return self._at

    def give_up_large(self) -> bool:
        """Gives the room of a large message in progress back; the rest of it is read and thrown away.

        Returns:
            Whether there was such a message; one that is waiting for (more) room is left alone.
        """
        if self._sink is None or self._room_wanted:
            return False
        sink, self._sink = self._sink, None
        self._discarding = True
        sink.discard()
        return True

    def feed(self, view: memoryview, start: int, stop: int) -> int:
        """Takes what it can of `view[start:stop]` and returns where it stopped.

        What it leaves must be offered again, at the front of what comes next.
        """
        at = start
        turn = TURN_FRAMES
        self.is_turn_over = False
        while at < stop and not (self.blocked or self._is_closed):
            if self._frame_left:
                at = self._take_payload(view, at, stop)
                if self._frame_left:
                    self.wanted = min(self._frame_left, PIECE_BYTES)
                continue
            if not turn:
                self.is_turn_over = True
                break
            turn -= 1
            if not self._in_message and stop - at >= _SHORTEST_BYTES and view[at] == _WHOLE_BINARY:
                # nearly every frame is a short message of its own: what `_take_frame` would do, without a call
                second = view[at + 1]
                if _MASKED <= second < _MASKED_U16:
                    body = at + 6
                    after = body + second - _MASKED
                elif second == _MASKED_U16:
                    body = at + 8
                    after = body + (view[at + 2] << 8 | view[at + 3])
                else:
                    body, after = at, stop + 1
                if after <= stop and after - body <= self._short_bytes:
                    at = after
                    self._events.message_received(apply_mask(view[body:after], bytes(view[body - 4 : body])))
                    continue
            after = self._take_frame(view, at, stop)
            if after < 0:
                break
            at = after
        return stop if self._is_closed else at

    def provide_room(self, sink: Sink | None) -> None:
        """Answers `room_needed`; without room the message is read and thrown away. Then offer the rest again."""
        nbytes, self._room_wanted = self._room_wanted, 0
        old, self._sink = self._sink, None
        if sink is None:
            self._discarding = True
            if old is not None:
                old.discard()
        elif self._is_closed:
            if not self._grows:  # else it has gone back already
                sink.discard()
        else:
            self._sink, self._capacity = sink, nbytes
            if old is None:
                self._write(sink, 0, self._fragments)
        self._fragments = bytearray()

    def close(self) -> None:
        """Takes no more messages, and gives back the room of one that will never be whole. Idempotent.

        `feed` swallows whatever comes from now on, so that it can be read off the socket: closing one
        with bytes unread makes the peer lose what it was sent last.
        """
        self._is_closed = True
        self._fragments = bytearray()
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.discard()

    # ---- inside ------------------------------------------------------------------------------

    def _take_frame(self, view: memoryview, at: int, stop: int) -> int:
        """One frame, or the header of a large one; -1 if more bytes are needed or there is no room yet."""
        available = stop - at
        if available < 2:
            self.wanted = 2
            return -1
        first, second = view[at], view[at + 1]
        opcode, fin, length = first & 0x0F, first >= 0x80, second & 0x7F
        fault = self._fault(first, second, opcode, fin, length)
        if fault is not None:  # judged before the rest is there: an unmasked frame may have no rest
            return self._fail(CloseCode.PROTOCOL_ERROR, fault, stop)
        body = at + 6
        if length == 126:
            body = at + 8
        elif length == 127:
            body = at + MAX_HEADER_BYTES
        if body > stop:
            self.wanted = body - at
            return -1
        if length == 126:
            (length,) = _U16.unpack_from(view, at + 2)
        elif length == 127:
            (length,) = _U64.unpack_from(view, at + 2)
        if opcode >= CLOSE:
            if body + length > stop:
                self.wanted = body + length - at
                return -1
            self._events.control_received(bytes(view[at : body + length]))
            return body + length
        total = self._at + length
        if total > self._max_message_bytes:
            reason = f"message of over {self._max_message_bytes} bytes"
            return self._fail(CloseCode.MESSAGE_TOO_BIG, reason, stop)
        if total > self._whole_bytes or self._sink is not None or self._discarding:
            return self._begin_large(view, body, length, fin, total)
        if body + length > stop:
            self.wanted = body + length - at
            return -1
        payload = apply_mask(view[body : body + length], bytes(view[body - 4 : body]))
        self._take_small(payload, fin)
        return body + length

    def _fault(self, first: int, second: int, opcode: int, fin: bool, length: int) -> str | None:
        """What is wrong with a header, in the words of the `websockets` library."""
        if first & 0x70:
            return "reserved bits must be 0"
        if not second & 0x80:
            return "incorrect masking"
        if opcode >= CLOSE:
            if opcode > PONG:
                return f"invalid opcode: {opcode:#04x}"
            if length > MAX_CONTROL_PAYLOAD_BYTES:
                return "control frame too long"
            return None if fin else "fragmented control frame"
        if opcode > BINARY:
            return f"invalid opcode: {opcode:#04x}"
        if opcode == CONT:
            return None if self._in_message else "unexpected continuation frame"
        return "expected a continuation frame" if self._in_message else None

    def _fail(self, code: CloseCode, reason: str, stop: int) -> int:
        self.close()
        self._events.violation(code, reason)
        return stop

    def _take_small(self, payload: bytes, fin: bool) -> None:
        if fin and not self._in_message:
            self._events.message_received(payload)
            return
        self._fragments += payload
        self._at += len(payload)
        self._in_message = not fin
        if fin:
            message, self._fragments, self._at = bytes(self._fragments), bytearray(), 0
            self._events.message_received(message)

    def _begin_large(self, view: memoryview, body: int, length: int, fin: bool, total: int) -> int:
        if not self._discarding and (self._sink is None or self._capacity < total):
            # one frame says how long the message is; of a fragmented one only its peer knows
            room = total if fin else min(max(2 * self._capacity, total), self._max_message_bytes)
            self._room_wanted = room
            self._grows = self._sink is not None
            self.blocked = True
            self._events.room_needed(room, self._sink)
            if self._room_wanted or self._is_closed:
                return -1
        self._in_message = True
        self._fin = fin
        self._frame_left = length
        self._mask = bytes(view[body - 4 : body])
        if length == 0:
            self._end_large_frame()
        return body

    def _take_payload(self, view: memoryview, at: int, stop: int) -> int:
        while self._frame_left and at < stop:
            nbytes = min(self._frame_left, stop - at, PIECE_BYTES)
            if self._sink is not None:
                self._write(self._sink, self._at, apply_mask(view[at : at + nbytes], self._mask))
                turn = nbytes & 3
                if turn:
                    self._mask = self._mask[turn:] + self._mask[:turn]
            self._at += nbytes
            self._frame_left -= nbytes
            at += nbytes
        if not self._frame_left:
            self._end_large_frame()
        return at

    def _write(self, sink: Sink, offset: int, data: Buffer) -> None:
        """Puts a piece into the message's room; if that fails, the rest of the message is read and thrown away."""
        try:
            sink.write(offset, data)
        except SinkFailed:
            self._sink = None
            self._discarding = True
            sink.discard()

    def _end_large_frame(self) -> None:
        if not self._fin:
            return
        sink, nbytes = self._sink, self._at
        self._sink, self._at, self._capacity = None, 0, 0
        self._in_message = False
        if sink is None:
            self._discarding = False
            self._events.large_message_discarded(nbytes)
        else:
            self._events.large_message_received(sink, nbytes)
