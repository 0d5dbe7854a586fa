"""HandoverClient with a front door of the test's own, which may not read: nothing that it has to know is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from simnode.live.handover import ACKNOWLEDGED, ENDED, HELLO, LOAD, PACKET, SOCKET, HandoverClient
from tests.support.eventually import eventually

SLOT = 3
MORE_THAN_FIT = 600
"""Packets: the kernel's buffer between two processes takes some 280."""


class FrontDoor:
    """Listens, hands over, and reads when it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.adopted: list[socket.socket] = []
        self.client = HandoverClient(path, SLOT, self.adopted.append, lambda: False)
        self.listener: socket.socket | None = None
        self.sock: socket.socket | None = None
        self.heard: list[tuple[bytes, int]] = []

    def listen(self) -> None:
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.listener.setblocking(False)

    async def accept(self) -> None:
        loop = asyncio.get_running_loop()
        assert self.listener is not None
        async with asyncio.timeout(5):
            self.sock, _ = await loop.sock_accept(self.listener)
        self.heard.clear()

    def read(self) -> bool:
        """Takes what is there."""
        assert self.sock is not None
        while True:
            try:
                data = self.sock.recv(PACKET.size)
            except BlockingIOError:
                return True
            assert data, "the handler ended the connection"
            self.heard.append(PACKET.unpack(data))

    def hand_over(self, number: int) -> None:
        assert self.sock is not None
        ours, theirs = socket.socketpair()
        with ours, theirs:
            socket.send_fds(self.sock, [PACKET.pack(SOCKET, number)], [theirs.fileno()])

    def die(self) -> None:
        assert self.sock is not None
        assert self.listener is not None
        self.sock.close()
        self.listener.close()

    async def close(self) -> None:
        await self.client.close()
        for sock in (self.sock, self.listener, *self.adopted):
            if sock is not None:
                sock.close()


async def turns(number: int = 20) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


Run = Callable[[Callable[[FrontDoor], Awaitable[None]]], None]


@pytest.fixture(params=[asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Runs a coroutine with a front door that a handler is connected to; no callback of the loop may raise."""
    failures: list[dict[str, Any]] = []

    async def with_front_door(body: Callable[[FrontDoor], Awaitable[None]]) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        front_door = FrontDoor(tmp_path / "front_door.sock")
        front_door.listen()
        front_door.client.start()
        try:
            await front_door.accept()
            await eventually(lambda: front_door.read() and front_door.heard == [(HELLO, SLOT), (LOAD, 0)])
            front_door.heard.clear()
            await body(front_door)
        finally:
            await front_door.close()

    def run(body: Callable[[FrontDoor], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(with_front_door(body))
        assert not failures, "an exception in a callback of the event loop"

    return run


def ends(heard: list[tuple[bytes, int]]) -> int:
    return sum(number for kind, number in heard if kind == ENDED)


async def fill(front_door: FrontDoor) -> None:
    """Has more clients come and end than the front door can be told of without reading."""
    for taken in range(MORE_THAN_FIT):
        front_door.hand_over(taken)
        await eventually(lambda taken=taken: front_door.read() and len(front_door.heard) > taken)
    front_door.heard.clear()
    while front_door.adopted:
        front_door.adopted.pop().close()
        front_door.client.socket_ended()


def test_every_socket_that_ended_is_told_however_late_the_front_door_reads(run: Run) -> None:
    async def body(front_door: FrontDoor) -> None:
        await fill(front_door)
        await turns()
        await eventually(lambda: front_door.read() and ends(front_door.heard) == MORE_THAN_FIT)
        assert len(front_door.heard) < MORE_THAN_FIT / 2, "what waited is told in one packet"

    run(body)


def test_socket_that_cannot_be_acknowledged_now_is_adopted_later_on_the_same_connection(run: Run) -> None:
    """Nor before: the front door may think that this process is stuck, and have placed it elsewhere."""

    async def body(front_door: FrontDoor) -> None:
        await fill(front_door)
        front_door.hand_over(7)
        front_door.hand_over(8)
        await turns(100)
        assert front_door.adopted == []
        await eventually(lambda: front_door.read() and len(front_door.adopted) == 2)
        await eventually(lambda: front_door.read() and ends(front_door.heard) == MORE_THAN_FIT)
        assert [packet for packet in front_door.heard if packet[0] != ENDED] == [(ACKNOWLEDGED, 7), (ACKNOWLEDGED, 8)]

    run(body)


def test_socket_whose_acknowledgement_waits_is_let_go_when_the_front_door_dies(run: Run) -> None:
    """The next front door is told what is here, exactly."""

    async def body(front_door: FrontDoor) -> None:
        await fill(front_door)
        front_door.hand_over(7)
        await turns()
        front_door.die()
        front_door.listen()
        await front_door.accept()
        await eventually(lambda: front_door.read() and len(front_door.heard) == 2)
        assert front_door.heard == [(HELLO, SLOT), (LOAD, 0)]
        assert front_door.adopted == []
        front_door.hand_over(8)
        await eventually(lambda: front_door.adopted)

    run(body)
