"""The process that accepts. Enters: clients at the port. Leaves: their sockets, to handlers. Next: `handler.py`.

It reads no byte of a connection: it chooses the handler with the fewest connections and passes the
socket on. Beyond the node's connections it answers 503 without listening to the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass, field

from simnode.live.handover import ACKNOWLEDGED, ENDED, HELLO, LOAD, PACKET, SOCKET
from simnode.live.pulse import Pulse
from simnode.live.settings import NodeSettings
from simnode.metrics.slab import StatsSlab

logger = logging.getLogger(__name__)

BACKLOG = 1024
ACKNOWLEDGE_TIMEOUT_S = 2.0
SOCKET_BUFFER_BYTES = 1024 * 1024
"""Kernel buffers of a client's socket, each way: enough for a fast peer, and little to hide backlog in."""

NOTSENT_LOWAT_BYTES = 256 * 1024
USER_TIMEOUT_MS = 60_000

FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 37\r\n\r\n"
    b"The node has all the clients it takes"
)


@dataclass(slots=True, eq=False)
class _Handler:
    """A connected handler: its load, and the sockets it has not acknowledged with the time they were sent."""

    sock: socket.socket
    slot: int = -1
    connections: int = 0
    unacknowledged: dict[int, tuple[socket.socket, float]] = field(default_factory=dict)


class FrontDoor:
    """Accepts clients and spreads them over the handlers.

    Args:
        settings: of the node.
        slab: this process's stats.
    """

    def __init__(self, settings: NodeSettings, slab: StatsSlab) -> None:
        self._settings = settings
        self._handlers: set[_Handler] = set()
        self._listener: socket.socket | None = None
        self._door: socket.socket | None = None
        self._is_accepting = False
        self._number = 0
        #: accepted while no handler was there
        self._homeless: list[socket.socket] = []
        self._pulse = Pulse(slab, self._tick)
        self._refused = slab.counters("simnode_connections_refused_total")

    async def start(self) -> int:
        """Listens for handlers and clients; returns the port."""
        loop = asyncio.get_running_loop()
        path = self._settings.socket_path("front_door")
        path.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.setblocking(False)
        self._door.bind(str(path))
        self._door.listen(BACKLOG)
        loop.add_reader(self._door.fileno(), self._accept_handler)
        family = socket.AF_INET6 if ":" in self._settings.host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # inherited by what is accepted, and set before the window is agreed on
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        self._listener.bind((self._settings.host, self._settings.port))
        self._listener.listen(BACKLOG)
        self._accept_on_readable()
        self._pulse.start()
        port: int = self._listener.getsockname()[1]
        return port

    def _accept_on_readable(self) -> None:
        assert self._listener is not None
        self._is_accepting = True
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept_clients)

    async def drain(self) -> None:
        """Accepts no more."""
        self._pulse.stop()
        loop = asyncio.get_running_loop()
        for sock in (self._listener, self._door):
            if sock is not None:
                loop.remove_reader(sock.fileno())
                sock.close()
        for sock in self._homeless:
            self._refused[("no_handler",)].inc()
            sock.close()
        self._settings.socket_path("front_door").unlink(missing_ok=True)

    # ---- handlers ----------------------------------------------------------------------------

    def _accept_handler(self) -> None:
        assert self._door is not None
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._door.accept()
            sock.setblocking(False)
            handler = _Handler(sock)
            asyncio.get_running_loop().add_reader(sock.fileno(), self._hear, handler)

    def _hear(self, handler: _Handler) -> None:
        while True:
            try:
                data = handler.sock.recv(PACKET.size)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                self._lose(handler)
                return
            kind, number = PACKET.unpack(data)
            if kind == HELLO:
                handler.slot = number
            elif kind == LOAD:
                handler.connections = number
                self._handlers.add(handler)
                self._place_homeless()
            elif kind == ACKNOWLEDGED:
                sock, _ = handler.unacknowledged.pop(number)
                sock.close()
            elif kind == ENDED:
                handler.connections -= 1

    def _lose(self, handler: _Handler) -> None:
        """A handler is gone; the sockets it had not taken go to another."""
        asyncio.get_running_loop().remove_reader(handler.sock.fileno())
        handler.sock.close()
        self._handlers.discard(handler)
        for sock, _ in handler.unacknowledged.values():
            self._place(sock)

    def _place_homeless(self) -> None:
        homeless, self._homeless = self._homeless, []
        for sock in homeless:
            self._place(sock)

    # ---- clients -----------------------------------------------------------------------------

    def _accept_clients(self) -> None:
        assert self._listener is not None
        for _ in range(BACKLOG):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # out of descriptors, say: the backlog waits until the next tick, and is not asked till then
                logger.error("cannot accept: %s", error)
                asyncio.get_running_loop().remove_reader(self._listener.fileno())
                self._is_accepting = False
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)
            self._place(sock)

    def _place(self, sock: socket.socket) -> None:
        cap = self._settings.connections_per_handler
        for handler in sorted(self._handlers, key=lambda handler: (handler.connections, handler.slot)):
            if handler.connections >= cap:
                break
            self._number = (self._number + 1) & 0xFFFFFFFF
            try:
                socket.send_fds(handler.sock, [PACKET.pack(SOCKET, self._number)], [sock.fileno()])
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                continue  # stuck, or just gone: another takes it
            handler.connections += 1
            handler.unacknowledged[self._number] = (sock, self._pulse.now())
            return
        if not self._handlers:
            self._homeless.append(sock)  # a handler is about to be there: at the start, or again
            return
        self._refused[("connection_limit",)].inc()
        with contextlib.suppress(OSError):
            sock.send(FULL)
        sock.close()

    def _tick(self, now_s: float) -> None:
        """Places anew what a handler has not taken within `ACKNOWLEDGE_TIMEOUT_S`: it is stuck."""
        if not self._is_accepting:
            self._accept_on_readable()
        for handler in list(self._handlers):
            self._hear(handler)  # if it was this process that stood still, the acknowledgements are here
            if handler in self._handlers and any(
                now_s - sent_at > ACKNOWLEDGE_TIMEOUT_S for _, sent_at in handler.unacknowledged.values()
            ):
                logger.warning("handler %d takes no sockets", handler.slot)
                self._lose(handler)
