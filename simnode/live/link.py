"""Messages between the processes of one node: length-prefixed msgpack over a unix-domain socket.

Enters: calls and casts. Leaves: their answers, in order. Next: `reassembly_service.py`, a user of it.

A *call* is answered (a result, or a `LinkRefusal` of the other side), a *cast* is not. A round trip
takes some 40 µs, where an actor call takes a millisecond; order is kept, where async actors reorder;
and the end of the other process shows at once as `lost`. What is sent in one turn of the event loop,
or while one read is taken, leaves in one write.

Wire: u32 little-endian length, then one msgpack array: `[0, id, method, args]` a call,
`[1, id, result]` and `[2, id, code, text]` its answers, `[3, method, args]` a cast.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import msgpack

logger = logging.getLogger(__name__)

_LENGTH = struct.Struct("<I")
_CALL, _RESULT, _REFUSED, _CAST = range(4)

MAX_LINK_MESSAGE_BYTES = 16 * 1024 * 1024
"""Far above any message of ours (payloads travel by reference): more means the peer is none of us."""


class LinkLost(ConnectionError):
    """The other process is gone.

    Args:
        text: for people.
        may_have_heard: whether the call was sent, so that it is unknown whether it was carried out.
    """

    def __init__(self, text: str, *, may_have_heard: bool = False) -> None:
        super().__init__(text)
        self.may_have_heard = may_have_heard


class LinkRefusal(Exception):
    """The other side said no.

    Args:
        code: from a closed set that caller and callee share.
        text: for people, and fit to be sent to a client.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


FAILED = "failed"
"""The code of a call whose `Handle` raised something else than a refusal: a bug, in the log of its process."""

UNKNOWN_CALL = "unknown_call"
"""The code of a call or cast that the other side's role does not know."""

LinkError = LinkLost | LinkRefusal
"""Why a call has no result."""

LATER = object()
"""What a handle returns for a call that it answers later, with `Link.answer` or `Link.refuse`."""

Handle = Callable[["Link", str, list[Any]], Any]
"""`(link, method, args) -> result`, or `LATER`; raises `LinkRefusal` to refuse a call.

Whatever else it raises is a bug. A call is refused as `FAILED` then: its caller knows, and the others
go on. A cast ends the link: nobody would know, and a link that is made anew begins with both sides
saying what they have.
"""

Answer = Callable[[Any, LinkError | None], None]
"""`(result, None)`, or `(None, error)`. What it raises is logged, and costs nobody else's answer."""


