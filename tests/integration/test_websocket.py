"""WebSocket on a real socket pair and a clock of the test's own: deadlines, pings, stalls, pauses, ends."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from simnode.live.sockets.handshake import AccessRules
from simnode.live.sockets.peer_watch import PeerWatch
from simnode.live.sockets.websocket import (
    CLOSE_TIMEOUT_S,
    HANDSHAKE_TIMEOUT_S,
    PING_INTERVAL_S,
    SCRATCH_BYTES,
    WebSocket,
)
from simnode.metrics.catalogue import CLOSE_REASON, REFUSAL_REASON
from simnode.protocol.blob import Rope
from simnode.protocol.limits import MIB
from simnode.protocol.outbox import OutgoingMessage
from simnode.protocol.reassembly import HeapSink, Sink
from tests.support import recorder
from tests.support.vectors import counting_bytes

MAX_MESSAGE_BYTES = 4 * MIB
PROGRESS_TIMEOUT_S = 60.0


@dataclass
class Recorder(recorder.Recorder):
    """One that can fail, call back, and give room later."""

    tokens: list[object] = field(default_factory=list)
    fails: bool = False
    on_sent: Callable[[], object] = lambda: None
    on_message: Callable[[], object] = lambda: None
    answers_at_once: bool = False

    def message_received(self, message: bytes) -> None:
        if self.fails:
            raise RuntimeError("a bug")
        super().message_received(message)
        self.on_message()

    def room_needed(self, nbytes: int, sink: Sink | None) -> None:
        assert self.websocket is not None
        assert sink is None, "one frame says how long its message is"
        if self.answers_at_once:
            super().room_needed(nbytes, sink)
        else:
            asyncio.get_running_loop().call_soon(self.websocket.provide_room, HeapSink(nbytes))

    def message_sent(self, message: OutgoingMessage) -> None:
        if message.token is not None:
            self.tokens.append(message.token)
        if callable(message.token):
            message.token()

    def sent(self) -> None:
        self.on_sent()


class Peer:
    """The other end, and the server's end under test."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.application = Recorder()
        self.has_ended = asyncio.Event()
        self.peer_watch = PeerWatch()
        self.peer_watch.start()
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        self.sock = theirs
        self.protocol = ClientProtocol(parse_uri("ws://localhost/v1/contract/command"), max_size=None)
        self.websocket = WebSocket(
            ours,
            scratch=memoryview(bytearray(SCRATCH_BYTES)),
            peer_watch=self.peer_watch,
            application=lambda websocket: self.application,
            rules=AccessRules(),
            max_message_bytes=MAX_MESSAGE_BYTES,
            now=lambda: self.now,
            ended=lambda websocket: self.has_ended.set(),
        )
        self.application.websocket = self.websocket
        self.websocket.start()

    async def open(self) -> None:
        self.protocol.send_request(self.protocol.connect())
        await self.flush()
        (response,) = await self.events()
        assert isinstance(response, Response)
        assert response.status_code == 101

    async def flush(self) -> None:
        for data in self.protocol.data_to_send():
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def events(self) -> list[object]:
        """What comes next, or nothing at the end."""
        while True:
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 65536), 5)
            if not data:
                self.protocol.receive_eof()
                return []
            self.protocol.receive_data(data)
            if events := self.protocol.events_received():
                return list(events)

    async def send(self, message: bytes) -> None:
        self.protocol.send_binary(message)
        await self.flush()

    async def pass_time(self, seconds: float) -> None:
        """Lets the server look at its clock once a second."""
        for _ in range(int(seconds)):
            self.now += 1
            self.websocket.check(self.now, progress_timeout_s=PROGRESS_TIMEOUT_S)
        await turns()

    async def end(self) -> str:
        await asyncio.wait_for(self.has_ended.wait(), 5)
        assert self.application.lost_because is not None
        return self.application.lost_because


