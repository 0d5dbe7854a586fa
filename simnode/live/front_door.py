"""The process that accepts. Enters: clients at the port. Leaves: their sockets, to handlers. Next: `handler.py`.

It judges no byte of a connection: it chooses the handler with the fewest connections and passes the
socket on. A socket that no handler can take now waits here, in order. Beyond the node's connections,
and after too long a wait, it answers 503 without listening to the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from dataclasses import dataclass, field
from functools import partial

from simnode.live.handover import ACKNOWLEDGED, ENDED, HELLO, LOAD, PACKET, SOCKET
from simnode.live.pulse import Pulse
from simnode.live.settings import NodeSettings
from simnode.live.sockets.peer_watch import PeerWatch
from simnode.live.sockets.upgrade import HANDSHAKE_FAILED, MAX_REQUEST_BYTES
from simnode.metrics.slab import StatsSlab

logger = logging.getLogger(__name__)

BACKLOG = 1024
ACCEPTED_AT_ONCE = 64
"""After so many, handlers are heard: the loop is never blocked for long."""

UNACKNOWLEDGED_SOCKETS = 64
"""The most that a handler is handed without having acknowledged them: the kernel's buffer takes four times as many."""

GATHERING_S = 0.25
"""How long after its start the front door waits for the rest of the handlers before it places the first client: which
of them has the fewest connections is not known before. They try to connect five times meanwhile."""

ACKNOWLEDGE_TIMEOUT_S = 2.0
PLACING_TIMEOUT_S = 10.0
"""How long a client waits for a handler at most. A handler that died is there again after one or two seconds."""

CANNOT_TAKE_NOW = (errno.EAGAIN, errno.ETOOMANYREFS, errno.EPIPE, errno.ECONNRESET)
"""What handing over fails with when the buffers between the processes are full, or the handler is just gone."""

SOCKET_BUFFER_BYTES = 1024 * 1024
"""Kernel buffers of a client's socket, each way: enough for a fast peer, and little to hide backlog in."""

NOTSENT_LOWAT_BYTES = 256 * 1024
USER_TIMEOUT_PER_PROGRESS_TIMEOUT = 2
"""The kernel's deadline for a peer that takes nothing, over the handler's. Were they equal, chance would say whether
the connection is counted as stalled or as lost."""


def _unavailable(text: bytes) -> bytes:
    return (
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s"
    ) % (len(text), text)


FULL = _unavailable(b"The node has all the clients it takes")
NOT_NOW = _unavailable(b"The node cannot take the connection now")


@dataclass(slots=True, eq=False)
class _Client:
    """An accepted socket that no handler has acknowledged."""

    sock: socket.socket
    accepted_at: float


@dataclass(slots=True, eq=False)
class _Handler:
    """A connected handler.

    Attributes:
        connections: that it has, those that it has not acknowledged among them.
        unacknowledged: what it was handed, by number, and when.
    """

    sock: socket.socket
    slot: int = -1
    connections: int = 0
    unacknowledged: dict[int, tuple[_Client, float]] = field(default_factory=dict)