class Link(asyncio.BufferedProtocol):
    """One end of a connection between two processes.

    Args:
        handle: is called with every call and cast that comes in, in order.
        on_lost: is called once when the connection ends, whoever ended it.
    """

    def __init__(self, handle: Handle, on_lost: Callable[[Link], None]) -> None:
        self._handle = handle
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(64 * 1024))
        self._filled = 0
        self._next_id = 0
        self._pending: dict[int, Answer] = {}
        self._pack = msgpack.Packer(use_bin_type=True).pack
        self._loop = asyncio.get_running_loop()
        #: lengths and messages that leave in one system call, with the next `flush`
        self._outgoing: list[bytes] = []
        #: whether somebody will call `flush` for what is sent now
        self._is_flush_due = False
        #: the call that `handle` is being asked; wanted by `answer` and `refuse` if it returns `LATER`
        self.call_id = 0
        #: what the peer has said it is: an object of the owner's types; None until it has introduced itself
        self.peer: object | None = None
        self.is_lost = False

    # ---- for the owner -----------------------------------------------------------------------

    def ask(self, method: str, args: Sequence[Any], answer: Answer) -> None:
        """Asks the other side; `answer` is called once, but never before this returns.

        Its error is a `LinkRefusal` when the other side said no, a `LinkLost` when it is gone.
        """
        if self.is_lost:
            self._loop.call_soon(answer, None, LinkLost(method))
            return
        self._next_id += 1
        self._send([_CALL, self._next_id, method, args])
        self._pending[self._next_id] = answer  # now, because what cannot be packed is never answered

    def call(self, method: str, *args: Any) -> asyncio.Future[Any]:
        """As `ask`, for a coroutine: await the result.

        Raises (through the future):
            LinkRefusal: the other side said no.
            LinkLost: it is gone.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self.ask(method, args, partial(_resolve, future))
        return future

    def cast(self, method: str, *args: Any) -> None:
        """Tells the other side; nothing comes back. Lost silently with the link: `on_lost` is the news."""
        if not self.is_lost:
            self._send([_CAST, method, args])

    def cast_later(self, method: str, *args: Any) -> None:
        """As `cast`, for what is not urgent: it leaves with whatever is sent next, or with `flush`."""
        if not self.is_lost:
            self._queue([_CAST, method, args])

    def answer(self, call_id: int, result: Any) -> None:
        """Answers a call that `handle` put off; it leaves with the next `flush`."""
        self._queue([_RESULT, call_id, result])

    def refuse(self, call_id: int, refusal: LinkRefusal) -> None:
        """Refuses a call that `handle` put off, in the manner of `answer`."""
        self._queue([_REFUSED, call_id, refusal.code, str(refusal)])

    def flush(self) -> None:
        """Sends what has been queued."""
        self._is_flush_due = False
        outgoing = self._outgoing
        if not outgoing:
            return
        self._outgoing = []
        if not self.is_lost:
            assert self._transport is not None
            self._transport.write(b"".join(outgoing))

    @property
    def queued_bytes(self) -> int:
        """Bytes that were sent and that the other process has not taken."""
        return 0 if self._transport is None or self.is_lost else self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Ends the connection once what was sent is out."""
        if self._transport is not None:
            self.flush()
            self._transport.close()

    # ---- asyncio -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        pending, self._pending = self._pending, {}
        for answer in pending.values():
            _give(answer, None, LinkLost("the other process is gone", may_have_heard=True))
        self._on_lost(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        filled = self._filled
        if not filled:
            return self._buffer
        if len(self._buffer) - filled < 4096:
            larger = memoryview(bytearray(2 * len(self._buffer)))
            larger[:filled] = self._buffer[:filled]
            self._buffer = larger
        return self._buffer[filled:]

    def buffer_updated(self, nbytes: int) -> None:
        buffer, filled, at = self._buffer, self._filled + nbytes, 0
        self._is_flush_due = True  # what is sent meanwhile leaves below
        while filled - at >= 4:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > MAX_LINK_MESSAGE_BYTES:
                raise ValueError(f"a link message of {length} bytes: the peer is no process of this node")
            body = at + 4
            if filled - body < length:
                break
            at = body + length
            self._take(msgpack.unpackb(buffer[body:at]))
        if at and at < filled:
            buffer[: filled - at] = bytes(buffer[at:filled])
        self._filled = filled - at
        self.flush()

    # ---- inside ------------------------------------------------------------------------------

    def _send(self, message: list[Any]) -> None:
        self._queue(message)
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self.flush)

    def _queue(self, message: list[Any]) -> None:
        body = self._pack(message)
        self._outgoing += (_LENGTH.pack(len(body)), body)

    def _take(self, message: list[Any]) -> None:
        kind = message[0]
        if kind == _RESULT:
            answer = self._pending.pop(message[1])
            try:  # not `_give`, because every small write passes here
                answer(message[2], None)
            except Exception:
                logger.exception("taking an answer failed")
        elif kind == _CALL:
            self._carry_out(message[1], message[2], message[3])
        elif kind == _CAST:
            try:
                result = self._handle(self, message[1], message[2])
            except LinkRefusal as refusal:
                logger.warning("%s was refused: %s", message[1], refusal.__cause__ or refusal)
                return
            assert result is not LATER, f"{message[1]} is cast, so nobody awaits it"
        elif kind == _REFUSED:
            _give(self._pending.pop(message[1]), None, LinkRefusal(message[2], message[3]))
        else:
            raise ValueError("not a link message")

    def _carry_out(self, call_id: int, method: str, args: list[Any]) -> None:
        self.call_id = call_id
        try:
            result = self._handle(self, method, args)
        except LinkRefusal as refusal:
            self.refuse(call_id, refusal)
            return
        except Exception:
            logger.exception("%s failed", method)
            self.refuse(call_id, LinkRefusal(FAILED, "internal error of the node"))
            return
        if result is not LATER:
            self._queue([_RESULT, call_id, result])


def _give(answer: Answer, result: Any, error: LinkError | None) -> None:
    try:
        answer(result, error)
    except Exception:  # a bug of the caller's own: the other calls of this link are none of its business
        logger.exception("taking an answer failed")


def _resolve(future: asyncio.Future[Any], result: Any, error: LinkError | None) -> None:
    if future.done():
        return  # its caller was cancelled
    if error is None:
        future.set_result(result)
        return
    future.set_exception(error)
    if isinstance(error, LinkLost):
        future.exception()  # its caller may be gone as well


