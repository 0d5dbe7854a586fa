"""One WebSocket connection at work. Enters: requests, and what the socket brings. Leaves: answers. Next: `replies.py`.

Two tasks: one reads messages into the sans-I/O core and hands its events out, the other sends
what the core has due, one message at a time, so that a small request waits for one chunk of a
large upload at most. The reader stops while `READ_AHEAD_BYTES` lie unread in streams and in the
inbox, unless somebody waits for an answer or a chunk: then it goes on, because that may be behind.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection as WebSocket
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from simnode.client.answers import Expectation, expectation_of
from simnode.client.exceptions import (
    AuthenticationFailed,
    CannotEncode,
    ClientClosed,
    ClientError,
    ConnectionLost,
    RequestTimeout,
)
from simnode.client.inbox import Inbox
from simnode.client.pending import PendingRequest
from simnode.client.replies import INBOX, Awaited, OnReply, Replies, Reply
from simnode.client.streams import ResponseStream
from simnode.client.subscriptions import Subscriptions
from simnode.client.waiting import Change
from simnode.protocol.blob import Blob
from simnode.protocol.codec.base import Codec
from simnode.protocol.connection import ClientConnection
from simnode.protocol.errors import EncodeError
from simnode.protocol.limits import CHUNK_SIZE, CHUNK_THRESHOLD, Limits
from simnode.protocol.messages.requests import ClientRequest, Get

READ_AHEAD_BYTES = CHUNK_SIZE
"""Unread bytes beyond which a connection is not read further while nobody waits for an answer."""

CLOSE_TOKEN_INVALID = 4401
"""The close code that follows AUTH_TOKEN_INVALID."""


@dataclass(slots=True, eq=False)
class _Sending:
    """Token of a request in the outbox."""

    request: PendingRequest | None
    sent: asyncio.Future[None]


class Session:
    """One connection, from the opened WebSocket to its end; `run` it.

    Args:
        websocket: open; closed by the session.
        codec: the connection's encoding.
        limits: what the connection may use.
        inbox: where notifications and the answers to `post` go.
        subscriptions: told of what the node confirms.
        change: notified whenever somebody may find something new.
    """

    def __init__(
        self,
        websocket: WebSocket,
        *,
        codec: Codec,
        limits: Limits,
        inbox: Inbox,
        subscriptions: Subscriptions,
        change: Change,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._websocket = websocket
        self._core = ClientConnection(codec=codec, limits=limits)
        self._inbox = inbox
        self._change = change
        self._replies = Replies(self._core, inbox, subscriptions, on_demand=change.notify)
        self._outgoing: set[_Sending] = set()
        #: coroutines that wait for an answer
        self._waiting = 0
        self._due = asyncio.Event()
        self._reaper: asyncio.TimerHandle | None = None
        #: when the socket last took a message
        self._took_at = self._loop.time()
        #: when it last brought a piece of a large answer of which nobody knows yet whose it is
        self._brought_at = self._took_at
        #: when the reader last went on after it had stopped
        self._read_on_at = self._took_at
        self._is_closing = False
        #: why the connection ended; None while it is up
        self.error: ClientError | None = None

    @property
    def unsent_bytes(self) -> int:
        """Bytes of requests that the socket has not taken yet."""
        return self._core.outbox.due_bytes

    async def request(
        self,
        request: ClientRequest,
        *,
        timeout_s: float,
        wants_stream: bool = False,
        on_reply: OnReply | None = None,
    ) -> Reply:
        """Asks and waits for the answer. Any number of requests may be under way.

        Args:
            request: any that gets an answer.
            timeout_s: seconds without progress.
            wants_stream: whether an announced answer is to be returned as a stream.
            on_reply: as of `Awaited`.

        Raises:
            RequestFailed: the node said no.
            RequestTimeout: nothing moved for the request during `timeout_s`.
            ConnectionLost, ClientClosed, AuthenticationFailed: the connection ended first.
            CannotEncode: the encoding has no such request, or it is too long (the caller's fault).
        """
        expectation = expectation_of(request)
        assert expectation is not None, "this request gets no answer; post() it"
        awaited = Awaited(self._loop.create_future(), wants_stream, on_reply)
        pending = self._queue(request, expectation, awaited, timeout_s).request
        assert pending is not None
        self._waiting += 1
        self._change.notify()  # the reader may have to go on
        self._watch(pending, awaited.future)
        try:
            return await awaited.future
        except asyncio.CancelledError:
            _let_go(awaited.future)
            raise
        finally:
            self._waiting -= 1
            self._replies.pending.abandon(pending, self._loop.time())

    async def post(self, request: ClientRequest, *, timeout_s: float) -> None:
        """Sends a request whose answer, if it gets one, goes to the inbox. Returns when the socket has taken it.

        Raises:
            As `request`, apart from RequestFailed.
        """
        sending = self._queue(request, expectation_of(request), INBOX, timeout_s)
        queued_at = self._loop.time()
        while not sending.sent.done():
            left = max(self._took_at, queued_at) + timeout_s - self._loop.time()
            if left <= 0:
                raise RequestTimeout("sending", timeout_s)
            await asyncio.wait((sending.sent,), timeout=left)
        sending.sent.result()

    async def run(self) -> ClientError:
        """Moves messages until the connection ends, and says why it did."""
        error: ClientError = ConnectionLost(1011, "the client failed")
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write())
                error = await self._read()
                writer.cancel()
        finally:
            self._end(error)
        return error

    async def close(self, timeout_s: float) -> None:
        """Ends the connection politely, or at once when the node does not answer within `timeout_s`."""
        self._is_closing = True
        self._change.notify()
        try:
            async with asyncio.timeout(timeout_s):
                await self._websocket.close()
        except TimeoutError:
            # close() waits for its bytes to drain, which a peer that does not read never allows
            self._websocket.transport.abort()

    # ---- asking ------------------------------------------------------------------------------

    def _queue(
        self, request: ClientRequest, expectation: Expectation | None, destination: object, timeout_s: float
    ) -> _Sending:
        if self.error is not None:
            raise self.error
        sending = _Sending(None, self._loop.create_future())
        before = self._core.outbox.due_bytes
        try:
            self._core.send_request(request, token=sending)
        except EncodeError as error:
            raise CannotEncode(str(error)) from error
        if expectation is not None:
            sending.request = PendingRequest(
                expectation=expectation,
                destination=destination,
                timeout_s=timeout_s,
                is_chunked=self._core.outbox.due_bytes - before > CHUNK_THRESHOLD,
                progressed_at=self._loop.time(),
            )
            self._replies.pending.add(sending.request)
        self._outgoing.add(sending)
        self._due.set()
        return sending

    def _watch(self, pending: PendingRequest, future: asyncio.Future[Reply]) -> None:
        """Gives the request up when nothing moved for it during its `timeout_s`."""
        if future.done():
            return
        now = self._loop.time()
        if not pending.is_sent:
            moved_at = max(pending.progressed_at, self._took_at)
        elif issubclass(pending.expectation.kind, Get):
            moved_at = max(pending.progressed_at, self._brought_at)
        else:
            moved_at = pending.progressed_at
        if moved_at + pending.timeout_s > now:
            timer = self._loop.call_at(moved_at + pending.timeout_s, self._watch, pending, future)
            future.add_done_callback(lambda _: timer.cancel())
        else:
            future.set_exception(RequestTimeout(str(pending.expectation), pending.timeout_s))

    # ---- moving ------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            outgoing = self._core.next_message()
            if outgoing is None:
                self._due.clear()
                await self._due.wait()
                continue
            try:
                await self._websocket.send(bytes(outgoing.data))
            except ConnectionClosed:
                return  # the reader meets it, too, and says why
            except AttributeError:
                # websockets 17.4 aborts, in send(), a transport that asyncio has taken apart already
                if self._websocket.state is State.OPEN:
                    raise
                return
            self._took_at = self._loop.time()
            if outgoing.token is not None:
                self._mark_sent(outgoing.token)

    def _mark_sent(self, sending: object) -> None:
        assert isinstance(sending, _Sending)
        self._outgoing.discard(sending)
        sending.sent.set_result(None)
        if sending.request is not None:
            sending.request.is_sent = True
            sending.request.progressed_at = self._took_at

    async def _read(self) -> ClientError:
        try:
            while True:
                message = await self._read_message()
                now = self._loop.time()
                self._core.receive_message(message, now)
                del message
                self._take_events(now)
                if self._is_backed_up():
                    await self._stand_still()
        except ConnectionClosed as closed:
            return self._reason_of(closed)

    async def _stand_still(self) -> None:
        """Reads nothing until somebody wants more; meanwhile no stream can be late."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        while self._is_backed_up():
            await self._change.wait()
        self._read_on_at = self._loop.time()
        self._await_deadline()

    async def _read_message(self) -> Blob:
        whole: bytes | bytearray = b""
        async for fragment in self._websocket.recv_streaming(decode=False):
            if not whole:
                whole = fragment
                continue
            if isinstance(whole, bytes):
                whole = bytearray(whole)
            whole += fragment  # grows in place: the message is never there twice
            self._brought_at = self._loop.time()
        return Blob(whole)

    def _take_events(self, now: float) -> None:
        self._replies.take_events(now)
        if self._replies.has_unattributed_streams:
            self._brought_at = now
        self._await_deadline()
        self._change.notify()

    def _await_deadline(self) -> None:
        """Looks after the streams in time: one is late when the node is silent for longer than anybody waits."""
        deadline = self._core.next_deadline()
        if deadline is not None and self._reaper is None:
            ttl_s = self._core.limits.stream_ttl_s
            due = max(deadline + self._patience_s(), self._read_on_at + ttl_s)
            self._reaper = self._loop.call_at(due, self._handle_deadline)

    def _handle_deadline(self) -> None:
        self._reaper = None
        now = self._loop.time()
        self._core.handle_deadline(now - self._patience_s())
        self._take_events(now)

    def _patience_s(self) -> float:
        """By how much the longest `timeout_s` of a request exceeds what streams are granted anyway."""
        return max(0.0, self._replies.longest_timeout_s - self._core.limits.stream_ttl_s)

    def _is_backed_up(self) -> bool:
        if self._waiting or self._inbox.receivers or self._replies.is_awaited or self._is_closing:
            return False
        return self._replies.unread_bytes >= READ_AHEAD_BYTES

    # ---- ending ------------------------------------------------------------------------------

    def _reason_of(self, closed: ConnectionClosed) -> ClientError:
        if self._is_closing:
            return ClientClosed("the client was closed")
        frame = closed.rcvd or closed.sent  # ours says what we did not stand: a message over the limit, say
        code, reason = (1006, "") if frame is None else (frame.code, frame.reason)
        if code == CLOSE_TOKEN_INVALID or self._replies.token_refused:
            return AuthenticationFailed(reason or "the token is not valid")
        return ConnectionLost(code, reason)

    def _end(self, error: ClientError) -> None:
        self.error = error
        if self._reaper is not None:
            self._reaper.cancel()
        self._core.connection_lost()
        self._replies.end(error)
        for sending in self._outgoing:
            sending.sent.set_exception(error)
            sending.sent.exception()  # not everybody waits for it
        self._outgoing.clear()
        self._change.notify()


def _let_go(future: asyncio.Future[Reply]) -> None:
    """Nobody takes this outcome any more."""
    if future.done() and not future.cancelled() and future.exception() is None:
        reply = future.result()
        if isinstance(reply, ResponseStream):
            reply.close()
