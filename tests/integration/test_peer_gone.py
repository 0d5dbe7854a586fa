"""A peer that resets its connection is noticed at once: in every state of a WebSocket, on both event loops.

What the peer does is done between two turns of the loop, so that its bytes and its reset are found together.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import uvloop
from websockets.frames import Frame, Opcode

from simnode.live.sockets.handshake import AccessRules
from simnode.live.sockets.peer_watch import PeerWatch
from simnode.live.sockets.websocket import SCRATCH_BYTES, WebSocket
from simnode.protocol.blob import Rope
from simnode.protocol.limits import MIB
from simnode.protocol.outbox import OutgoingMessage
from simnode.protocol.reassembly import Sink
from tests.support import recorder
from tests.support.eventually import eventually
from tests.support.vectors import counting_bytes

UPGRADE = (
    b"GET /v1/contract/command HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
RESET_AT_ONCE = struct.pack("ii", 1, 0)
BUFFER_BYTES = 4 * MIB


def binary(message: bytes) -> bytes:
    return Frame(Opcode.BINARY, message).serialize(mask=True)


@dataclass
class Recorder(recorder.Recorder):
    """One that gives room only if it is told to."""

    gives_room: bool = True
    rooms_wanted: int = 0

    def room_needed(self, nbytes: int, sink: Sink | None) -> None:
        self.rooms_wanted += 1
        if self.gives_room:
            super().room_needed(nbytes, sink)


class Connection:
    """A WebSocket on a TCP connection, and its peer."""

    def __init__(self) -> None:
        self.application = Recorder()
        self.peer_watch = PeerWatch()
        self.peer_watch.start()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            # set before the window is agreed on, so that the peer's bytes wait in the node's kernel
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            self.peer = socket.create_connection(listener.getsockname())
            self.sock, _ = listener.accept()
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self.peer.setblocking(False)
        self.sock.setblocking(False)
        self.websocket = WebSocket(
            self.sock,
            scratch=memoryview(bytearray(SCRATCH_BYTES)),
            peer_watch=self.peer_watch,
            application=lambda websocket: self.application,
            rules=AccessRules(),
            max_message_bytes=32 * MIB,
            now=lambda: 1000.0,  # no deadline ever passes, and `check` is never called
            ended=lambda websocket: None,
        )
        self.application.websocket = self.websocket
        self.websocket.start()

    async def open(self) -> None:
        self.peer.send(UPGRADE)
        await eventually(lambda: self.application.opened_with is not None)
        assert (await asyncio.get_running_loop().sock_recv(self.peer, 4096)).startswith(b"HTTP/1.1 101")

    def reset(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
        self.peer.close()

    async def lost(self) -> str:
        await eventually(lambda: self.application.lost_because is not None)
        assert self.application.lost_because is not None
        return self.application.lost_because

    def close(self) -> None:
        self.websocket.abort("drained")
        self.peer_watch.close()
        self.peer.close()


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def shaking_hands(connection: Connection) -> None:
    connection.peer.send(UPGRADE[:50])


async def turned_away(connection: Connection) -> None:
    connection.peer.send(UPGRADE.replace(b"/v1/", b"/v9/"))
    await asyncio.get_running_loop().sock_recv(connection.peer, 4096)


async def idle(connection: Connection) -> None:
    await connection.open()


async def reading_a_small_message(connection: Connection) -> None:
    await connection.open()
    connection.peer.send(binary(bytes(1000))[:500])


async def reading_a_large_frame(connection: Connection) -> None:
    """With more in the kernel than one read takes."""
    await connection.open()
    assert connection.peer.send(binary(bytes(20 * MIB))[: 3 * SCRATCH_BYTES]) > 2 * SCRATCH_BYTES


async def waiting_for_room(connection: Connection) -> None:
    await connection.open()
    connection.application.gives_room = False
    assert connection.peer.send(binary(bytes(20 * MIB))[: 3 * SCRATCH_BYTES]) > 2 * SCRATCH_BYTES
    await eventually(lambda: connection.application.rooms_wanted)


async def about_to_wait_for_room(connection: Connection) -> None:
    """The reset is there before the frame's header is read."""
    await connection.open()
    connection.application.gives_room = False
    connection.peer.send(binary(bytes(20 * MIB))[: 3 * SCRATCH_BYTES])


async def paused(connection: Connection) -> None:
    await connection.open()
    connection.websocket.pause()


