"""The public client. Enters: what a program asks of a node. Leaves: what the node says. Next: `operations.py`.

::

    async with simnode.connect("ws://127.0.0.1:7509") as client:
        key = await client.put(code=wasm, state=b"hello")
        got = await client.get(key)
        assert bytes(got.state) == b"hello"
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from simnode.client.asking import Asker
from simnode.client.delegates import Delegates
from simnode.client.inbox import Notification
from simnode.client.link import Link
from simnode.client.operations import ContractOperations
from simnode.client.queries import Node
from simnode.client.receiving import Receiver
from simnode.client.streams import ResponseStream
from simnode.protocol.messages.requests import Authenticate, ClientRequest, Disconnect
from simnode.protocol.messages.responses import HostResult


class Client(ContractOperations):
    """A connection to a node; made by `simnode.connect`, open inside `async with`.

    Any number of coroutines may use it at once, and their requests share the connection: a small
    one overtakes a large one, but not one about the same contract. All methods that ask raise

    - `RequestFailed` (`NotFound`, `ContractFailed`, `NodeUnavailable` …): the node said no;
    - `RequestTimeout`: nothing moved for the request during its `timeout_s`: none of its bytes
      were taken by the socket, none of a large answer arrived. (A large transfer that proceeds
      may take longer; `asyncio.timeout` limits the whole.)
    - `ConnectionLost`, `ClientClosed`, `AuthenticationFailed`: the connection ended first;
    - `CannotEncode`: the connection's encoding has no such request.

    Attributes:
        node: what the node tells about itself.
        delegates: the node's delegates.
    """

    def __init__(self, link: Link, receiver: Receiver, asker: Asker) -> None:
        super().__init__(link, asker)
        self.node = Node(asker)
        self.delegates = Delegates(asker)
        self._receiver = receiver

    # ---- lifetime ----------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects; `async with` does it by itself.

        Raises:
            HandshakeRefused: a server is there, but not for this request.
            ConnectionFailed: nobody is there.
        """
        await self._link.open()

    async def close(self) -> None:
        """Ends the connection; whatever is still under way fails with `ClientClosed`. May be called again."""
        await self._link.close()

    async def disconnect(self, cause: str | None = None) -> None:
        """Takes leave of the node with a reason, then closes."""
        await self._asker.post(Disconnect(cause=cause))
        await self.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def unsent_bytes(self) -> int:
        """Bytes of requests that the socket has not taken yet; for progress bars."""
        return self._link.unsent_bytes

    # ---- what comes unasked, and the low level -----------------------------------------------

    def notifications(self) -> AsyncIterator[Notification]:
        """The updates of all subscribed contracts, as they come, until the client is closed.

        ::

            async for note in client.notifications():
                if not note.is_current:
                    state = (await client.get(note.key)).state

        A delta always changes the state that the notifications before it lead to. When versions may
        be missing, after a loss of the connection or for lack of room, a notification without content
        says so, and the next one of that contract has the whole State. (For a contract that is
        subscribed to with a summary, the client gets that State itself once the contract has changed.)

        Those that wait to be taken may hold 64 MiB (`notification_buffer_bytes` of `connect`);
        beyond it the oldest lose their content, and say so (`Notification`).

        Raises:
            ConnectionLost: the connection ended, and is not to be made again.
        """
        return self._receiver.notifications()

    async def next_notification(self, *, timeout_s: float | None = None) -> Notification:
        """The next one of `notifications()`.

        Args:
            timeout_s: how long to wait; None: for ever.

        Raises:
            RequestTimeout: none came within `timeout_s`.
            ClientClosed, ConnectionLost: there will be none.
        """
        return await self._receiver.next_notification(timeout_s)

    async def send(self, request: ClientRequest, *, timeout_s: float | None = None) -> None:
        """Sends any request; its answer goes to `recv()` or `recv_stream()`. Returns when the socket has taken it."""
        await self._asker.post(request, timeout_s=timeout_s)

    async def recv(self, *, timeout_s: float | None = None) -> HostResult:
        """The next thing that came: the answer to a `send()` (errors as `Err`, not raised) or a notification.

        A chunked answer is put together first; an announced one has its place where it began.

        Args:
            timeout_s: how long to wait; None: for ever.

        Raises:
            RequestTimeout: nothing came within `timeout_s`.
            ReplyBroken: the answer to a `send()` could not be read.
            NotificationsDropped: for lack of room.
            ConnectionLost: in place of each answer that was still to come, then the end.
        """
        return await self._receiver.recv(timeout_s)

    async def recv_stream(self, *, timeout_s: float | None = None) -> ResponseStream:
        """The next announced answer to a `send()`, chunk by chunk, whatever came before it.

        Only a GET on a connection with `streaming=True` (native or msgpack) is announced, and only if
        its answer is large: else this waits for ever.

        Raises:
            RequestTimeout, ConnectionLost: as `recv`.
        """
        return await self._receiver.recv_stream(timeout_s)

    async def authenticate(self, token: str) -> None:
        """Shows the node another token; reconnecting uses it, too.

        A node says nothing to a valid one. An invalid one ends the connection, and what is under
        way fails with `AuthenticationFailed`.
        """
        await self._asker.post(Authenticate(token=token))
        self._link.token = token
