"""FrameWriter on a socket that takes as much as it likes: frames stay whole, and it says what is out."""

from __future__ import annotations

import random
import weakref
from collections import deque
from collections.abc import Iterable

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from simnode.live.sockets.frames import PIECE_BYTES
from simnode.live.sockets.writer import TURN_BYTES, FrameWriter, Sent
from simnode.protocol.blob import Rope
from simnode.protocol.limits import CHUNK_SIZE, KIB, MIB, WHOLE_MESSAGE_SIZE
from simnode.protocol.outbox import OutgoingMessage
from tests.support.vectors import counting_bytes

PING = Frame(Opcode.PING, b"ping").serialize(mask=False)
CLOSE = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)


class FakeSocket:
    """Takes up to `takes` bytes at a call, or a random number of them; then is full until `drain`.

    Args:
        takes: for each call; None: everything.
    """

    def __init__(self, takes: Iterable[int] | None = None) -> None:
        self._takes = None if takes is None else deque(takes)
        self.data = bytearray()
        self.calls = 0

    def sendmsg(self, parts: Iterable[bytes | memoryview]) -> int:
        return self.send(b"".join(parts))

    def send(self, data: bytes) -> int:
        assert data, "nothing was offered"
        self.calls += 1
        if self._takes is None:
            nbytes = len(data)
        elif self._takes:
            nbytes = min(self._takes.popleft(), len(data))
        else:
            raise BlockingIOError
        self.data += data[:nbytes]
        return nbytes


class WatchedRope(Rope):
    """A rope that can be referred to weakly."""


class Outgoing:
    """A writer, what it is given to send and what it gives back."""

    def __init__(self, takes: Iterable[int] | None = None) -> None:
        self.sock = FakeSocket(takes)
        self.due: deque[OutgoingMessage] = deque()
        self.begun: list[object] = []
        #: the tokens of the messages that have left whole
        self.sent: list[object] = []
        self.made = 0
        self.writer = FrameWriter(self.sock, self._next_message, self.begun.append, self._sent)  # type: ignore[arg-type]

    def _next_message(self) -> OutgoingMessage | None:
        if not self.due:
            return None
        self.made += 1
        return self.due.popleft()

    def _sent(self, message: OutgoingMessage) -> None:
        self.sent.append(message.token)

    @property
    def unsent(self) -> list[object]:
        """The tokens of the messages that were made and have not left whole."""
        return [message.token for message in self.writer.unsent_messages()]

    def add(self, data: bytes, token: object = None, stamp: object = None) -> None:
        half = len(data) // 2
        self.due.append(OutgoingMessage(Rope([data[:half], data[half:]]), token, stamp))

    def send_all(self) -> None:
        while self.writer.send() is not Sent.EVERYTHING:
            pass

    @property
    def frames(self) -> list[Frame]:
        """The whole frames that went out, read by the library."""
        reader = StreamReader()
        reader.feed_data(bytes(self.sock.data))
        found: list[Frame] = []
        while True:
            parser = Frame.parse(reader.read_exact, mask=False, max_size=None)
            try:
                next(parser)
            except StopIteration as end:
                found.append(end.value)
            else:
                return found

    @property
    def messages(self) -> list[bytes]:
        """The messages that went out whole."""
        found: list[bytes] = []
        fragments: list[bytes] = []
        for frame in self.frames:
            if frame.opcode in (Opcode.BINARY, Opcode.CONT):
                assert (frame.opcode is Opcode.CONT) == bool(fragments)
                fragments.append(bytes(frame.data))
                if frame.fin:
                    found.append(b"".join(fragments))
                    fragments = []
        return found


def test_small_messages_leave_together_in_one_call() -> None:
    out = Outgoing()
    for number in range(50):
        out.add(b"message %d" % number, token=number)
    assert out.writer.send() is Sent.EVERYTHING
    assert out.sock.calls == 1
    assert out.messages == [b"message %d" % number for number in range(50)]
    assert out.sent == list(range(50))


def test_no_more_is_made_than_the_socket_is_offered() -> None:
    """One chunk is alive at a time, however many are due."""
    out = Outgoing(takes=[])
    for _ in range(20):
        out.add(bytes(CHUNK_SIZE))
    assert out.writer.send() is Sent.BLOCKED
    assert out.made == 1
    assert out.writer.unsent_bytes < CHUNK_SIZE + 20


def test_large_message_is_cut_into_fragments_of_256_kib() -> None:
    out = Outgoing()
    message = counting_bytes(MIB + 5)
    out.add(message, token="large")
    out.send_all()
    assert [len(frame.data) for frame in out.frames] == [PIECE_BYTES] * 4 + [5]
    assert [frame.opcode for frame in out.frames] == [Opcode.BINARY] + [Opcode.CONT] * 4
    assert [frame.fin for frame in out.frames] == [False] * 4 + [True]
    assert out.messages == [message]
    assert out.sent == ["large"]