async def paused_with_bytes_unread(connection: Connection) -> None:
    """The event loop has been asked to watch the socket no more."""
    await connection.open()
    connection.websocket.pause()
    connection.peer.send(binary(b"unread"))
    await turns()


async def waiting_for_the_socket(connection: Connection) -> None:
    await connection.open()
    connection.application.due.append(OutgoingMessage(Rope([bytes(32 * MIB)]), "token"))
    connection.websocket.send_soon()
    await turns()
    assert connection.websocket.unsent_bytes, "the socket is full"


async def waiting_for_the_socket_while_paused(connection: Connection) -> None:
    await waiting_for_the_socket(connection)
    connection.websocket.pause()
    connection.peer.send(binary(b"unread"))
    await turns()


async def closing_with_much_due(connection: Connection) -> None:
    await waiting_for_the_socket(connection)
    connection.websocket.close(1001, "bye", label="drained")
    await turns()


async def closed_on_our_side(connection: Connection) -> None:
    await connection.open()
    connection.websocket.close(1001, "bye", label="drained")
    await turns()


async def closed_on_our_side_while_paused(connection: Connection) -> None:
    await paused_with_bytes_unread(connection)
    connection.websocket.close(1001, "bye", label="drained")
    await turns()


STATES: dict[Callable[[Connection], Awaitable[None]], str] = {
    shaking_hands: "handshake_failed",
    turned_away: "unknown_path",
    idle: "connection_lost",
    reading_a_small_message: "connection_lost",
    reading_a_large_frame: "connection_lost",
    waiting_for_room: "connection_lost",
    about_to_wait_for_room: "connection_lost",
    paused: "connection_lost",
    paused_with_bytes_unread: "connection_lost",
    waiting_for_the_socket: "connection_lost",
    waiting_for_the_socket_while_paused: "connection_lost",
    closing_with_much_due: "drained",
    closed_on_our_side: "drained",
    closed_on_our_side_while_paused: "drained",
}


@pytest.fixture(params=[asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[Connection], Awaitable[None]]], None]:
    """Runs a coroutine with a connection; no callback of the event loop may raise."""
    failures: list[dict[str, Any]] = []

    async def with_connection(body: Callable[[Connection], Awaitable[None]]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        connection = Connection()
        try:
            await body(connection)
        finally:
            connection.close()
            await turns()

    def run(body: Callable[[Connection], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(with_connection(body))
        assert not failures, "an exception in a callback of the event loop"

    return run


Run = Callable[[Callable[[Connection], Awaitable[None]]], None]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_reset_is_noticed_without_a_tick_or_a_ping(run: Run, state: Callable[[Connection], Awaitable[None]]) -> None:
    async def body(connection: Connection) -> None:
        await state(connection)
        connection.reset()
        assert await connection.lost() == STATES[state]

    run(body)


def test_everything_that_came_before_the_reset_is_received(run: Run) -> None:
    """A program that sends and exits without reading its answers resets the connection; what it sent counts."""
    expected = [b"%d" % number + counting_bytes(30_000) for number in range(60)]

    async def body(connection: Connection) -> None:
        await connection.open()
        wire = b"".join(map(binary, expected))
        assert connection.peer.send(wire) == len(wire)
        assert len(wire) > 2 * SCRATCH_BYTES, "one read does not take it"
        connection.reset()
        assert await connection.lost() == "connection_lost"
        assert connection.application.messages == expected

    run(body)


def test_close_frame_before_a_reset_is_the_reason(run: Run) -> None:
    async def body(connection: Connection) -> None:
        await connection.open()
        connection.peer.send(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
        connection.reset()
        assert await connection.lost() == "peer_closed"

    run(body)


def test_peer_that_only_ends_its_own_direction_is_not_gone(run: Run) -> None:
    """It may have sent its last request, and want the answer."""

    async def body(connection: Connection) -> None:
        await paused_with_bytes_unread(connection)
        connection.peer.shutdown(socket.SHUT_WR)
        await turns(100)
        assert connection.application.lost_because is None
        connection.websocket.resume()
        assert await connection.lost() == "connection_lost"
        assert connection.application.messages == [b"unread"]

    run(body)


def test_socket_that_another_process_still_holds_is_watched_no_more_once_it_is_closed(run: Run) -> None:
    """The front door keeps its copy of a socket until the handler's word for it has arrived."""

    async def body(connection: Connection) -> None:
        await connection.open()
        with connection.sock.dup():
            connection.websocket.abort("drained")
            connection.reset()
            await turns(100)
        assert connection.application.lost_because == "drained"

    run(body)
