"""The client without asyncio. Enters: calls from any thread. Leaves: results. Next: `../protocol/connection.py`.

::

    with simnode.connect_sync("ws://127.0.0.1:7509") as client:
        key = client.put(code=wasm, state=b"hello")
        print(bytes(client.get(key).state))

An event loop in a background thread does the work; each method does what its namesake of
`Client` does, with the same arguments and exceptions, and blocks the calling thread meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar, cast

from simnode.client.addresses import KeyLike
from simnode.client.client import Client
from simnode.client.connecting import connect
from simnode.client.delegates import Delegates
from simnode.client.exceptions import ClientClosed
from simnode.client.inbox import Notification
from simnode.client.queries import Node
from simnode.client.streams import ResponseStream, StateStream
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.responses import HostResult

P = ParamSpec("P")
R = TypeVar("R")


class LoopThread:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a loop to run something in."""
        return self._loop is not None

    def start(self) -> None:
        """Returns when the loop runs."""
        running = threading.Event()

        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            running.set()
            await self._stop.wait()

        # a daemon, so that a client that was never closed does not keep the program alive
        self._thread = threading.Thread(target=asyncio.run, args=(main(),), name="simnode-client", daemon=True)
        self._thread.start()
        running.wait()

    def stop(self) -> None:
        """Ends the loop and its thread. May be called again."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = self._loop = self._stop = None

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Runs a coroutine there and waits for it; interrupting the wait cancels it."""
        if self._loop is None:
            coroutine.close()
            raise ClientClosed("the client is not open")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


class _Blocking:
    """Something whose coroutines run in a loop thread."""

    def __init__(self, thread: LoopThread, subject: Any) -> None:
        self._thread = thread
        self._subject = subject


def _blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[_Blocking, P], R]:
    @functools.wraps(method)
    def call(self: _Blocking, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._thread.run(method(self._subject, *args, **kwargs))

    return call


class SyncNode(_Blocking):
    """As `Node`."""

    connected_peers = _blocking(Node.connected_peers)
    subscriptions = _blocking(Node.subscriptions)
    diagnostics = _blocking(Node.diagnostics)
    neighbor_hosting = _blocking(Node.neighbor_hosting)


class SyncDelegates(_Blocking):
    """As `Delegates`."""

    register = _blocking(Delegates.register)
    unregister = _blocking(Delegates.unregister)
    send = _blocking(Delegates.send)


class SyncResponseStream(_Blocking):
    """As `ResponseStream`, to be iterated over with `for`."""

    _subject: ResponseStream

    collect = _blocking(ResponseStream.collect)

    @property
    def key(self) -> ContractKey | None:
        """The contract whose state is coming."""
        return self._subject.key

    @property
    def total_bytes(self) -> int:
        """Length of the serialized response."""
        return self._subject.total_bytes

    @property
    def received_bytes(self) -> int:
        """How much of it has arrived."""
        return self._subject.received_bytes

    def __iter__(self) -> Iterator[memoryview]:
        return _iterate(self._thread, self._subject)

    def close(self) -> None:
        """Nobody wants the rest."""

        async def close() -> None:
            self._subject.close()

        self._thread.run(close())


class SyncStateStream(_Blocking):
    """As `StateStream`, to be iterated over with `for`."""

    _subject: StateStream

    @property
    def key(self) -> ContractKey:
        """The contract's key."""
        return self._subject.key

    @property
    def total_bytes(self) -> int:
        """Length of the state."""
        return self._subject.total_bytes

    def __iter__(self) -> Iterator[memoryview]:
        return _iterate(self._thread, aiter(self._subject))


class SyncClient(_Blocking):
    """As `Client`; made by `connect_sync`, open inside `with`. Threads may share it.

    Attributes:
        node: what the node tells about itself.
        delegates: the node's delegates.
    """

    _subject: Client

    put = _blocking(Client.put)
    get = _blocking(Client.get)
    update = _blocking(Client.update)
    subscribe = _blocking(Client.subscribe)
    full_key = _blocking(Client.full_key)
    next_notification = _blocking(Client.next_notification)
    send = _blocking(Client.send)
    authenticate = _blocking(Client.authenticate)

    def __init__(self, client: Client) -> None:
        super().__init__(LoopThread(), client)
        self.node = SyncNode(self._thread, client.node)
        self.delegates = SyncDelegates(self._thread, client.delegates)

    def open(self) -> None:
        """Starts the thread and connects; `with` does it by itself."""
        self._thread.start()
        try:
            self._thread.run(self._subject.open())
        except BaseException:
            self._thread.stop()
            raise

    def close(self) -> None:
        """Ends the connection and the thread. May be called again."""
        if not self._thread.is_running:
            return
        try:
            self._thread.run(self._subject.close())
        finally:
            self._thread.stop()

    def disconnect(self, cause: str | None = None) -> None:
        """Takes leave of the node with a reason, then closes."""
        self._thread.run(self._subject.disconnect(cause))
        self.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def unsent_bytes(self) -> int:
        """Bytes of requests that the socket has not taken yet; for progress bars."""
        return self._subject.unsent_bytes

    def notifications(self) -> Iterator[Notification]:
        """The updates of all subscribed contracts, as they come; see `Client.notifications`."""
        return _iterate(self._thread, self._subject.notifications())

    def recv(self, *, timeout_s: float | None = None) -> HostResult:
        """The next thing that came; see `Client.recv`."""
        return self._thread.run(self._subject.recv(timeout_s=timeout_s))

    def recv_stream(self, *, timeout_s: float | None = None) -> SyncResponseStream:
        """The next announced answer, chunk by chunk; see `Client.recv_stream`."""
        return SyncResponseStream(self._thread, self._thread.run(self._subject.recv_stream(timeout_s=timeout_s)))

    @contextmanager
    def get_stream(self, contract: KeyLike, *, timeout_s: float | None = None) -> Iterator[SyncStateStream]:
        """A contract's state in pieces; see `Client.get_stream`."""
        context = self._subject.get_stream(contract, timeout_s=timeout_s)
        stream = self._thread.run(context.__aenter__())
        try:
            yield SyncStateStream(self._thread, stream)
        finally:
            self._thread.run(context.__aexit__(None, None, None))


def _like(make: Callable[P, Client]) -> Callable[P, SyncClient]:
    @functools.wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> SyncClient:
        return SyncClient(make(*args, **kwargs))

    return call


connect_sync = _like(connect)
"""As `connect`, with the same arguments, for `with` instead of `async with`; `on_event` is called in its thread."""

_END: Final = object()


def _iterate(thread: LoopThread, items: AsyncIterator[R]) -> Iterator[R]:
    async def advance() -> R | object:
        return await anext(items, _END)

    while (item := thread.run(advance())) is not _END:
        yield cast(R, item)