@pytest.mark.parametrize("nbytes", [3 * PIECE_BYTES, 3 * PIECE_BYTES + 1, 4 * PIECE_BYTES - 1])
def test_token_of_a_fragmented_message_comes_back_whatever_the_length(nbytes: int) -> None:
    """Also when the last fragment fills what is gathered at once, and nothing is sent after it."""
    out = Outgoing()
    out.add(bytes(nbytes), token="t")
    out.send_all()
    assert out.sent == ["t"]


@pytest.mark.parametrize("nbytes", [0, 1, 2 * PIECE_BYTES - 1, 2 * PIECE_BYTES])
def test_message_of_up_to_512_kib_is_one_frame(nbytes: int) -> None:
    out = Outgoing()
    out.add(counting_bytes(nbytes))
    out.send_all()
    (frame,) = out.frames
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.BINARY, True, counting_bytes(nbytes))


def test_chunk_with_its_envelope_is_one_frame() -> None:
    out = Outgoing()
    out.add(bytes(CHUNK_SIZE + 64))
    out.send_all()
    assert len(out.frames) == 1


def test_control_frame_goes_between_two_fragments() -> None:
    out = Outgoing(takes=[300 * KIB, 100 * KIB])
    out.add(counting_bytes(2 * MIB))
    assert out.writer.send() is Sent.BLOCKED
    out.writer.add_control(PING)
    out.sock._takes = None
    out.send_all()
    opcodes = [frame.opcode for frame in out.frames]
    assert opcodes.count(Opcode.PING) == 1
    assert 0 < opcodes.index(Opcode.PING) < 4
    assert out.messages == [counting_bytes(2 * MIB)]


def test_every_pong_is_sent_when_a_few_wait() -> None:
    out = Outgoing()
    pongs = [Frame(Opcode.PONG, b"%d" % number).serialize(mask=False) for number in range(60)]
    for pong in pongs:
        out.writer.add_control(pong)
    out.send_all()
    assert bytes(out.sock.data) == b"".join(pongs)


def test_of_very_many_pongs_the_newest_is_among_those_that_are_sent() -> None:
    """A peer that pings and never reads must not fill the heap."""
    out = Outgoing(takes=[])
    for number in range(10_000):
        out.writer.add_control(Frame(Opcode.PONG, b"%d" % number).serialize(mask=False))
        out.writer.send()
    out.writer.add_control(CLOSE)
    out.sock._takes = None
    out.send_all()
    assert len(out.frames) < 1000
    assert [bytes(frame.data) for frame in out.frames[-2:]] == [b"9999", b"\x03\xe8"]


def test_message_that_comes_due_while_the_socket_is_full_goes_with_the_rest() -> None:
    """Nobody would call again: the socket is not full any more."""
    out = Outgoing(takes=[5])
    out.add(b"first")
    assert out.writer.send() is Sent.BLOCKED
    out.add(b"second")
    out.sock._takes = None
    assert out.writer.send() is Sent.EVERYTHING
    assert out.messages == [b"first", b"second"]


def test_data_frame_that_has_begun_is_finished_first() -> None:
    out = Outgoing(takes=[10])
    out.add(counting_bytes(1000))
    assert out.writer.send() is Sent.BLOCKED
    out.writer.add_control(PING)
    out.sock._takes = None
    out.send_all()
    assert [frame.opcode for frame in out.frames] == [Opcode.BINARY, Opcode.PING]


def test_token_comes_back_only_with_the_last_byte() -> None:
    """Before, the state's segment may not be overwritten."""
    out = Outgoing(takes=[1] * 101)
    out.add(counting_bytes(100), token="t")  # two bytes of header
    assert out.writer.send() is Sent.BLOCKED
    assert out.sent == []
    assert out.unsent == ["t"]
    out.sock._takes = deque([1])
    assert out.writer.send() is Sent.EVERYTHING
    assert out.sent == ["t"]
    assert out.unsent == []


def test_token_of_a_fragmented_message_waits_for_its_last_fragment() -> None:
    out = Outgoing(takes=[PIECE_BYTES + 10])
    out.add(bytes(600 * KIB), token="t")
    while out.writer.send() is not Sent.BLOCKED:
        pass
    assert out.sent == []
    assert out.unsent == ["t"]
    out.sock._takes = None
    out.send_all()
    assert out.sent == ["t"]