async def turns(number: int = 10) -> None:
    """Lets the event loop do what is ready."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    peer = Peer()
    yield peer
    peer.websocket.abort("drained")
    peer.peer_watch.close()
    peer.sock.close()
    await turns()
    assert not failures, "an exception in a callback of the event loop"
    assert peer.application.lost_because in (*CLOSE_REASON.values, *REFUSAL_REASON.values)


async def test_client_that_says_nothing_is_ended_after_ten_seconds(peer: Peer) -> None:
    await peer.pass_time(HANDSHAKE_TIMEOUT_S - 1)
    assert peer.application.lost_because is None
    await peer.pass_time(1)
    assert await peer.end() == "handshake_failed"


async def test_node_that_goes_away_ends_a_client_that_had_not_asked_yet(peer: Peer) -> None:
    """Its reason must be one of those for connections that never opened."""
    peer.websocket.abort("drained")
    assert await peer.end() in REFUSAL_REASON.values


async def test_client_that_leaves_before_it_asks_is_a_failed_handshake(peer: Peer) -> None:
    peer.sock.close()
    assert await peer.end() == "handshake_failed"


async def test_ping_every_thirty_seconds_and_a_missing_pong_is_forgiven(peer: Peer) -> None:
    """The reference client does not pong while its program is not in recv()."""
    await peer.open()
    await peer.pass_time(10 * PING_INTERVAL_S)
    pings = await peer.events()
    assert [frame.opcode for frame in pings if isinstance(frame, Frame)] == [Opcode.PING] * 10
    assert peer.application.lost_because is None


async def test_peer_that_takes_nothing_of_what_is_due_is_ended(peer: Peer) -> None:
    await peer.open()
    peer.application.due.append(OutgoingMessage(Rope([bytes(4 * MIB)]), "token"))
    peer.websocket.send_soon()
    await turns()
    await peer.pass_time(PROGRESS_TIMEOUT_S - 1)
    assert peer.application.lost_because is None
    assert peer.application.tokens == []
    await peer.pass_time(2)
    assert await peer.end() == "stalled"
    assert peer.application.tokens == ["token"], "whatever it held is given back"


async def test_peer_that_takes_nothing_is_ended_although_more_comes_due_all_the_time(peer: Peer) -> None:
    """What the kernel takes for it, pings among it, is no sign of life of its own."""
    await peer.open()
    for _ in range(int(PROGRESS_TIMEOUT_S) // 10 + 2):
        peer.application.due.append(OutgoingMessage(Rope([b"notification"])))
        peer.websocket.send_soon()
        await turns()
        await peer.pass_time(10)
    assert await peer.end() == "stalled"


async def test_slow_peer_is_kept_as_long_as_it_takes_something(peer: Peer) -> None:
    await peer.open()
    message = counting_bytes(4 * MIB)
    peer.application.due.append(OutgoingMessage(Rope([message]), "token"))
    peer.websocket.send_soon()
    await turns()
    received = b""
    while len(received) < len(message):
        await peer.pass_time(PROGRESS_TIMEOUT_S - 1)
        data = await asyncio.get_running_loop().sock_recv(peer.sock, 256 * 1024)
        peer.protocol.receive_data(data)
        for frame in peer.protocol.events_received():
            assert isinstance(frame, Frame)
            received += bytes(frame.data) if frame.opcode in (Opcode.BINARY, Opcode.CONT) else b""
        await turns()
    assert received == message
    assert peer.application.lost_because is None


@pytest.mark.parametrize("when", ["while it waits", "when a message has left", "when all has left"])
async def test_what_comes_due_while_the_socket_is_full_goes_out_without_being_asked_again(
    peer: Peer, when: str
) -> None:
    await peer.open()
    application, websocket = peer.application, peer.websocket

    def say_more() -> None:
        application.on_sent = lambda: None
        application.due.append(OutgoingMessage(Rope([b"more"])))
        websocket.send_soon()

    def say_more_if_all_is_out() -> None:
        if not websocket.unsent_bytes:
            say_more()

    token = say_more if when == "when a message has left" else None
    application.due.append(OutgoingMessage(Rope([bytes(400_000)]), token))
    websocket.send_soon()
    await turns()
    assert websocket.unsent_bytes, "the socket is full"
    if when == "while it waits":
        say_more()
    elif when == "when all has left":
        application.on_sent = say_more_if_all_is_out
    received: list[bytes] = []
    while b"more" not in received:
        for frame in await peer.events():
            assert isinstance(frame, Frame)
            received.append(bytes(frame.data))
    assert [len(data) for data in received] == [400_000, 4]


async def test_idle_peer_is_kept_for_ever(peer: Peer) -> None:
    await peer.open()
    await peer.pass_time(20 * PROGRESS_TIMEOUT_S)
    assert peer.application.lost_because is None


async def test_nothing_is_received_while_paused_and_everything_in_order_afterwards(peer: Peer) -> None:
    await peer.open()
    peer.websocket.pause()
    peer.websocket.pause()
    messages = [b"%d" % number + counting_bytes(3000) for number in range(20)]
    for message in messages:
        await peer.send(message)
    await turns()
    assert peer.application.messages == []
    peer.websocket.resume()
    await turns()
    assert peer.application.messages == [], "pauses nest"
    peer.websocket.resume()
    while len(peer.application.messages) < 20:
        await turns()
    assert peer.application.messages == messages


async def test_pause_between_two_reads_of_one_frame_loses_nothing(peer: Peer) -> None:
    await peer.open()
    message = counting_bytes(100_000)
    frame = Frame(Opcode.BINARY, message).serialize(mask=True)
    loop = asyncio.get_running_loop()
    for cut in (3, 5000, 50_000):
        peer.application.messages.clear()
        await loop.sock_sendall(peer.sock, frame[:cut])
        await turns()
        peer.websocket.pause()
        await loop.sock_sendall(peer.sock, frame[cut:] + frame)
        await turns()
        assert peer.application.messages == []
        peer.websocket.resume()
        while len(peer.application.messages) < 2:
            await turns()
        assert peer.application.messages == [message, message]


async def test_answer_leaves_when_what_was_read_is_taken_without_another_turn_of_the_loop(peer: Peer) -> None:
    """A turn costs as much as sending; what a read brought is answered in one go."""
    await peer.open()
    loop = asyncio.get_running_loop()
    sends: list[int] = []

    def answer() -> None:
        peer.application.due.append(OutgoingMessage(Rope([b"answer"])))
        loop.call_soon(lambda: sends.append(len(peer.application.due)))
        peer.websocket.send_soon()

    peer.application.on_message = answer
    await loop.sock_sendall(peer.sock, b"".join(Frame(Opcode.BINARY, b"?").serialize(mask=True) for _ in range(3)))
    answers: list[object] = []
    while len(answers) < 3:
        answers += await peer.events()
    assert sends == [0, 0, 0], "nothing was due any more by the next turn"


async def test_room_and_resume_may_come_within_the_event_that_asked(peer: Peer) -> None:
    """What is being taken goes on behind the frame that it stopped at, once and in order."""
    await peer.open()
    websocket, application = peer.websocket, peer.application

    def pause_and_resume() -> None:
        websocket.pause()
        websocket.resume()

    application.on_message = pause_and_resume
    application.answers_at_once = True
    expected = [b"one", counting_bytes(2 * MIB), b"two", b"three", counting_bytes(2 * MIB), b"four"]
    frames = [Frame(Opcode.BINARY, message).serialize(mask=True) for message in expected]
    await asyncio.get_running_loop().sock_sendall(peer.sock, b"".join(frames))
    while len(application.messages) < len(expected):
        await turns()
    assert application.messages == expected


async def test_buffer_of_an_upload_goes_when_it_pauses(peer: Peer) -> None:
    """An idle connection holds nothing, whatever it sent before."""
    await peer.open()
    frame = Frame(Opcode.BINARY, counting_bytes(300_000)).serialize(mask=True)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(peer.sock, frame[:100_000])
        await turns()
        await loop.sock_sendall(peer.sock, frame[100_000:])
        while not peer.application.messages:
            await turns()
        assert peer.application.messages.pop() == counting_bytes(300_000)
        assert tracemalloc.get_traced_memory()[0] - before > 300_000
        await peer.pass_time(2)
        assert tracemalloc.get_traced_memory()[0] - before < 50_000
    finally:
        tracemalloc.stop()


async def test_large_message_and_the_small_ones_around_it_arrive_in_order(peer: Peer) -> None:
    await peer.open()
    expected = [b"before", counting_bytes(2 * MIB), b"after"]
    await asyncio.gather(*[peer.send(b"".join(expected[:1]))])
    for message in expected[1:]:
        await peer.send(message)
    while len(peer.application.messages) < 3:
        await turns()
    assert peer.application.messages == expected


async def test_bug_in_the_application_ends_this_connection_with_1011(peer: Peer) -> None:
    await peer.open()
    peer.application.fails = True
    await peer.send(b"x")
    (frame,) = await peer.events()
    assert isinstance(frame, Frame)
    assert peer.protocol.close_rcvd is not None
    assert peer.protocol.close_rcvd.code == 1011
    peer.sock.close()
    assert await peer.end() == "internal_error"


async def test_close_waits_for_what_is_due_and_for_the_peer_but_not_for_ever(peer: Peer) -> None:
    await peer.open()
    peer.application.due.append(OutgoingMessage(Rope([b"last words"])))
    peer.websocket.close(1001, "bye", label="drained")
    peer.websocket.close(1000, "", label="requested")
    message, close = await peer.events()
    assert isinstance(message, Frame)
    assert bytes(message.data) == b"last words"
    assert isinstance(close, Frame)
    assert peer.protocol.close_rcvd is not None
    assert (peer.protocol.close_rcvd.code, peer.protocol.close_rcvd.reason) == (1001, "bye")
    assert peer.application.lost_because is None
    await peer.pass_time(CLOSE_TIMEOUT_S + 1)
    assert await peer.end() == "drained"


async def test_close_waits_as_long_as_a_slow_peer_takes_what_is_due(peer: Peer) -> None:
    """A program that reads a long answer slowly and has said goodbye already gets all of it."""
    await peer.open()
    message = counting_bytes(4 * MIB)
    peer.application.due.append(OutgoingMessage(Rope([message])))
    peer.websocket.close(1000, "", label="requested")
    received = b""
    while len(received) < len(message):
        await peer.pass_time(CLOSE_TIMEOUT_S - 1)
        for frame in await peer.events():
            assert isinstance(frame, Frame)
            received += bytes(frame.data) if frame.opcode in (Opcode.BINARY, Opcode.CONT) else b""
        await turns()
    assert received == message
    assert peer.now - 1000 > 5 * CLOSE_TIMEOUT_S
    await peer.pass_time(2 * CLOSE_TIMEOUT_S)
    assert await peer.end() == "requested"


async def test_close_does_not_wait_for_a_peer_that_takes_nothing(peer: Peer) -> None:
    await peer.open()
    peer.application.due.append(OutgoingMessage(Rope([bytes(4 * MIB)])))
    peer.websocket.close(1000, "", label="requested")
    await turns()
    await peer.pass_time(2 * CLOSE_TIMEOUT_S)
    assert await peer.end() == "requested"


async def test_messages_after_our_close_are_not_received(peer: Peer) -> None:
    await peer.open()
    peer.websocket.close(1000, "", label="requested")
    await peer.events()
    loop = asyncio.get_running_loop()
    for nbytes in (10, MIB):
        await loop.sock_sendall(peer.sock, Frame(Opcode.BINARY, bytes(nbytes)).serialize(mask=True))
        await turns(50)
    assert peer.application.messages == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True), "peer_closed"),
        (Frame(Opcode.CLOSE, b"\x00\x01").serialize(mask=True), "protocol_error"),
        (b"\x83\x80\0\0\0\0", "protocol_error"),
        (b"\x82\xff\0\0\0\0\xff\0\0\0\0\0\0\0", "too_big"),
        (b"", "connection_lost"),
    ],
)
async def test_reason_of_the_end_is_counted_under_its_label(peer: Peer, data: bytes, reason: str) -> None:
    await peer.open()
    await asyncio.get_running_loop().sock_sendall(peer.sock, data)
    peer.sock.shutdown(socket.SHUT_WR)
    assert await peer.end() == reason
