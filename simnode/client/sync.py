"""The client without asyncio. Enters: calls from any thread. Leaves: results. Next: `loop_thread.py`.

::

    with simnode.connect_sync("ws://127.0.0.1:7509") as client:
        key = client.put(code=wasm, state=b"hello")
        print(bytes(client.get(key).state))

An event loop in a background thread does the work; each method does what its namesake of
`Client` does, with the same arguments and exceptions, and blocks the calling thread meanwhile.
Should that thread end, every call raises `ClientClosed` with what ended it as its cause; so it does
in a process that was forked. Under gevent's monkey-patching one such client can be open at a time,
because asyncio allows one loop in a thread: opening a second one raises RuntimeError.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, cast

from simnode.client.addresses import KeyLike
from simnode.client.client import Client
from simnode.client.connecting import connect
from simnode.client.delegates import Delegates
from simnode.client.inbox import Notification
from simnode.client.loop_thread import LoopThread
from simnode.client.queries import Node
from simnode.client.streams import ResponseStream, StateStream
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.responses import HostResult

P = ParamSpec("P")
R = TypeVar("R")


class _Waiting(Generic[R]):
    """Things that come one after the other; what an interrupted caller did not get is the next caller's."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self._left: deque[R] = deque()

    def take(self, coroutine: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """The next one, which `coroutine` waits for if need be."""
        try:
            return self._left.popleft()
        except IndexError:
            return self._thread.run(coroutine(), undo=self._keep)

    def _keep(self, item: R) -> None:
        if item is not _END:  # which comes again
            self._left.append(item)


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

    def __init__(self, thread: LoopThread, subject: ResponseStream) -> None:
        super().__init__(thread, subject)
        self._pieces: _Waiting[memoryview | object] = _Waiting(thread)

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
        return _iterate(self._pieces, self._subject)

    def close(self) -> None:
        """Nobody wants the rest."""

        async def close() -> None:
            self._subject.close()

        self._thread.run(close())


class SyncStateStream(_Blocking):
    """As `StateStream`, to be iterated over with `for`."""

    _subject: StateStream

    def __init__(self, thread: LoopThread, subject: StateStream) -> None:
        super().__init__(thread, subject)
        self._pieces: _Waiting[memoryview | object] = _Waiting(thread)

    @property
    def key(self) -> ContractKey:
        """The contract's key."""
        return self._subject.key

    @property
    def total_bytes(self) -> int:
        """Length of the state."""
        return self._subject.total_bytes

    def __iter__(self) -> Iterator[memoryview]:
        return _iterate(self._pieces, aiter(self._subject))


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
    send = _blocking(Client.send)
    authenticate = _blocking(Client.authenticate)

    def __init__(self, client: Client) -> None:
        super().__init__(LoopThread(), client)
        self.node = SyncNode(self._thread, client.node)
        self.delegates = SyncDelegates(self._thread, client.delegates)
        self._notifications: _Waiting[Notification | object] = _Waiting(self._thread)
        self._results: _Waiting[HostResult] = _Waiting(self._thread)
        self._streams: _Waiting[ResponseStream] = _Waiting(self._thread)

    def open(self) -> None:
        """Starts the thread and connects; `with` does it by itself.

        Raises:
            As `Client.open`; RuntimeError and OSError also when the thread or its event loop cannot be started.
        """
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
        return _iterate(self._notifications, self._subject.notifications())

    def next_notification(self, *, timeout_s: float | None = None) -> Notification:
        """The next one of `notifications()`; see `Client.next_notification`."""
        taken = self._notifications.take(partial(self._subject.next_notification, timeout_s=timeout_s))
        return cast(Notification, taken)

    def recv(self, *, timeout_s: float | None = None) -> HostResult:
        """The next thing that came; see `Client.recv`."""
        return self._results.take(partial(self._subject.recv, timeout_s=timeout_s))

    def recv_stream(self, *, timeout_s: float | None = None) -> SyncResponseStream:
        """The next announced answer, chunk by chunk; see `Client.recv_stream`."""
        stream = self._streams.take(partial(self._subject.recv_stream, timeout_s=timeout_s))
        return SyncResponseStream(self._thread, stream)

    @contextmanager
    def get_stream(self, contract: KeyLike, *, timeout_s: float | None = None) -> Iterator[SyncStateStream]:
        """A contract's state in pieces; see `Client.get_stream`."""
        context = self._subject.get_stream(contract, timeout_s=timeout_s)
        leave = partial(context.__aexit__, None, None, None)
        stream = self._thread.run(context.__aenter__(), undo=lambda _: self._thread.begin(leave()))
        try:
            yield SyncStateStream(self._thread, stream)
        finally:
            self._thread.run(leave())


def _like(make: Callable[P, Client]) -> Callable[P, SyncClient]:
    @functools.wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> SyncClient:
        return SyncClient(make(*args, **kwargs))

    return call


connect_sync = _like(connect)
"""As `connect`, with the same arguments, for `with` instead of `async with`; `on_event` is called in its thread."""

_END: Final = object()


def _iterate(waiting: _Waiting[R | object], items: AsyncIterator[R]) -> Iterator[R]:
    async def advance() -> R | object:
        return await anext(items, _END)

    while (item := waiting.take(advance)) is not _END:
        yield cast(R, item)
