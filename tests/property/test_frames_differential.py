"""FrameReader against the parser of the `websockets` library: the same messages, the same close codes.

Hypothesis makes frames, sound and hostile, and cuts their bytes anywhere. Known differences, each on
purpose:

- Text is not checked for UTF-8, as in the reference node: the library says 1007.
- A close frame in the middle of a fragmented message is answered with its own code: the library
  says 1002 ("incomplete fragmented message"), which RFC 6455 does not ask for (Autobahn 7.1.5).
- A header that is wrong in two ways may be refused for the other reason: one that promises too much
  *and* breaks a rule is 1009 there and 1002 here, because here a rule is checked first.
- Here a header is refused as soon as its first two bytes are there, the library waits for the payload
  of some: so what it makes of an unfinished frame at the very end is not compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from simnode.live.sockets.frames import FrameReader
from simnode.protocol.limits import WHOLE_MESSAGE_SIZE
from simnode.protocol.reassembly import HeapSink, Sink

MAX_MESSAGE_BYTES = WHOLE_MESSAGE_SIZE + 100_000
"""Small and large messages lie on both sides of what is kept in the heap, and both may be too large."""

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def open_protocol() -> ServerProtocol:
    protocol = ServerProtocol(max_size=MAX_MESSAGE_BYTES)
    protocol.receive_data(HANDSHAKE)
    (request,) = protocol.events_received()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    protocol.data_to_send()
    return protocol


@dataclass
class Outcome:
    """What one side made of the bytes."""

    messages: list[bytes] = field(default_factory=list)
    pings: list[bytes] = field(default_factory=list)
    code: int | None = None


def library_outcome(data: bytes) -> Outcome:
    protocol, outcome = open_protocol(), Outcome()
    protocol.receive_data(data)
    fragments: list[bytes] = []
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        if event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            fragments.append(bytes(event.data))
            if event.fin:
                outcome.messages.append(b"".join(fragments))
                fragments = []
        elif event.opcode is Opcode.PING:
            outcome.pings.append(bytes(event.data))
    if protocol.close_sent is not None:
        outcome.code = protocol.close_sent.code
    return outcome


class Room(HeapSink):
    """A sink that can become longer."""

    def grown(self, nbytes: int) -> Room:
        self._room.extend(bytes(nbytes - len(self._room)))
        return self


class Ours:
    """A `FrameReader` with the library behind it for control frames, as in `websocket.WebSocket`."""

    def __init__(self) -> None:
        self.outcome = Outcome()
        self._protocol = open_protocol()
        self._reader = FrameReader(self, max_message_bytes=MAX_MESSAGE_BYTES)
        self._wanted: tuple[int, Room | None] | None = None

    def take(self, pieces: list[bytes]) -> Outcome:
        rest = b""
        for piece in pieces:
            rest += piece
            while True:
                rest = rest[self._reader.feed(memoryview(rest), 0, len(rest)) :]
                if self._reader.is_turn_over:
                    continue
                if self._wanted is None:
                    break
                (nbytes, room), self._wanted = self._wanted, None
                self._reader.blocked = False
                self._reader.provide_room(room.grown(nbytes) if room else Room(nbytes))
        if self._protocol.close_sent is not None:
            self.outcome.code = self._protocol.close_sent.code
        return self.outcome

    def message_received(self, message: bytes) -> None:
        if self._protocol.close_sent is None:
            self.outcome.messages.append(message)

    def large_message_received(self, sink: Sink, nbytes: int) -> None:
        self.message_received(bytes(sink.finish(nbytes)))

    def large_message_discarded(self, nbytes: int) -> None:
        raise AssertionError("there is always room")

    def room_needed(self, nbytes: int, sink: Sink | None) -> None:
        assert sink is None or isinstance(sink, Room)
        self._wanted = nbytes, sink

    def control_received(self, frame: bytes) -> None:
        if self._protocol.close_sent is not None:
            return
        self._protocol.receive_data(frame)
        for event in self._protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode is Opcode.PING:
                self.outcome.pings.append(bytes(event.data))

    def violation(self, code: CloseCode, reason: str) -> None:
        self._protocol.fail(code, reason)


# ---- what clients send ---------------------------------------------------------------------------

payloads = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 70_000).map(lambda nbytes: bytes(nbytes)),
    st.integers(WHOLE_MESSAGE_SIZE - 2, MAX_MESSAGE_BYTES + 2).map(lambda nbytes: b"\x5a" * nbytes),
)
masks = st.binary(min_size=4, max_size=4)


def masked(first: int, data: bytes, mask: bytes) -> bytes:
    length = len(data)
    if length < 126:
        header = bytes((first, 0x80 | length))
    elif length < 1 << 16:
        header = bytes((first, 0xFE)) + length.to_bytes(2, "big")
    else:
        header = bytes((first, 0xFF)) + length.to_bytes(8, "big")
    repeated = mask * (length // 4 + 1)
    body = int.from_bytes(data, "big") ^ int.from_bytes(repeated[:length], "big")
    return header + mask + body.to_bytes(length, "big")


@st.composite
def sound_messages(draw: st.DrawFn) -> bytes:
    """A message of one to four frames with pings and pongs between them."""
    data = draw(payloads)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=3)))
    frames = b""
    for index, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(data)], strict=True)):
        opcode = Opcode.CONT if index else Opcode.BINARY
        fin = 0x80 if index == len(cuts) else 0
        frames += masked(opcode | fin, data[start:stop], draw(masks))
        if draw(st.booleans()) and not fin:
            control = draw(st.sampled_from([Opcode.PING, Opcode.PONG]))
            frames += masked(control | 0x80, draw(st.binary(max_size=125)), draw(masks))
    return frames


@st.composite
def hostile_frames(draw: st.DrawFn) -> bytes:
    """Any first byte, a payload that is really there."""
    opcode = draw(st.integers(0, 15))
    first = opcode | draw(st.sampled_from([0x80, 0x80, 0x80, 0x00, 0xC0, 0x20]))
    if opcode == Opcode.TEXT:
        data = draw(st.text(max_size=20)).encode()
    elif opcode >= Opcode.CLOSE:
        data = draw(st.binary(max_size=130))
    else:
        data = draw(payloads)
    frame = masked(first, data, draw(masks))
    return frame if draw(st.integers(0, 9)) else frame[:1] + bytes((frame[1] & 0x7F,)) + frame[2:]


closes = st.one_of(
    st.just(b""),
    st.integers(0, 5000).map(lambda code: code.to_bytes(2, "big")),
    st.binary(max_size=125),
).map(lambda data: masked(Opcode.CLOSE | 0x80, data, b"abcd"))

sequences = st.lists(st.one_of(sound_messages(), sound_messages(), hostile_frames(), closes), max_size=6).map(b"".join)


@st.composite
def cut_sequences(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    data = draw(whole)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@given(cut_sequences(st.lists(sound_messages(), max_size=5).map(b"".join)))
@settings(max_examples=150)
def test_sound_messages_are_received_as_the_library_receives_them(pieces: list[bytes]) -> None:
    ours, theirs = Ours().take(pieces), library_outcome(b"".join(pieces))
    assert ours.messages == theirs.messages
    assert ours.pings == theirs.pings
    assert ours.code == theirs.code


@given(cut_sequences(sequences))
@settings(max_examples=300)
def test_hostile_frames_are_judged_as_the_library_judges_them(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    ours, theirs = Ours().take(pieces), library_outcome(data)
    if theirs.code == ours.code:
        assert ours.messages == theirs.messages
        assert ours.pings == theirs.pings
        return
    common = min(len(ours.messages), len(theirs.messages))
    assert ours.messages[:common] == theirs.messages[:common]
    assert is_known_difference(data, ours, theirs), (ours.code, theirs.code)


def is_known_difference(data: bytes, ours: Outcome, theirs: Outcome) -> bool:
    """See the top of this file; the library itself says which rule it found broken."""
    protocol = open_protocol()
    protocol.receive_data(data)
    error = protocol.parser_exc
    if isinstance(error, UnicodeDecodeError):
        return theirs.code == CloseCode.INVALID_DATA
    if isinstance(error, PayloadTooBig):
        return ours.code == CloseCode.PROTOCOL_ERROR
    if error is None:  # it still waits for the payload of a frame whose header we refused
        return theirs.code is None and ours.code == CloseCode.PROTOCOL_ERROR
    return "incomplete fragmented message" in str(error)