class FrontDoor:
    """Accepts clients and spreads them over the handlers.

    Args:
        settings: of the node.
        slab: this process's stats.
    """

    def __init__(self, settings: NodeSettings, slab: StatsSlab) -> None:
        self._settings = settings
        self._max_clients = settings.handlers * settings.connections_per_handler
        self._user_timeout_ms = int(1000 * USER_TIMEOUT_PER_PROGRESS_TIMEOUT * settings.progress_timeout_s)
        #: connected handlers that have told their load
        self._handlers: set[_Handler] = set()
        self._listener: socket.socket | None = None
        self._door: socket.socket | None = None
        self._is_accepting = False
        self._is_draining = False
        #: a client is placed from now on although a handler is away
        self._has_gathered = False
        self._number = 0
        #: accepted clients that no handler can take now, oldest first; a dict for its order alone
        self._waiting: dict[_Client, None] = {}
        #: a client may be gone before it is placed
        self._peer_watch = PeerWatch()
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
        # a burst as large as the cap is not dropped by the kernel, as far as it may hold so many
        self._listener.listen(max(BACKLOG, self._max_clients))
        self._peer_watch.start()
        loop.call_later(GATHERING_S, self._end_gathering)
        self._accept_on_readable()
        self._pulse.start()
        port: int = self._listener.getsockname()[1]
        return port

    def _accept_on_readable(self) -> None:
        assert self._listener is not None
        self._is_accepting = True
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept_clients)

    async def drain(self) -> None:
        """Accepts no more clients, and turns away those that still wait for a handler."""
        self._is_draining = True
        self._pulse.stop()
        loop = asyncio.get_running_loop()
        for sock in (self._listener, self._door):
            if sock is not None:
                loop.remove_reader(sock.fileno())
                sock.close()
        for client in list(self._waiting):
            self._turn_away(client, "no_handler", NOT_NOW)
        self._peer_watch.close()
        self._settings.socket_path("front_door").unlink(missing_ok=True)

    # ---- handlers ----------------------------------------------------------------------------

    def _end_gathering(self) -> None:
        self._has_gathered = True
        self._place_waiting()

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
                break
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
                self._turn_away_excess()
            elif kind == ACKNOWLEDGED:
                client, _ = handler.unacknowledged.pop(number)
                client.sock.close()
            elif kind == ENDED:
                handler.connections -= number
        self._place_waiting()

    def _lose(self, handler: _Handler) -> None:
        """A handler is gone; the sockets it had not taken go to another, before those that came later."""
        asyncio.get_running_loop().remove_reader(handler.sock.fileno())
        handler.sock.close()
        self._handlers.discard(handler)
        if self._is_draining:
            for client, _ in handler.unacknowledged.values():
                self._turn_away(client, "no_handler", NOT_NOW)
            return
        later, self._waiting = self._waiting, {}
        for client, _ in handler.unacknowledged.values():
            self._wait(client)
        self._waiting |= later
        self._place_waiting()

    # ---- clients -----------------------------------------------------------------------------

    def _accept_clients(self) -> None:
        assert self._listener is not None
        for _ in range(ACCEPTED_AT_ONCE):
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
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._user_timeout_ms)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)
            self._admit(_Client(sock, self._pulse.now()))

    def _admit(self, client: _Client) -> None:
        if self._clients >= self._max_clients:
            self._turn_away(client, "connection_limit", FULL)
        elif self._waiting or not self._place(client):
            self._wait(client)

    @property
    def _clients(self) -> int:
        """Clients that wait and clients that handlers have. A handler that is away counts for none until it is back."""
        return len(self._waiting) + sum(handler.connections for handler in self._handlers)

    def _place(self, client: _Client) -> bool:
        """Hands a socket to the handler with the fewest connections of those that can take one now, if one can."""
        if not self._has_gathered and len(self._handlers) < self._settings.handlers:
            return False
        cap = self._settings.connections_per_handler
        for handler in sorted(self._handlers, key=lambda handler: (handler.connections, handler.slot)):
            if handler.connections >= cap:
                break
            if len(handler.unacknowledged) >= UNACKNOWLEDGED_SOCKETS:
                continue
            self._number = (self._number + 1) & 0xFFFFFFFF
            try:
                socket.send_fds(handler.sock, [PACKET.pack(SOCKET, self._number)], [client.sock.fileno()])
            except OSError as error:
                if error.errno not in CANNOT_TAKE_NOW:
                    raise
                continue
            handler.connections += 1
            handler.unacknowledged[self._number] = (client, self._pulse.now())
            return True
        return False

    def _wait(self, client: _Client) -> None:
        self._waiting[client] = None
        self._peer_watch.add(client.sock.fileno(), partial(self._client_gone, client))

    def _wait_no_more(self, client: _Client) -> None:
        del self._waiting[client]
        self._peer_watch.remove(client.sock.fileno())

    def _place_waiting(self) -> None:
        while self._waiting:
            client = next(iter(self._waiting))
            if self._pulse.now() - client.accepted_at > PLACING_TIMEOUT_S:
                self._turn_away(client, "no_handler", NOT_NOW)
            elif self._place(client):
                self._wait_no_more(client)
            else:
                return

    def _client_gone(self, client: _Client) -> None:
        if client in self._waiting:  # else it was placed meanwhile, and its handler hears of it
            self._wait_no_more(client)
            self._refused[(HANDSHAKE_FAILED,)].inc()
            client.sock.close()

    def _turn_away_excess(self) -> None:
        """Turns the newest away if there are too many: a handler that comes back brings connections of its own."""
        while self._waiting and self._clients > self._max_clients:
            self._turn_away(next(reversed(self._waiting)), "connection_limit", FULL)

    def _turn_away(self, client: _Client, reason: str, reply: bytes) -> None:
        if client in self._waiting:
            self._wait_no_more(client)
        self._refused[(reason,)].inc()
        with contextlib.suppress(OSError):
            # the request, unheard: the kernel resets a connection that is closed with bytes unread, and the
            # reply may be lost with it
            client.sock.recv(MAX_REQUEST_BYTES)
        with contextlib.suppress(OSError):
            client.sock.send(reply)
            client.sock.shutdown(socket.SHUT_WR)  # a stuck handler may hold a copy, so that closing ends nothing
        client.sock.close()

    # ---- time --------------------------------------------------------------------------------

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
        self._place_waiting()
        for client in list(self._waiting):
            if now_s - client.accepted_at > PLACING_TIMEOUT_S:
                self._turn_away(client, "no_handler", NOT_NOW)
