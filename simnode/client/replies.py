"""Hands what a connection brought to whom it belongs. Enters: the core's events. Leaves: outcomes. Next: `answers.py`.

No I/O and no clock: futures are completed and queues filled, nothing waits here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from simnode.client.answers import is_about_the_token, subscription_in
from simnode.client.exceptions import ClientError, NotFound, ReplyBroken, request_failed
from simnode.client.inbox import Inbox
from simnode.client.pending import PendingRequest, PendingRequests
from simnode.client.streams import ResponseStream
from simnode.client.subscriptions import Subscriptions
from simnode.protocol import events
from simnode.protocol.blob import Blob
from simnode.protocol.connection import ClientConnection
from simnode.protocol.messages import responses
from simnode.protocol.messages.responses import GetResponseContent, HostResult, StreamHeader
from simnode.protocol.reassembly import HeapSink

Reply = HostResult | ResponseStream
OnReply = Callable[[HostResult, int], None]

ABANDONED_STREAM_TIMEOUT_S = 60.0

logger = logging.getLogger("simnode.client")


@dataclass(slots=True, eq=False)
class Awaited:
    """A destination: a coroutine that waits for the answer, and takes it as a stream if it says so.

    Attributes:
        on_reply: called with a reply (no error) and the bytes of its message when it arrives: before
            anything that came behind it is handled, which the coroutine, woken later, cannot ensure.
    """

    future: asyncio.Future[Reply]
    wants_stream: bool = False
    on_reply: OnReply | None = None


INBOX = object()
"""A destination: whoever calls `recv()`."""


class Replies:
    """The incoming side of one connection.

    Args:
        core: its events are taken here.
        inbox: for notifications, and for answers whose destination it is.
        subscriptions: told of what is confirmed.
        on_demand: called when somebody took a chunk of a stream, or begins to wait for one.
    """

    def __init__(
        self,
        core: ClientConnection,
        inbox: Inbox,
        subscriptions: Subscriptions,
        *,
        on_demand: Callable[[], None],
    ) -> None:
        self.pending = PendingRequests(matches_by_kind=core.codec.replies_match_by_kind)
        #: whether the node said that it does not accept the token
        self.token_refused = False
        self._core = core
        self._inbox = inbox
        self._subscriptions = subscriptions
        self._on_demand = on_demand
        #: streams that are handed out chunk by chunk, until their last chunk
        self._streams: dict[int, ResponseStream] = {}
        #: requests whose announced answers are being reassembled
        self._bound: dict[int, PendingRequest] = {}

    @property
    def unread_bytes(self) -> int:
        """Bytes that arrived and that their owners have not taken."""
        return self._inbox.owed_bytes + sum(stream.unread_bytes for stream in self._streams.values())

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the next chunk of a stream."""
        return any(stream.is_awaited for stream in self._streams.values())

    @property
    def has_unattributed_streams(self) -> bool:
        """Whether a chunked answer is arriving of which nobody knows yet whose it is."""
        return len(self._core.reassembly) > len(self._bound)

    @property
    def longest_timeout_s(self) -> float:
        """How long somebody is ready to wait for the next piece of an answer that is arriving, or not yet."""
        bound = (request.timeout_s for request in self._bound.values() if not request.is_abandoned)
        return max((self.pending.longest_timeout_s, *bound))

    def take_events(self, now: float) -> None:
        """Handles everything that the core has to tell."""
        while (event := self._core.next_event()) is not None:
            match event:
                case events.ResponseReceived():
                    self._take_result(event.result, event.message, event.stream_id, now)
                case events.SinkRequested(stream_id=stream_id, nbytes=nbytes):
                    self._core.provide_sink(stream_id, HeapSink(nbytes), now)
                case events.StreamOpened(header=header):
                    self._open_stream(header, now)
                case events.ChunkReceived(stream_id=stream_id):
                    stream = self._streams[stream_id]
                    stream.feed(event)
                    if stream.is_complete:
                        del self._streams[stream_id]
                case events.ChunkRefused():
                    logger.warning("stream %d: %s", event.stream_id, event.text)
                    if event.stream_killed:
                        self._fail_one(event.text, event.stream_id, now)
                case events.MessageRefused(cause=cause):
                    logger.warning("undecodable message: %s", cause)
                    self._fail_one(f"an answer cannot be decoded: {cause}", None, now)
        for request in self._bound.values():
            request.progressed_at = now

    def end(self, error: ClientError) -> None:
        """The connection is gone: nobody gets an answer any more."""
        for stream in self._streams.values():
            stream.fail(error)
        self._streams.clear()
        for request in (*self._bound.values(), *self.pending.clear()):
            self._deliver(request, error, 0)
        self._bound.clear()

    # ---- inside ------------------------------------------------------------------------------

    def _take_result(self, result: HostResult, message: Blob, stream_id: int | None, now: float) -> None:
        if isinstance(result, responses.UpdateNotification):
            self._inbox.put_notification(result, len(message))
            return
        if isinstance(result, responses.Err) and is_about_the_token(result.kind):
            self.token_refused = True  # the node closes the connection next, which fails everything
            return
        request = None if stream_id is None else self._bound.pop(stream_id, None)
        if request is None:
            request = self.pending.match(result, now)
        if request is None:
            logger.info("%s answers no request", type(result).__name__)
            self._inbox.put_unsolicited(result)
            return
        if request.expectation.subscribes:
            key = subscription_in(result)
            if key is not None:
                self._subscriptions.confirmed(key, request.expectation.summary)
        self._deliver(request, result, len(message))

    def _open_stream(self, header: StreamHeader, now: float) -> None:
        if not isinstance(header.content, GetResponseContent):
            return  # nobody knows whose it is before it is whole
        request = self.pending.match_get(header.content.key.instance, now)
        if not 0 < header.total_bytes <= self._core.limits.max_message_bytes:
            error = ReplyBroken(f"stream {header.stream_id} is announced with {header.total_bytes} bytes")
            if request is not None:
                self._deliver(request, error, 0)
            request = None  # its chunks are dropped
        if request is not None and isinstance(request.destination, Awaited) and not request.is_abandoned:
            if not request.destination.wants_stream:
                self._bound[header.stream_id] = request
                return
        self._core.take_stream(header.stream_id)
        timeout_s = ABANDONED_STREAM_TIMEOUT_S if request is None else request.timeout_s
        stream = ResponseStream(header, codec=self._core.codec, timeout_s=timeout_s, on_demand=self._on_demand)
        self._streams[header.stream_id] = stream
        if request is None:
            logger.info("stream %d answers no request", header.stream_id)
            stream.close()
            return
        if request.expectation.subscribes:  # only a GetResponse is announced with its key
            self._subscriptions.confirmed(header.content.key, None)
        self._deliver(request, stream, 0)

    def _fail_one(self, text: str, stream_id: int | None, now: float) -> None:
        """An answer came to nothing; whose is known only if it was announced."""
        error = ReplyBroken(text)
        request = None if stream_id is None else self._bound.pop(stream_id, None)
        if request is None:
            request = self.pending.match_broken(now)
        if request is not None:
            self._deliver(request, error, 0)

    def _deliver(self, request: PendingRequest, outcome: Reply | ClientError, nbytes: int) -> None:
        if not isinstance(request.destination, Awaited):
            self._inbox.put_owed(outcome, nbytes)
            return
        future = request.destination.future
        if request.is_abandoned or future.done():
            if isinstance(outcome, ResponseStream):
                outcome.close()
            return
        match outcome:
            case ClientError():
                future.set_exception(outcome)
            case responses.Err(kind=kind):
                future.set_exception(request_failed(kind))
            case responses.NotFound(instance_id=instance):
                future.set_exception(NotFound(instance))
            case _:
                if request.destination.on_reply is not None and not isinstance(outcome, ResponseStream):
                    request.destination.on_reply(outcome, nbytes)
                future.set_result(outcome)
