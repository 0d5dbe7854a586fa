"""Connected sockets from one process to another. Enters: a socket. Leaves: the same, elsewhere. Next: `front_door.py`.

Over a unix-domain SEQPACKET socket: the descriptor travels as SCM_RIGHTS with the two bytes of its
message. The front door keeps its copy until it is acknowledged, so a handler that dies with a
socket in its queue costs that client nothing.

Messages, each one packet. Front door to handler: `S` + u32 number, with the descriptor. Handler to
front door: `H` + u32 slot, then `L` + u32 sockets it has already, both once; `A` + u32 number, this
one is taken; `E` + u32, so many ended.

The kernel's buffer between the two holds a few hundred packets. A side that finds it full waits
until there is room again, and forgets nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

PACKET = struct.Struct("<cI")
HELLO, LOAD, SOCKET, ACKNOWLEDGED, ENDED = b"H", b"L", b"S", b"A", b"E"
RETRY_S = 0.05


class HandoverClient:
    """The handler's end; connects again when the front door was away.

    Args:
        path: of the front door's socket.
        slot: of this handler.
        adopt: is called with each socket.
        starved: is called when no descriptor was left for one.
    """

    def __init__(
        self, path: Path, slot: int, adopt: Callable[[socket.socket], None], starved: Callable[[], object]
    ) -> None:
        self._path = path
        self._slot = slot
        self._adopt = adopt
        self._starved = starved
        self._sock: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        #: sockets that are here
        self._taken = 0
        #: sockets that ended and that the front door has not been told of
        self._untold_ends = 0
        #: a socket that has come, and its number: nobody has been told that it is here
        self._arrived: tuple[socket.socket, int] | None = None
        #: whether the front door has to read before it can be told anything
        self._is_full = False

    def start(self) -> None:
        """Begins to connect, in the background."""
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def close(self) -> None:
        """Takes no more sockets. The front door places what is not acknowledged elsewhere."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._disconnect()

    def socket_ended(self) -> None:
        """A socket that was handed over is closed: there is room for another."""
        self._taken -= 1
        if self._sock is not None:  # else a new connection begins with how many sockets are here
            self._untold_ends += 1
            self._tell()

    # ---- inside ------------------------------------------------------------------------------

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock = None
            try:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                sock.setblocking(False)
                await loop.sock_connect(sock, str(self._path))
            except OSError as error:  # whatever it is: a handler that gave up would get no client ever again
                if sock is not None:
                    sock.close()
                if not isinstance(error, FileNotFoundError | ConnectionRefusedError):
                    logger.warning("cannot connect to the front door: %s", error)  # its backlog may be full
                await asyncio.sleep(RETRY_S)
                continue
            self._sock = sock
            if self._send(HELLO, self._slot) and self._send(LOAD, self._taken):
                loop.add_reader(sock.fileno(), self._on_readable)
            return

    def _on_readable(self) -> None:
        while self._sock is not None and self._arrived is None:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._sock, PACKET.size, 1)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._connect_again()
                return
            _, number = PACKET.unpack(data)
            if not descriptors:
                logger.error("out of file descriptors: a client has to wait")
                self._starved()
                continue  # it is placed anew when it was not acknowledged for long enough
            self._arrived = (socket.socket(fileno=descriptors[0]), number)
            self._tell()

    def _tell(self) -> None:
        """Tells the front door all that it does not know, or as much as there is room for."""
        if self._untold_ends and self._send(ENDED, self._untold_ends):
            self._untold_ends = 0
        if self._arrived is not None:
            sock, number = self._arrived
            # adopted only when the front door will hear of it: one that took this process for stuck has
            # placed the socket elsewhere, and two readers would each get half of its bytes
            if self._send(ACKNOWLEDGED, number):
                self._arrived = None
                self._taken += 1
                self._adopt(sock)

    def _send(self, kind: bytes, number: int) -> bool:
        """Whether the front door will hear it. If it is gone, another connection is made."""
        if self._sock is None or self._is_full:
            return False
        try:
            self._sock.send(PACKET.pack(kind, number))
        except BlockingIOError:
            self._is_full = True
            loop, fd = asyncio.get_running_loop(), self._sock.fileno()
            loop.remove_reader(fd)  # what came could not be acknowledged
            loop.add_writer(fd, self._on_writable)
            return False
        except (BrokenPipeError, ConnectionResetError):
            self._connect_again()
            return False
        return True

    def _on_writable(self) -> None:
        assert self._sock is not None
        loop, fd = asyncio.get_running_loop(), self._sock.fileno()
        self._is_full = False
        loop.remove_writer(fd)
        loop.add_reader(fd, self._on_readable)
        self._tell()

    def _connect_again(self) -> None:
        self._disconnect()
        self.start()

    def _disconnect(self) -> None:
        """The front door places what it has no word of elsewhere, and is told the number of sockets next time."""
        if self._sock is not None:
            loop, fd = asyncio.get_running_loop(), self._sock.fileno()
            loop.remove_reader(fd)
            loop.remove_writer(fd)
            self._sock.close()
            self._sock = None
        if self._arrived is not None:
            self._arrived[0].close()
            self._arrived = None
        self._untold_ends = 0
        self._is_full = False
