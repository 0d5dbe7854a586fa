"""Taking what came, in order. Enters: the inbox. Leaves: results, streams, notifications. Next: `queries.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from simnode.client.exceptions import ClientClosed, ClientError, NotificationsDropped, RequestTimeout
from simnode.client.inbox import Inbox, Notification, Owed
from simnode.client.link import Link
from simnode.client.streams import ResponseStream
from simnode.client.waiting import Change
from simnode.protocol.messages.responses import HostResult, UpdateNotification

T = TypeVar("T")


class Receiver:
    """The receiving half of a client.

    Args:
        inbox: what came.
        link: says when nothing more will come.
        change: notified whenever there may be something new.
    """

    def __init__(self, inbox: Inbox, link: Link, change: Change) -> None:
        self._inbox = inbox
        self._link = link
        self._change = change

    async def recv(self, timeout_s: float | None) -> HostResult:
        """See `Client.recv`."""
        entry: Owed | Notification = await self._next(self._inbox.take, "recv", timeout_s)
        match entry:
            case ResponseStream():
                return await entry.collect()
            case ClientError():
                raise entry
            case Notification(key=key, update=update):
                if update is None or not entry.is_current:
                    raise NotificationsDropped(key.instance)
                return UpdateNotification(key=key, update=update)
        return entry

    async def recv_stream(self, timeout_s: float | None) -> ResponseStream:
        """See `Client.recv_stream`."""
        return await self._next(self._inbox.take_stream, "recv_stream", timeout_s)

    async def next_notification(self, timeout_s: float | None) -> Notification:
        """See `Client.next_notification`."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._until(self._inbox.take_notification)
        except TimeoutError:
            raise RequestTimeout("next_notification", timeout_s or 0.0) from None

    async def notifications(self) -> AsyncIterator[Notification]:
        """See `Client.notifications`."""
        while True:
            try:
                notification = await self._until(self._inbox.take_notification)
            except ClientClosed:
                return
            yield notification

    async def _next(self, take: Callable[[], T | None], what: str, timeout_s: float | None) -> T:
        self._inbox.receivers += 1
        self._change.notify()  # the reader may have to go on
        try:
            async with asyncio.timeout(timeout_s):
                return await self._until(take)
        except TimeoutError:
            raise RequestTimeout(what, timeout_s or 0.0) from None
        finally:
            self._inbox.receivers -= 1

    async def _until(self, take: Callable[[], T | None]) -> T:
        while (entry := take()) is None:
            if self._link.error is not None:
                raise self._link.error
            await self._change.wait()
        return entry
