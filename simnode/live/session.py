"""One client's conversation with the node. Enters: messages of its WebSocket. Leaves: answers. Next: `requests.py`.

The protocol is `ServerConnection`'s; this file moves its events: rooms for streams come from the
reassembly service, requests go to `requests.Requests`, changes become notifications.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simnode.live.handshake import AUTH_TOKEN_INVALID, CLOSE_AUTH_TOKEN_INVALID, Accepted
from simnode.live.notices import Notice
from simnode.live.requests import Requests
from simnode.live.stats import Backlog
from simnode.live.websocket import WebSocket
from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.connection import ServerConnection
from simnode.protocol.errors import ReassemblyErrorKind
from simnode.protocol.events import ChunkRefused, MessageRefused, RequestReceived, SinkRequested, StreamCompleted
from simnode.protocol.messages.error_kinds import Unhandled
from simnode.protocol.messages.responses import Err, HostResult
from simnode.protocol.outbox import OutgoingMessage
from simnode.protocol.reassembly import Sink, SinkRefused
from simnode.storage.reader import StoredState

if TYPE_CHECKING:
    from simnode.live.handler import ConnectionHandler

BEHIND_BYTES = 512 * 1024
"""A subscriber with more than this still due gets the newest state later instead of each change now."""

MAX_REQUESTS_IN_HAND = 1024
"""Requests of one connection that are not answered yet; beyond it nothing more is read."""

NORMAL_CLOSURE = 1000
GOING_AWAY = 1001


@dataclass(slots=True)
class Subscription:
    """What a client has been told of a contract.

    Attributes:
        takes_deltas: whether it gave a summary.
        version: of the row it was told last; None until the store has agreed to the subscription.
        newest: version that others were told of while the store was asked.
    """

    takes_deltas: bool
    version: int | None = None
    newest: int = 0


class Session:
    """A client.

    Args:
        websocket: its socket.
        handler: the process it is connected to.
    """

    def __init__(self, websocket: WebSocket, handler: ConnectionHandler) -> None:
        self.websocket = websocket
        self.handler = handler
        self.connection: ServerConnection | None = None
        #: contract -> what it was told
        self.subscriptions: dict[bytes, Subscription] = {}
        #: contracts that changed while it was behind
        self._late: dict[bytes, None] = {}
        self._requests = Requests(self)
        self._backlog = Backlog(handler.stats)
        self._is_paused_for_requests = False
        self.is_authorized = True

    # ---- websocket.Application ---------------------------------------------------------------

    def opened(self, accepted: Accepted) -> None:
        handler = self.handler
        self.connection = ServerConnection(
            codec=codec_for(accepted.encoding),
            streaming=accepted.streaming or handler.settings.always_chunk,
            limits=handler.settings.limits,
            framing=handler.framing,
        )
        handler.session_opened(self)
        rules = handler.access_rules
        if rules.tokens:
            self.is_authorized = False
            if accepted.token is not None:
                self.authenticate(accepted.token)

    def message_received(self, message: bytes) -> None:
        self._receive(Blob(message))

    def large_message_received(self, sink: Sink, nbytes: int) -> None:
        self._receive(sink.finish(nbytes))

    def large_message_discarded(self, nbytes: int) -> None:
        assert self.connection is not None
        self.connection.refuse_message(f"no room for a message of {nbytes} bytes")
        self._take_events()

    def room_needed(self, nbytes: int) -> None:
        self.handler.lease(nbytes, self._provide_room)

    def next_message(self) -> OutgoingMessage | None:
        connection = self.connection
        if connection is None:
            return None
        chunks = connection.outbox.due_chunks
        message = connection.next_message()
        if message is None and self._late:
            self._notify_late(next(iter(self._late)))
            message = connection.next_message()
        if message is not None:
            stats = self.handler.stats
            stats.messages_out.inc()
            stats.bytes_out.inc(len(message.data))
            if connection.outbox.due_chunks < chunks:
                stats.chunks_out.inc()
            if message.ends_stream:
                stats.streams["outbound", "completed"].inc()
        return message

    def sent(self) -> None:
        self.note_outbound()

    def message_sent(self, token: object) -> None:
        if isinstance(token, StoredState | Notice):
            token.release()

    def lost(self, reason: str) -> None:
        if self.connection is None:
            if reason:
                self.handler.refused(reason)
            return
        now_s = self.handler.now()
        self.handler.stats.streams["inbound", "aborted"].inc(len(self.connection.reassembly))
        self.handler.stats.streams["outbound", "aborted"].inc(self.connection.outbox.streams)
        for token in self.connection.connection_lost():
            self.message_sent(token)
        self._backlog.clear(now_s)
        self._requests.abandon()
        self.handler.session_lost(self, reason)

    # ---- for the requests --------------------------------------------------------------------

    def respond(self, ticket: object, result: HostResult, *, token: object = None) -> None:
        """Answers a request; notifications about the same contract that are late go first."""
        assert self.connection is not None
        self.connection.send_response(ticket, result, token=token)
        self.note_outbound()
        self.websocket.send_soon()

    def authenticate(self, token: str) -> None:
        """Judges a token; a wrong one is told and the connection ends."""
        assert self.connection is not None
        rules = self.handler.access_rules
        if not rules.tokens or rules.is_valid_token(token):
            self.is_authorized = True
            return
        self.is_authorized = False
        self.connection.send_unsolicited(Err(Unhandled(cause=AUTH_TOKEN_INVALID)))
        self.websocket.close(CLOSE_AUTH_TOKEN_INVALID, "AUTH_TOKEN_INVALID", label="unauthorized")

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "", *, label: str = "requested") -> None:
        """Ends the connection after what is due."""
        self.websocket.close(code, reason, label=label)

    def flush_late(self, instance: bytes) -> None:
        """A notification that was put off goes out now: a reply about the same contract follows."""
        if instance in self._late:
            self._notify_late(instance)

    # ---- for the handler ---------------------------------------------------------------------

    def contract_changed(self, instance: bytes, notice: Notice) -> None:
        """A contract that this client subscribed to has a new state."""
        assert self.connection is not None
        subscription = self.subscriptions[instance]
        if subscription.version is None:
            subscription.newest = notice.version
            return
        if notice.version <= subscription.version:
            return
        if instance in self._late or self.connection.outbox.due_bytes > BEHIND_BYTES:
            if instance in self._late:
                self.handler.stats.notifications_coalesced.inc()
            self._late[instance] = None
            self.websocket.send_soon()
            return
        self._notify(instance, notice)

    def handle_deadline(self, now_s: float) -> None:
        """Ends streams that waited too long."""
        connection = self.connection
        if connection is None:
            return
        due = connection.next_deadline()
        if due is not None and due <= now_s:
            connection.handle_deadline(now_s)
            self._take_events()

    def slowest_stream(self, now_s: float) -> tuple[int, float] | None:
        """The id and the bytes per second of this client's slowest incomplete stream."""
        return None if self.connection is None else self.connection.reassembly.slowest_stream(now_s)

    def abort_stream(self, stream_id: int, reason: str) -> None:
        """Gives a stream's room back; the client is told."""
        assert self.connection is not None
        self.connection.abort_stream(stream_id, reason, self.handler.now())
        self._take_events()

    def note_outbound(self) -> None:
        """Keeps the backlog's figures exact."""
        connection = self.connection
        if connection is not None:
            outbox = connection.outbox
            self._backlog.note_outbound(
                outbox.due_chunks,
                outbox.due_bytes + self.websocket.unsent_bytes,
                outbox.held_bytes,
                self.handler.now(),
            )

    # ---- inside ------------------------------------------------------------------------------

    def _receive(self, message: Blob) -> None:
        connection = self.connection
        assert connection is not None
        now_s = self.handler.now()
        stats = self.handler.stats
        stats.messages_in.inc()
        stats.bytes_in.inc(len(message))
        connection.receive_message(message, now_s)
        self._take_events()

    def _take_events(self) -> None:
        connection = self.connection
        assert connection is not None
        while (event := connection.next_event()) is not None:
            match event:
                case RequestReceived():
                    self._requests.begin(event)
                    self._limit_requests()
                case SinkRequested(stream_id=stream_id, nbytes=nbytes):
                    self.websocket.pause()
                    self.handler.lease(nbytes, self._sink_provider(stream_id))
                case StreamCompleted():
                    self.handler.stats.streams["inbound", "completed"].inc()
                case ChunkRefused(kind=kind, stream_killed=killed):
                    self._count_refused_chunk(kind, killed)
                    self.note_outbound()
                case MessageRefused():
                    self.note_outbound()
                    self.handler.stats.requests["undecodable", connection.codec.encoding.value, "error"].inc()
                case _:
                    raise AssertionError(f"a server has no {event}")
        reassembly = connection.reassembly
        if reassembly.backlog_chunks != self._backlog.chunks_in:
            self._backlog.note_inbound(reassembly.backlog_chunks, reassembly.backlog_bytes, self.handler.now())
        if connection.outbox:
            self.websocket.send_soon()

    def _count_refused_chunk(self, kind: ReassemblyErrorKind, killed: bool) -> None:
        stats = self.handler.stats
        stats.reassembly_errors[(kind.value,)].inc()
        if killed:
            outcome = {ReassemblyErrorKind.EXPIRED: "expired", ReassemblyErrorKind.OUT_OF_BUDGET: "refused"}
            stats.streams["inbound", outcome.get(kind, "aborted")].inc()

    def _sink_provider(self, stream_id: int) -> Callable[[Sink | SinkRefused], None]:
        def provide(sink: Sink | SinkRefused) -> None:
            connection = self.connection
            assert connection is not None
            if stream_id in connection.reassembly:  # else it expired, or the connection was lost meanwhile
                connection.provide_sink(stream_id, sink, self.handler.now())
                self._take_events()
            self.websocket.resume()

        return provide

    def _provide_room(self, sink: Sink | SinkRefused) -> None:
        self.websocket.provide_room(None if isinstance(sink, SinkRefused) else sink)

    def _limit_requests(self) -> None:
        """Stops reading while too many requests wait, unless that would leave an admitted stream unfinished."""
        connection = self.connection
        assert connection is not None
        if self._requests.in_hand >= MAX_REQUESTS_IN_HAND and not len(connection.reassembly):
            if not self._is_paused_for_requests:
                self._is_paused_for_requests = True
                self.websocket.pause()

    def requests_answered(self) -> None:
        """Reads on when few enough requests wait."""
        if self._is_paused_for_requests and self._requests.in_hand < MAX_REQUESTS_IN_HAND // 2:
            self._is_paused_for_requests = False
            self.websocket.resume()

    def _notify_late(self, instance: bytes) -> None:
        """Sends the newest state in place of every change that was put off."""
        del self._late[instance]
        notice = self.handler.notice_of(instance)
        if notice is not None:
            self._notify(instance, notice)
            notice.release()

    def _notify(self, instance: bytes, notice: Notice) -> None:
        """Tells the client of a change: the delta alone if it can use it, else the state."""
        connection = self.connection
        subscription = self.subscriptions.get(instance)
        if connection is None or subscription is None or subscription.version is None:
            return
        if notice.version <= subscription.version:
            return
        follows = notice.version == subscription.version + 1
        subscription.version = notice.version
        notification, encoded = notice.encoded_for(connection.codec, as_delta=follows and subscription.takes_deltas)
        connection.send_notification(notification, encoded=encoded, token=notice.take())
        self.handler.stats.notifications_sent.inc()
        self.note_outbound()
        self.websocket.send_soon()
