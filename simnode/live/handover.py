"""Connected sockets from one process to another. Enters: a socket. Leaves: the same, elsewhere. Next: `front_door.py`.

Over a unix-domain SEQPACKET socket: the descriptor travels as SCM_RIGHTS with the two bytes of its
message. The front door keeps its copy until it is acknowledged, so a handler that dies with a
socket in its queue costs that client nothing.

Messages, each one packet. Front door to handler: `S` + u32 number, with the descriptor. Handler to
front door: `H` + u32 slot, then `L` + u32 sockets it has already, both once; `A` + u32 number, this
one is taken; `E` + u32 number (of none), one ended.
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
        if self._sock is not None and not self._send(ENDED, 0):
            # full, or gone: a new connection begins with how many sockets are here
            self._disconnect()
            self.start()

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
            self._send(HELLO, self._slot)
            self._send(LOAD, self._taken)
            loop.add_reader(sock.fileno(), self._on_readable)
            return

    def _on_readable(self) -> None:
        assert self._sock is not None
        while self._sock is not None:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._sock, PACKET.size, 1)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._disconnect()
                self.start()
                return
            _, number = PACKET.unpack(data)
            if not descriptors:
                logger.error("out of file descriptors: a client has to wait")
                self._starved()
                continue  # it is placed anew when it was not acknowledged for long enough
            sock = socket.socket(fileno=descriptors[0])
            if not self._send(ACKNOWLEDGED, number):
                # nobody heard that it is here: a front door that took this process for stuck has
                # placed it elsewhere, and two readers would each get half of its bytes
                sock.close()
                continue
            self._taken += 1
            self._adopt(sock)

    def _send(self, kind: bytes, number: int) -> bool:
        """Whether the front door will hear it: it may be gone, or stopped with its socket full."""
        assert self._sock is not None
        try:
            self._sock.send(PACKET.pack(kind, number))
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _disconnect(self) -> None:
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock = None
