"""One question, one answer of the right class. Enters: requests. Leaves: responses. Next: `link.py`."""

from __future__ import annotations

import asyncio
import mmap
from typing import Any, TypeVar, overload

from simnode.client.exceptions import ReplyBroken
from simnode.client.link import Link
from simnode.client.replies import Reply
from simnode.protocol.blob import Blob
from simnode.protocol.keys import code_hash
from simnode.protocol.limits import MIB
from simnode.protocol.messages.requests import ClientRequest

HASHED_AT_ONCE_BYTES = MIB

BytesLike = bytes | bytearray | memoryview | mmap.mmap | Blob
"""A payload. It is read where it lies as it is sent, so it must not change before the call returns."""

R = TypeVar("R", bound=Reply)
S = TypeVar("S", bound=Reply)


class Asker:
    """Asks over whatever connection a link has just now.

    Args:
        link: of the client.
        timeout_s: for questions that bring none of their own.
    """

    def __init__(self, link: Link, timeout_s: float) -> None:
        self._link = link
        self.timeout_s = timeout_s

    @overload
    async def ask(
        self, request: ClientRequest, expected: type[R], *, timeout_s: float | None, wants_stream: bool = False
    ) -> R: ...

    @overload
    async def ask(
        self,
        request: ClientRequest,
        expected: tuple[type[R], type[S]],
        *,
        timeout_s: float | None,
        wants_stream: bool = False,
    ) -> R | S: ...

    async def ask(
        self,
        request: ClientRequest,
        expected: type[Any] | tuple[type[Any], type[Any]],
        *,
        timeout_s: float | None,
        wants_stream: bool = False,
    ) -> Reply:
        """The answer to a request.

        Raises:
            ReplyBroken: an answer of another class came (the node's fault); else as `Session.request`.
        """
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        session = await self._link.session(timeout_s)
        reply = await session.request(request, timeout_s=timeout_s, wants_stream=wants_stream)
        wanted: tuple[type[Reply], ...] = expected if isinstance(expected, tuple) else (expected,)
        if not isinstance(reply, wanted):
            raise ReplyBroken(f"{type(request).__name__} was answered with {type(reply).__name__}")
        return reply

    async def post(self, request: ClientRequest, *, timeout_s: float | None = None) -> None:
        """Sends a request whose answer, if any, is for `recv()`; raises as `Session.post`."""
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        session = await self._link.session(timeout_s)
        await session.post(request, timeout_s=timeout_s)


def blob_of(value: BytesLike) -> Blob:
    """A payload as a Blob, without a copy."""
    return value if isinstance(value, Blob) else Blob(memoryview(value))


async def hash_of(code: Blob) -> bytes:
    """BLAKE3 of code; of much code in a thread, because it would hold up the event loop for tens of milliseconds."""
    return await asyncio.to_thread(code_hash, code) if len(code) > HASHED_AT_ONCE_BYTES else code_hash(code)
