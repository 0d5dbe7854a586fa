"""FrontDoor with handlers of the test's own: who waits, who is placed where, who is turned away and why."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from simnode.live import front_door
from simnode.live.front_door import FrontDoor
from simnode.live.handover import ACKNOWLEDGED, ENDED, HELLO, LOAD, PACKET, SOCKET
from simnode.live.pulse import Pulse
from simnode.live.settings import NodeSettings
from simnode.metrics.layout import layout_of
from simnode.metrics.model import Kind, Role
from simnode.metrics.reader import read_slab
from simnode.metrics.slab import StatsSlab, slab_path
from tests.support.eventually import eventually

RESET_AT_ONCE = struct.pack("ii", 1, 0)
FULL = b"The node has all the clients it takes"
NOT_NOW = b"The node cannot take the connection now"


class Handler:
    """A handler's end of the handover, which does what it is told and no more."""

    def __init__(self, settings: NodeSettings, slot: int, *, connections: int = 0) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.connect(str(settings.socket_path("front_door")))
        self.sock.setblocking(False)
        self.tell(HELLO, slot)
        self.tell(LOAD, connections)
        #: what it was handed, in order, by the port of the client
        self.ports: list[int] = []

    def tell(self, kind: bytes, number: int) -> None:
        self.sock.send(PACKET.pack(kind, number))

    def has_been_handed_something(self) -> bool:
        try:
            return bool(self.sock.recv(PACKET.size, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    def take(self) -> int:
        """Acknowledges all that has come; returns how much that was."""
        taken = 0
        while True:
            try:
                data, (descriptor,), _, _ = socket.recv_fds(self.sock, PACKET.size, 1)
            except BlockingIOError:
                return taken
            kind, number = PACKET.unpack(data)
            assert kind == SOCKET
            with socket.socket(fileno=descriptor) as client:
                self.ports.append(client.getpeername()[1])
                self.user_timeout_ms = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
            self.tell(ACKNOWLEDGED, number)
            taken += 1


class Door:
    """A front door, and clients at it."""

    def __init__(self, settings: NodeSettings) -> None:
        self.settings = settings
        slab = StatsSlab.open(settings.run_dir, Role.FRONT_DOOR, 0, now_s=Pulse.now())
        self.front_door = FrontDoor(settings, slab)
        self.clients: list[socket.socket] = []
        self.handlers: list[Handler] = []
        self.port = 0
        self.is_drained = False

    async def drain(self) -> None:
        if not self.is_drained:
            self.is_drained = True
            await self.front_door.drain()

    def connect(self, number: int) -> list[socket.socket]:
        """That many clients, one after the other, which have said something already."""
        added = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(number)]
        for client in added:
            client.setblocking(False)
            client.send(b"GET / HTTP/1.1\r\n")
        self.clients += added
        return added

    async def handler(self, slot: int = 0, *, connections: int = 0) -> Handler:
        self.handlers.append(Handler(self.settings, slot, connections=connections))
        await turns()
        return self.handlers[-1]

    def refusals(self) -> dict[str, int]:
        """How many were turned away, by reason."""
        cells = read_slab(slab_path(self.settings.run_dir, Role.FRONT_DOOR, 0)).cells
        block = layout_of(Role.FRONT_DOOR).block("simnode_connections_refused_total", Kind.COUNTER)
        return {reason: int(cells[cell]) for (reason,), cell in block.cells.items() if cells[cell]}


async def turns(number: int = 20) -> None:
    """Lets the event loop do what is ready."""
    for _ in range(number):
        await asyncio.sleep(0)


async def answer_to(client: socket.socket) -> bytes:
    """All that a client is told before its connection ends in order."""
    loop, answer = asyncio.get_running_loop(), b""
    async with asyncio.timeout(5):
        while data := await loop.sock_recv(client, 4096):
            answer += data
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    return answer.partition(b"\r\n\r\n")[2]


def port_of(client: socket.socket) -> int:
    port: int = client.getsockname()[1]
    return port


@asynccontextmanager
async def opened(settings: NodeSettings) -> AsyncIterator[Door]:
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    door = Door(settings)
    door.port = await door.front_door.start()
    try:
        yield door
    finally:
        await door.drain()
        for handler in door.handlers:
            handler.sock.close()
        for client in door.clients:
            client.close()
        await turns()
    assert not failures, "an exception in a callback of the event loop"


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    """One handler with room for 700 clients."""
    return NodeSettings(run_dir=tmp_path, data_dir=tmp_path / "data", port=0, handlers=1, connections_per_handler=700)


async def test_burst_below_the_cap_waits_for_a_slow_handler_and_is_served_in_order(settings: NodeSettings) -> None:
    """The socket between the two processes holds fewer; its being full says nothing about the node."""
    async with opened(settings) as door:
        handler = await door.handler()
        clients = door.connect(700)
        await turns(100)
        assert door.refusals() == {}
        while len(handler.ports) < 700:
            await eventually(handler.take)
        assert handler.ports == [port_of(client) for client in clients]
        (excess,) = door.connect(1)
        assert await answer_to(excess) == FULL
        assert door.refusals() == {"connection_limit": 1}


async def test_client_that_ends_makes_room_for_another(settings: NodeSettings) -> None:
    async with opened(dataclasses.replace(settings, connections_per_handler=3)) as door:
        handler = await door.handler()
        door.connect(3)
        await eventually(lambda: handler.take() == 0 and len(handler.ports) == 3)
        handler.tell(ENDED, 2)
        await turns()
        *fitting, excess = door.connect(3)
        assert await answer_to(excess) == FULL
        await eventually(lambda: handler.take() == 0 and len(handler.ports) == 5)
        assert handler.ports[3:] == [port_of(client) for client in fitting]


async def test_clients_wait_for_a_handler_to_come_but_not_more_than_the_node_takes(settings: NodeSettings) -> None:
    async with opened(dataclasses.replace(settings, handlers=2, connections_per_handler=2)) as door:
        *waiting, excess = door.connect(5)
        assert await answer_to(excess) == FULL
        assert door.refusals() == {"connection_limit": 1}
        for slot in range(2):
            handler = await door.handler(slot)
            await eventually(lambda handler=handler: handler.take() == 0 and len(handler.ports) == 2)
        ports = [port for handler in door.handlers for port in handler.ports]
        assert ports == [port_of(client) for client in waiting]


async def test_first_client_after_a_start_goes_to_the_handler_with_the_fewest_connections(
    settings: NodeSettings,
) -> None:
    """Which is known when all handlers have come; they come one after the other."""
    async with opened(dataclasses.replace(settings, handlers=2)) as door:
        busy = await door.handler(0, connections=3)
        clients = door.connect(4)
        await turns(100)
        assert not busy.has_been_handed_something()
        idle = await door.handler(1)
        await eventually(lambda: busy.take() + idle.take() == 0 and len(busy.ports + idle.ports) == 4)
        assert idle.ports == [port_of(client) for client in clients[:3]]
        assert busy.ports == [port_of(clients[3])]


async def test_handler_that_is_away_leaves_the_other_ones_cap_as_it_is(settings: NodeSettings) -> None:
    """Who finds the other handler full waits for the one that is about to be there again."""
    async with opened(dataclasses.replace(settings, handlers=2, connections_per_handler=2)) as door:
        first = await door.handler(0)
        clients = door.connect(3)
        await eventually(lambda: first.take() == 0 and len(first.ports) == 2)
        await turns()
        assert first.take() == 0
        assert door.refusals() == {}
        second = await door.handler(1)
        await eventually(lambda: second.take() == 0 and second.ports)
        assert second.ports == [port_of(clients[2])]


async def test_clients_that_waited_for_a_handler_are_too_many_when_it_comes_with_clients(
    settings: NodeSettings,
) -> None:
    async with opened(dataclasses.replace(settings, connections_per_handler=3)) as door:
        first, *excess = door.connect(3)
        await turns()
        handler = await door.handler(connections=2)
        assert [await answer_to(client) for client in excess] == [FULL, FULL]
        assert door.refusals() == {"connection_limit": 2}
        await eventually(lambda: handler.take() == 0 and handler.ports)
        assert handler.ports == [port_of(first)]


async def test_wait_ends_after_a_while_and_is_counted_as_what_it_was(
    settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether no handler is there, or the one that is there takes none."""
    monkeypatch.setattr(front_door, "PLACING_TIMEOUT_S", 0.2)
    async with opened(settings) as door:
        clients = door.connect(2)
        assert [await answer_to(client) for client in clients] == [NOT_NOW, NOT_NOW]
        assert door.refusals() == {"no_handler": 2}
        await door.handler()
        clients = door.connect(front_door.UNACKNOWLEDGED_SOCKETS + 1)
        assert await answer_to(clients[-1]) == NOT_NOW
        assert door.refusals() == {"no_handler": 3}


async def test_client_is_not_handed_from_one_stuck_handler_to_the_next_for_ever(
    settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_door, "PLACING_TIMEOUT_S", 0.2)
    monkeypatch.setattr(front_door, "ACKNOWLEDGE_TIMEOUT_S", 0.4)
    async with opened(dataclasses.replace(settings, handlers=2)) as door:
        await door.handler(0)
        await door.handler(1)
        (client,) = door.connect(1)
        assert await answer_to(client) == NOT_NOW
        assert door.refusals() == {"no_handler": 1}


async def test_sockets_of_a_stuck_handler_go_to_another_before_those_that_came_later(
    settings: NodeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_door, "ACKNOWLEDGE_TIMEOUT_S", 0.2)
    async with opened(dataclasses.replace(settings, handlers=2, connections_per_handler=70)) as door:
        stuck = await door.handler(0)
        clients = door.connect(70)  # more than one handler is handed before it has taken one
        await eventually(stuck.has_been_handed_something)
        other = await door.handler(1)
        await eventually(lambda: other.take() == 0 and len(other.ports) >= 70 - front_door.UNACKNOWLEDGED_SOCKETS)
        later = list(other.ports)
        await eventually(lambda: other.take() == 0 and len(other.ports) == 70)
        ports = [port_of(client) for client in clients]
        assert later == ports[front_door.UNACKNOWLEDGED_SOCKETS :]
        assert other.ports == later + ports[: front_door.UNACKNOWLEDGED_SOCKETS]
        assert door.refusals() == {}
        assert stuck.ports == []


async def test_waiting_client_that_resets_leaves_its_place_to_another(settings: NodeSettings) -> None:
    async with opened(dataclasses.replace(settings, connections_per_handler=2)) as door:
        first, second = door.connect(2)
        await turns()
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
        first.close()
        await eventually(lambda: door.refusals() == {"handshake_failed": 1})
        (third,) = door.connect(1)
        await turns()
        handler = await door.handler()
        await eventually(lambda: handler.take() == 0 and len(handler.ports) == 2)
        assert handler.ports == [port_of(second), port_of(third)]


async def test_client_that_waits_when_the_node_ends_is_told(settings: NodeSettings) -> None:
    async with opened(settings) as door:
        handler = await door.handler()
        *handed, waiting = door.connect(front_door.UNACKNOWLEDGED_SOCKETS + 1)
        await turns()
        await door.drain()
        assert await answer_to(waiting) == NOT_NOW
        handler.sock.close()  # as a handler does that is drained next
        assert await answer_to(handed[0]) == NOT_NOW


@pytest.mark.parametrize("progress_timeout_s", [5.0, 60.0, 600.0])
async def test_kernel_gives_a_stalled_client_up_long_after_its_handler_has(
    settings: NodeSettings, progress_timeout_s: float
) -> None:
    """Else it depends on chance whether the connection is counted as stalled or as lost."""
    async with opened(dataclasses.replace(settings, progress_timeout_s=progress_timeout_s)) as door:
        handler = await door.handler()
        door.connect(1)
        await eventually(handler.take)
        assert handler.user_timeout_ms >= 1.5 * 1000 * progress_timeout_s
