"""Keeps a connection up. Enters: an address. Leaves: the session of the moment. Next: `reconnecting.py`.

Without a `Backoff` the first loss is the end. With one, a lost connection is made anew, and what
the client was subscribed to is subscribed to again. Requests are not repeated: those under way
when the connection was lost fail with `ConnectionLost`, and only their author knows whether
doing them twice is harmless. Requests made meanwhile wait for the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import count
from random import Random

from simnode.client.client_limits import CLIENT_LIMITS
from simnode.client.dialing import Address, dial
from simnode.client.exceptions import (
    ClientClosed,
    ClientError,
    ConnectionFailed,
    NodeUnavailable,
    ReplyBroken,
    RequestFailed,
    RequestTimeout,
)
from simnode.client.inbox import Inbox
from simnode.client.reconnecting import (
    Backoff,
    ConnectionEvent,
    GaveUp,
    Lost,
    Restored,
    Retrying,
    SubscriptionLost,
    is_worth_retrying,
)
from simnode.client.replies import Reply
from simnode.client.session import Session
from simnode.client.subscriptions import Subscriptions
from simnode.client.waiting import Change
from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.keys import encode_base58
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.requests import Get, Subscribe
from simnode.protocol.messages.responses import GetResponse, HostResult, PutResponse, SubscribeResponse

logger = logging.getLogger("simnode.client")

RETRIES = Backoff(max_s=5.0)
"""How long to wait before asking again what a node that is there cannot answer just now."""

CLOSE_TIMEOUT_S = 5.0
"""How long a node may take to answer our close frame."""


def subscribed_key(reply: Reply) -> ContractKey:
    """The contract that a reply to SUBSCRIBE confirms.

    Raises:
        RequestFailed: the node did not subscribe.
        ReplyBroken: the reply is another one (the node's fault).
    """
    match reply:
        case SubscribeResponse(subscribed=False):
            raise RequestFailed("the node did not subscribe")
        case SubscribeResponse(key=key) | PutResponse(key=key):  # the reference's flatbuffers have PutResponse here
            return key
    raise ReplyBroken(f"Subscribe was answered with {type(reply).__name__}")


class Link:
    """The connection of one client, across losses.

    Args:
        address: where to.
        token: to authenticate with; `token` may be changed for the next connection.
        backoff: how to reconnect; None: not at all.
        on_event: told of losses and attempts, from inside the event loop.
        inbox: of the client.
        change: notified whenever somebody may find something new.
        timeout_s: for resubscribing.
    """

    def __init__(
        self,
        address: Address,
        *,
        token: str | None,
        backoff: Backoff | None,
        on_event: Callable[[ConnectionEvent], None],
        inbox: Inbox,
        change: Change,
        timeout_s: float,
    ) -> None:
        self.address = address
        self.token = token
        #: why there is no connection and never will be; None while there is hope
        self.error: ClientError | None = ClientClosed("the client is not open")
        self._backoff = backoff
        self._on_event = on_event
        self._inbox = inbox
        self._subscriptions = Subscriptions(inbox)
        self._change = change
        self._timeout_s = timeout_s
        self._random = Random()
        self._session: Session | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_closing = False
        #: whether the inbox may want a State
        self._stale = asyncio.Event()
        inbox.on_stale = self._stale.set

    @property
    def unsent_bytes(self) -> int:
        """Bytes of requests that the socket has not taken yet."""
        return 0 if self._session is None else self._session.unsent_bytes

    async def open(self) -> None:
        """Connects; raises what `dial` does, and is not repeated, whatever the backoff."""
        if self._keeper is not None or self._is_closing:
            raise ClientClosed("a client is opened once")
        session = await self._dial()
        self.error = None
        self._session = session
        self._keeper = asyncio.create_task(self._keep(session))

    async def session(self, timeout_s: float) -> Session:
        """The open session, after waiting for one if need be.

        Raises:
            RequestTimeout: there was none within `timeout_s`.
            ClientError: there will be none; the reason for the end.
        """
        try:
            async with asyncio.timeout(timeout_s):
                # one that has just ended is not replaced, or given up, before its keeper runs
                while (session := self._session) is None or session.error is not None:
                    if self.error is not None:
                        raise self.error
                    await self._change.wait()
                return session
        except TimeoutError:
            raise RequestTimeout("connecting again", timeout_s) from None

    async def close(self) -> None:
        """Ends the connection and everything that waits on it. May be called again."""
        self._is_closing = True
        if self._session is not None:
            await self._session.close(CLOSE_TIMEOUT_S)
        elif self._keeper is not None:
            self._keeper.cancel()  # it dials, or sleeps before it does
        if self._keeper is not None:
            await asyncio.wait((self._keeper,))
            if not self._keeper.cancelled():
                self._keeper.result()

    # ---- inside ------------------------------------------------------------------------------

    async def _dial(self) -> Session:
        websocket = await dial(self.address, self.token)
        return Session(
            websocket,
            codec=codec_for(self.address.encoding),
            limits=CLIENT_LIMITS,
            inbox=self._inbox,
            subscriptions=self._subscriptions,
            change=self._change,
        )

    async def _keep(self, session: Session) -> None:
        error: ClientError = ClientClosed("the client was closed")
        try:
            while True:
                self._session = session
                self._change.notify()
                async with asyncio.TaskGroup() as group:
                    beside = [
                        group.create_task(self._resubscribe(session)),
                        group.create_task(self._refetch(session)),
                    ]
                    ended = await session.run()
                    for task in beside:
                        task.cancel()
                self._session = None
                self._subscriptions.lost()
                if self._is_closing:
                    return
                session = await self._restore(ended)
        except ClientError as final:
            error = final
            self._emit(GaveUp(error=final))
        finally:
            self._session = None
            self.error = error
            self._change.notify()

    async def _restore(self, error: ClientError) -> Session:
        """A session in place of the one that ended with `error`. Raises the error that makes it give up."""
        self._emit(Lost(error=error))
        attempt = 0
        while self._backoff is not None and self._backoff.allows(attempt + 1) and is_worth_retrying(error):
            attempt += 1
            delay_s = self._backoff.delay_s(attempt, self._random)
            self._emit(Retrying(attempt=attempt, delay_s=delay_s, error=error))
            await asyncio.sleep(delay_s)
            try:
                session = await self._dial()
            except ConnectionFailed as failure:
                error = failure
            else:
                self._emit(Restored(attempts=attempt))
                return session
        raise error

    async def _resubscribe(self, session: Session) -> None:
        async with asyncio.TaskGroup() as group:
            for instance, summary in self._subscriptions.to_renew():
                group.create_task(self._resubscribe_to(instance, summary, session))

    async def _resubscribe_to(self, instance: bytes, summary: Blob | None, session: Session) -> None:
        """Subscribes again; `Subscriptions` hears of the answer where it came, before the notifications behind it."""
        request = Subscribe(key=instance, summary=summary)
        for attempt in count(1):
            try:
                subscribed_key(await session.request(request, timeout_s=self._timeout_s))
                return
            except NodeUnavailable:
                await asyncio.sleep(RETRIES.delay_s(attempt, self._random))  # the node's store is being restarted
            except (RequestFailed, ReplyBroken, RequestTimeout) as error:
                self._subscriptions.refused(instance)
                self._emit(SubscriptionLost(instance=instance, error=error))
                return
            except ClientError:
                return  # the connection is gone again; the next one is another chance

    async def _refetch(self, session: Session) -> None:
        """Asks for the State of contracts whose deltas had to be dropped, when the user is ready for it."""
        failures = 0
        while True:
            instance = self._inbox.next_stale()
            if instance is None:
                self._stale.clear()
                await self._stale.wait()
                continue
            try:
                await session.request(Get(key=instance), timeout_s=self._timeout_s, on_reply=self._take_refetched)
            except (RequestFailed, ReplyBroken, RequestTimeout) as error:
                logger.warning("the state of contract %s cannot be had: %s", encode_base58(instance), error)
                failures += 1
                await asyncio.sleep(RETRIES.delay_s(failures, self._random))
                self._inbox.not_refetched(instance)
            except ClientError:
                return
            else:
                failures = 0

    def _take_refetched(self, reply: HostResult, nbytes: int) -> None:
        if isinstance(reply, GetResponse):
            self._inbox.put_refetched(reply.key, reply.state, nbytes)

    def _emit(self, event: ConnectionEvent) -> None:
        # not called directly: what the user's function raises is his, and must not end the link
        asyncio.get_running_loop().call_soon(self._on_event, event)