def test_stamp_comes_with_the_first_byte_that_the_socket_takes() -> None:
    """Not when the message is made: the socket may be full for long after that."""
    out = Outgoing(takes=[5])
    out.add(b"one", stamp=1)  # two bytes of header
    out.add(b"two", stamp=2)
    out.add(b"three")
    assert out.writer.send() is Sent.BLOCKED
    assert out.made == 3
    assert (out.begun, out.sent) == ([1], [None])
    out.sock._takes = deque([1])
    assert out.writer.send() is Sent.BLOCKED
    assert (out.begun, out.sent) == ([1, 2], [None])
    out.sock._takes = None
    out.send_all()
    assert (out.begun, out.sent) == ([1, 2], [None] * 3)


def test_stamp_of_a_fragmented_message_comes_once_with_its_first_fragment() -> None:
    out = Outgoing(takes=[])
    out.add(bytes(600 * KIB), stamp="s")
    assert out.writer.send() is Sent.BLOCKED
    assert out.begun == []
    out.sock._takes = deque([1])
    assert out.writer.send() is Sent.BLOCKED
    assert (out.begun, out.unsent) == (["s"], [None])
    out.sock._takes = None
    out.send_all()
    assert (out.begun, out.unsent) == (["s"], [])


@pytest.mark.parametrize("nbytes", [100, 600 * KIB, 3 * MIB])
@pytest.mark.parametrize("takes", [None, [50, 51], [50, 10]])
def test_nothing_of_a_message_is_held_when_it_has_left(nbytes: int, takes: list[int] | None) -> None:
    """A message may be 64 MiB in the heap, and the next one may come much later."""
    out = Outgoing(takes=takes)
    rope = WatchedRope([bytes(nbytes)])
    is_held = weakref.ref(rope)
    out.due.append(OutgoingMessage(rope, "t", "s"))
    del rope
    out.writer.send()
    out.sock._takes = None
    out.send_all()
    assert (out.begun, out.sent) == (["s"], ["t"])
    assert is_held() is None


def test_last_frame_goes_when_nothing_else_is_due() -> None:
    out = Outgoing()
    out.writer.add_last(CLOSE)
    out.add(counting_bytes(MIB))
    out.add(b"small")
    out.writer.add_control(PING)
    out.send_all()
    assert [frame.opcode for frame in out.frames if frame.opcode is not Opcode.CONT] == [
        Opcode.PING,
        Opcode.BINARY,
        Opcode.BINARY,
        Opcode.CLOSE,
    ]
    assert out.frames[-1].opcode is Opcode.CLOSE


def test_after_the_end_of_data_only_control_frames_go() -> None:
    out = Outgoing(takes=[300 * KIB])
    out.add(counting_bytes(2 * MIB), token="cut short")
    out.add(b"never", token="never made")
    while out.writer.send() is not Sent.BLOCKED:
        pass
    out.writer.end_data()
    out.writer.add_control(CLOSE)
    out.sock._takes = None
    out.send_all()
    assert out.frames[-1].opcode is Opcode.CLOSE
    assert len(out.frames) == 3
    assert out.messages == []
    assert out.due[0].token == "never made"
    assert out.sent + out.unsent == ["cut short"]


def test_long_answer_lets_others_go_first_now_and_then() -> None:
    out = Outgoing()
    out.add(bytes(10 * MIB))
    turns = 0
    while out.writer.send() is Sent.TURN_OVER:
        turns += 1
    assert turns == 10 * MIB // TURN_BYTES
    assert out.writer.sent_bytes == len(out.sock.data)


def test_gone_peer_is_an_error_and_the_tokens_are_known() -> None:
    class Gone(FakeSocket):
        def send(self, data: bytes) -> int:
            raise BrokenPipeError

    out = Outgoing()
    out.writer._sock = Gone()  # type: ignore[assignment]
    out.add(b"x", token="t")
    with pytest.raises(BrokenPipeError):
        out.writer.send()
    assert out.unsent == ["t"]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_socket_takes_the_same_frames_go_out(seed: int) -> None:
    rng = random.Random(seed)
    out = Outgoing()
    expected = []
    for number in range(12):
        nbytes = rng.choice([0, 1, 125, 126, 70_000, CHUNK_SIZE, WHOLE_MESSAGE_SIZE, 900_000])
        expected.append(counting_bytes(nbytes))
        out.add(expected[-1], token=number)
    pings = 0
    while True:
        out.sock._takes = deque(rng.choice([1, 2, 7, 1000, 65_536, 400_000]) for _ in range(rng.randrange(4)))
        sent = out.writer.send()
        if sent is Sent.EVERYTHING:
            break
        if rng.random() < 0.2:
            out.writer.add_control(PING)
            pings += 1
        assert out.sent == list(range(len(out.sent))), "in order"
        assert len(out.messages) >= len(out.sent), "a token before its last byte"
    assert out.messages == expected
    assert out.sent == list(range(12))
    assert sum(frame.opcode is Opcode.PING for frame in out.frames) == pings
    assert out.writer.unsent_bytes == 0