Kind = TypeVar("Kind")


class LinkServer:
    """Listens for links on a unix-domain socket.

    Nothing is sent to a link before its peer has said what it is, but for the answers to its calls:
    who has something to tell takes the links from `introduced`.

    Args:
        path: of the socket file; replaced when it is there (a dead incarnation's).
        handle: for every call and cast of every link.
        on_lost: for every link that ends.
    """

    def __init__(self, path: Path, handle: Handle, on_lost: Callable[[Link], None]) -> None:
        self._path = path
        self._handle = handle
        self._on_lost = on_lost
        self._server: asyncio.AbstractServer | None = None
        #: those that are up, introduced or not
        self._links: set[Link] = set()

    def introduced(self, kind: type[Kind]) -> list[tuple[Link, Kind]]:
        """The links whose peer has said that it is of this kind."""
        return [(link, link.peer) for link in self._links if isinstance(link.peer, kind)]

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.get_running_loop().create_unix_server(self._accept, str(self._path))

    def _accept(self) -> Link:
        link = Link(self._handle, self._lost)
        self._links.add(link)
        return link

    def _lost(self, link: Link) -> None:
        self._links.discard(link)
        self._on_lost(link)

    async def close(self) -> None:
        """Stops listening, ends every link and takes the socket file away."""
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.close()
        self._path.unlink(missing_ok=True)


class LinkClient:
    """A link that is made anew whenever it is lost.

    Args:
        path: of the other side's socket.
        handle: for what the other side calls and casts.
        on_up: is called with each new link before anything else is sent on it.
        retry_s: how long between attempts.
    """

    def __init__(self, path: Path, handle: Handle, on_up: Callable[[Link], None], *, retry_s: float = 0.05) -> None:
        self._path = path
        self._handle = handle
        self._on_up = on_up
        self._retry_s = retry_s
        self._task: asyncio.Task[None] | None = None
        #: the link when it is up, else None
        self.link: Link | None = None
        self._lost = asyncio.Event()
        self._up = asyncio.Event()

    def start(self) -> None:
        """Begins to connect, in the background."""
        self._task = asyncio.get_running_loop().create_task(self._keep_connected())

    async def wait_up(self) -> None:
        """Waits until the link is up."""
        await self._up.wait()

    def ask(self, method: str, args: Sequence[Any], answer: Answer) -> None:
        """As `Link.ask`; the answer is a `LinkLost` while the other side is away."""
        if self.link is not None:
            self.link.ask(method, args, answer)
        else:
            asyncio.get_running_loop().call_soon(answer, None, LinkLost(method))

    def call(self, method: str, *args: Any) -> asyncio.Future[Any]:
        """As `Link.call`; fails with `LinkLost` while the other side is away."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.ask(method, args, partial(_resolve, future))
        return future

    def cast(self, method: str, *args: Any) -> bool:
        """As `Link.cast`; False when the other side is away."""
        if self.link is None:
            return False
        self.link.cast(method, *args)
        return True

    def cast_later(self, method: str, *args: Any) -> None:
        """As `Link.cast_later`; nothing when the other side is away."""
        if self.link is not None:
            self.link.cast_later(method, *args)

    @property
    def queued_bytes(self) -> int:
        """As `Link.queued_bytes`."""
        return 0 if self.link is None else self.link.queued_bytes

    def flush(self) -> None:
        """As `Link.flush`."""
        if self.link is not None:
            self.link.flush()

    async def close(self) -> None:
        """Ends the link for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.link is not None:
            self.link.close()

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._lost.clear()
            try:
                _, link = await loop.create_unix_connection(lambda: Link(self._handle, self._on_lost), str(self._path))
            except OSError as error:
                if not isinstance(error, FileNotFoundError | ConnectionRefusedError):
                    logger.warning("cannot connect to %s: %s", self._path.name, error)  # its backlog may be full
                await asyncio.sleep(self._retry_s)
                continue
            if link.is_lost:  # before this coroutine went on
                continue
            self.link = link
            try:
                self._on_up(link)
            except Exception:  # a bug, or an index that cannot be read: without a greeting the link is of no use
                logger.exception("cannot greet %s", self._path.name)
                self.link = None
                link.close()
                await asyncio.sleep(self._retry_s)
                continue
            self._up.set()
            await self._lost.wait()

    def _on_lost(self, link: Link) -> None:
        if link is self.link:
            self.link = None
            self._up.clear()
            self._lost.set()
