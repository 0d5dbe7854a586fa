"""Frames as a client makes them, and what a `FrameReader` makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from websockets.frames import CloseCode, Frame, Opcode

from simnode.live.sockets.frames import FrameReader
from simnode.protocol.reassembly import HeapSink, Sink

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MASK = b"\x01\x02\x03\x04"


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    """A masked frame."""
    return Frame(opcode, data, fin=fin).serialize(mask=True)


def fragmented(data: bytes, *cuts: int) -> list[bytes]:
    """A binary message as frames that end at `cuts`."""
    stops = [*cuts, len(data)]
    starts = [0, *cuts]
    return [
        frame(Opcode.CONT if start_index else Opcode.BINARY, data[start:stop], fin=stop_index == len(stops) - 1)
        for start_index, (start, (stop_index, stop)) in enumerate(zip(starts, enumerate(stops), strict=True))
    ]


class Room(HeapSink):
    """A sink that knows whether it was given back."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes)
        self.is_discarded = False

    def discard(self) -> None:
        assert not self.is_discarded, "given back twice"
        self.is_discarded = True
        super().discard()

    def grow(self, nbytes: int) -> None:
        self._room.extend(bytes(nbytes - len(self._room)))


@dataclass
class Receiver:
    """Feeds a `FrameReader` and writes down what it says.

    Attributes:
        has_room: whether `room_needed` is answered with a sink.
        answers_at_once: else the test calls `provide_room`.
    """

    has_room: bool = True
    answers_at_once: bool = True
    max_message_bytes: int = MAX_MESSAGE_BYTES
    messages: list[bytes] = field(default_factory=list)
    discarded: list[int] = field(default_factory=list)
    controls: list[bytes] = field(default_factory=list)
    violations: list[tuple[CloseCode, str]] = field(default_factory=list)
    rooms: list[Room] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)
    wanted_again: Room | None = None
    asked: int = 0
    heap_bytes: int = 0

    def __post_init__(self) -> None:
        self.reader = FrameReader(self, max_message_bytes=self.max_message_bytes)
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """What a connection does with bytes of its socket."""
        self._rest += data
        while True:
            taken = self.reader.feed(memoryview(self._rest), 0, len(self._rest))
            self._rest = self._rest[taken:]
            if self.reader.is_turn_over:
                continue
            if not (self.reader.blocked and self.wanted and self.answers_at_once):
                break
            self.provide_room()

    def provide_room(self) -> None:
        room, nbytes = self.wanted_again, self.wanted.pop()
        if not self.has_room:
            room = None
        elif room is None:
            room = Room(nbytes)
            self.rooms.append(room)
        else:
            room.grow(nbytes)
        self.reader.blocked = False
        self.reader.provide_room(room)

    # ---- frames.FrameEvents ------------------------------------------------------------------

    def message_received(self, message: bytes) -> None:
        self.messages.append(message)

    def large_message_received(self, sink: Sink, nbytes: int) -> None:
        self.messages.append(bytes(sink.finish(nbytes)))

    def large_message_discarded(self, nbytes: int) -> None:
        self.discarded.append(nbytes)

    def room_needed(self, nbytes: int, sink: Sink | None) -> None:
        assert sink is None or isinstance(sink, Room)
        self.wanted.append(nbytes)
        self.wanted_again = sink
        self.asked += 1

    def control_received(self, frame: bytes) -> None:
        self.controls.append(frame)

    def violation(self, code: CloseCode, reason: str) -> None:
        self.violations.append((code, reason))


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()
