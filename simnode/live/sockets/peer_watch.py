"""Hears of peers that are gone. Enters: sockets. Leaves: a call for each that is lost. Next: `websocket.py`.

A reader callback of the event loop does not suffice. While reading is paused there is none; and
uvloop calls one once for a reset and then drops it, whether or not the reset has been read.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable


class PeerWatch:
    """Watches the sockets of one process for errors and for the end of both directions, and reads nothing.

    An epoll set that waits for no event is still told of EPOLLERR and EPOLLHUP: of a reset, of
    keepalive that gave up, and of a connection that both sides have ended. It costs two system
    calls in the life of a socket, and none for each read. A peer that has only ended its own
    direction may still want its answers; it is not gone.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        #: file descriptor -> what to call
        self._watched: dict[int, Callable[[], object]] = {}

    def start(self) -> None:
        """Begins to tell."""
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._hear)

    def add(self, fd: int, gone: Callable[[], object]) -> None:
        """Calls `gone` once, in a turn of the event loop of its own, when the peer of this socket is gone."""
        self._epoll.register(fd, select.EPOLLONESHOT)
        self._watched[fd] = gone

    def remove(self, fd: int) -> None:
        """Forgets a socket. Required before it is closed: another process may hold a copy of it, which would stay."""
        del self._watched[fd]
        self._epoll.unregister(fd)

    def close(self) -> None:
        """Watches nothing any more."""
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._watched.clear()

    def _hear(self) -> None:
        loop = asyncio.get_running_loop()
        for fd, _ in self._epoll.poll(0):
            # not called here, so that what one raises takes the news from no other
            loop.call_soon(self._watched[fd])
