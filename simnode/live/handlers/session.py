"""One client's conversation with the node. Enters: messages of its WebSocket. Leaves: answers. Next: `requests.py`.

The protocol is `ServerConnection`'s; this file moves its events: rooms for streams come from the
reassembly service, requests go to `requests.Requests`, changes become notifications.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Container
from typing import Protocol

from simnode.live.handlers.answers import NOT_AUTHENTICATED
from simnode.live.handlers.backend import Backend
from simnode.live.handlers.notices import Notice
from simnode.live.handlers.reports import Reports
from simnode.live.handlers.requests import Requests, heap_bytes_of
from simnode.live.handlers.response_modes import MODES
from simnode.live.handlers.stats import Backlog, HandlerStats, ReplyTimer
from simnode.live.handlers.subscribers import Subscribers, Subscription
from simnode.live.payloads import Lease
from simnode.live.pulse import Pulse
from simnode.live.settings import NodeSettings
from simnode.live.sockets.handshake import AUTH_TOKEN_INVALID, CLOSE_AUTH_TOKEN_INVALID, Accepted, AccessRules
from simnode.live.sockets.websocket import WebSocket
from simnode.node.ledger import Holding, Kind, Ledger
from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.connection import ServerConnection
from simnode.protocol.errors import ReassemblyErrorKind
from simnode.protocol.events import ChunkRefused, MessageRefused, RequestReceived, SinkRequested, StreamCompleted
from simnode.protocol.limits import WHOLE_MESSAGE_SIZE
from simnode.protocol.messages.error_kinds import Unhandled
from simnode.protocol.messages.responses import Err, HostResult
from simnode.protocol.outbox import OutgoingMessage
from simnode.protocol.reassembly import Sink, SinkRefused
from simnode.storage.reader import StoredState

BEHIND_BYTES = 512 * 1024
"""A subscriber with more than this still due gets the newest state later instead of each change now."""

DUE_HEAP_BYTES = 256 * 1024
"""Short answers due that lie in the heap; while there are more, requests wait: what the socket cannot take yet is not
made yet."""

DEFERRED_AT_ONCE = 16
"""Requests that waited for that and are carried out in one turn of the loop."""

FEW_REPLIES = 8
"""With no more replies unsent, and no request in hand, nothing needs to be limited."""

MAX_REQUESTS_IN_HAND = 1024
"""Requests of one connection whose replies have not left yet; beyond it nothing more is read."""

MAX_REQUESTS_BESIDE_STREAMS = 4 * 1024
"""The same while a stream of the connection is incomplete: a client may not read before it has sent it all."""

WHOLE_BEFORE_AUTHENTICATION_BYTES = 8 * 1024
"""Of a message that a client without a valid token may send in one piece; larger ones are read and thrown away."""

NOTED_BYTES = 32 * 1024
"""A connection that holds more in the heap has it noted in its account at once, others at the next tick."""

UNNOTED_BYTES = 64 * 1024
"""Less than this, due and not a stream, is no backlog before the socket has refused to take it."""

REPLY = object()
"""The token of a reply that holds nothing."""

logger = logging.getLogger(__name__)

NORMAL_CLOSURE = 1000
GOING_AWAY = 1001


class Host(Protocol):
    """The process that a session lives in."""

    def session_opened(self, session: Session) -> None:
        """Its upgrade is done."""

    def session_lost(self, session: Session, reason: str) -> None:
        """It is over; `reason` is of the metric's closed set."""

    def held_more(self) -> None:
        """Clients hold more in the heap than before."""


class Session:
    """A client.

    Args:
        websocket: its socket.
        settings: of the node.
        rules: who may connect.
        backend: what lies behind the client.
        subscribers: of the process.
        reports: of the process.
        stats: of the process.
        host: the process.
        ledger: of the process.
    """

    def __init__(
        self,
        websocket: WebSocket,
        *,
        settings: NodeSettings,
        rules: AccessRules,
        backend: Backend,
        subscribers: Subscribers,
        reports: Reports,
        stats: HandlerStats,
        host: Host,
        ledger: Ledger,
    ) -> None:
        self._websocket = websocket
        self._settings = settings
        self._rules = rules
        self._backend = backend
        self._subscribers = subscribers
        self._stats = stats
        self._host = host
        self._ledger = ledger
        self.account = ledger.open(self, websocket.peer_address)
        #: there once the upgrade is done
        self.connection: ServerConnection | None = None
        #: contract -> what it was told
        self.subscriptions: dict[bytes, Subscription] = {}
        self.is_authorized = True
        #: contracts that changed while it was behind
        self._late: dict[bytes, None] = {}
        self._requests = Requests(
            self,
            backend=backend,
            subscribers=subscribers,
            reports=reports,
            stats=stats,
            max_subscriptions=settings.caps.per_client,
        )
        #: requests that are carried out when answers have left, the oldest first
        self._deferred: deque[RequestReceived] = deque()
        self._deferred_bytes = 0
        #: incomplete messages by the name of the segment that each fills: a stream's id, or None for a large frame
        self._rooms: dict[object, int | None] = {}
        #: mapped states that answers due refer to, with their lengths in bytes
        self._mapped: dict[StoredState, int] = {}
        self._mapped_bytes = 0
        self._backlog = Backlog(stats)
        #: bytes in the heap, and chunks, of messages that were handed to the socket and not taken whole
        self._held_unsent = self._chunks_unsent = 0
        self._is_paused_for_requests = False
        #: replies that have not left whole
        self._unsent_replies = 0
        #: a large message in progress is thrown away, and the client was told
        self._is_large_given_up = False
        #: messages that the connection itself refused since nothing was due to the client
        self._unsent_refusals = 0

    # ---- websocket.Application ---------------------------------------------------------------

    def opened(self, accepted: Accepted) -> None:
        settings = self._settings
        mode = MODES[settings.response_mode]
        self.connection = ServerConnection(
            codec=codec_for(accepted.encoding),
            streaming=mode.chunks and (accepted.streaming or settings.always_chunk),
            limits=settings.limits,
            framing=mode.framing,
        )
        self._host.session_opened(self)
        if self._rules.tokens:
            self.is_authorized = False
            self._websocket.take_whole_up_to(WHOLE_BEFORE_AUTHENTICATION_BYTES)
            if accepted.token is not None:
                self.authenticate(accepted.token)

    def message_received(self, message: bytes) -> None:
        self._receive(Blob(message))

    def large_message_received(self, sink: Sink, nbytes: int) -> None:
        assert isinstance(sink, Lease), "rooms are leases"
        self._rooms.pop(sink.name, None)
        self._receive(sink.finish(nbytes))

    def large_message_discarded(self, nbytes: int) -> None:
        self._stats.messages_in.inc()
        self._stats.bytes_in.inc(nbytes)
        if self._is_large_given_up:  # and the client was told
            self._is_large_given_up = False
            return
        self._refuse_message(f"no room for a message of {nbytes} bytes")

    def room_needed(self, nbytes: int, sink: Sink | None) -> None:
        if not self.is_authorized:
            self._provide_room(SinkRefused(NOT_AUTHENTICATED))
        elif sink is None:
            self._backend.lease(nbytes, self.account, self._provide_room)
        else:
            assert isinstance(sink, Lease), "rooms are leases"
            self._backend.grow(sink, nbytes, self._provide_room)

    def next_message(self) -> OutgoingMessage | None:
        connection = self.connection
        if connection is None:
            return None
        message = connection.next_message()
        if message is None and self._late:
            self._notify_late(next(iter(self._late)))
            message = connection.next_message()
        if message is not None:
            self._held_unsent += message.held_bytes
            if message.is_chunk:
                self._chunks_unsent += 1
        return message

    def sent(self) -> None:
        unsent = self._websocket.unsent_bytes
        if self._held_unsent > unsent:
            self._held_unsent = unsent
        if self._deferred:
            self._begin_deferred()
        if unsent or self._backlog.bytes_out:
            self._note_outbound()
        if self._unsent_refusals and self.connection is not None and not self.connection.outbox:
            self._unsent_refusals = 0
        self.requests_answered()

    def message_begun(self, stamp: object) -> None:
        assert type(stamp) is tuple, "the stamps of replies are timers"
        duration, received_at = stamp
        duration.observe(Pulse.now() - received_at)

    def message_sent(self, message: OutgoingMessage) -> None:
        stats = self._stats
        stats.messages_out.inc()
        stats.bytes_out.inc(message.data.nbytes)
        if message.is_chunk:
            stats.chunks_out.inc()
            self._chunks_unsent -= 1
            if message.ends_stream:
                stats.streams["outbound", "completed"].inc()
        if message.token is not None:
            if type(message.token) is Notice:
                stats.notifications_sent.inc()
            self._release(message.token)

    def message_dropped(self, message: OutgoingMessage) -> None:
        if message.ends_stream:
            self._stats.streams["outbound", "aborted"].inc()
        if message.token is not None:
            self._release(message.token)

    def _release(self, token: object) -> None:
        """What a message of ours held is held no more: it has left whole, or never will."""
        if token is REPLY:
            self._unsent_replies -= 1
        elif isinstance(token, Notice):
            if token.stored.mapped_bytes:
                self._unmap(token.stored)
            token.release()
        else:
            assert isinstance(token, StoredState)
            self._unsent_replies -= 1
            if token.mapped_bytes:
                self._unmap(token)
            token.release()

    def lost(self, reason: str) -> None:
        now_s = Pulse.now()
        if self.connection is None:
            self.account.close(now_s)
            if reason:
                self._stats.refused[(reason,)].inc()
            return
        self._stats.streams["inbound", "aborted"].inc(len(self.connection.reassembly))
        self._stats.streams["outbound", "aborted"].inc(self.connection.outbox.streams)
        for token in self.connection.connection_lost():
            self._release(token)
        self._backlog.clear(now_s)
        self._forget_deferred()
        self._requests.abandon()
        self._rooms.clear()
        # writes that are under way are carried out all the same, and stay in the account until then
        self.account.hold(Kind.REQUEST, self._requests.held_bytes, now_s)
        self.account.close(now_s)
        self._subscribers.gone(self)
        self._host.session_lost(self, reason)

    # ---- for the requests --------------------------------------------------------------------

    def respond(
        self,
        ticket: object,
        result: HostResult,
        *,
        timer: ReplyTimer,
        encoded: Rope | None = None,
        token: object = None,
    ) -> None:
        """Answers a request; notifications about the same contract that are late go first."""
        assert self.connection is not None
        self._unsent_replies += 1
        if type(token) is StoredState and token.mapped_bytes:
            self._map(token)
        outbox = self.connection.outbox
        token = REPLY if token is None else token
        self.connection.send_response(ticket, result, encoded=encoded, token=token, stamp=timer)
        if outbox.due_bytes > UNNOTED_BYTES:
            self._note_outbound()
        self._websocket.send_soon()

    def authenticate(self, token: str) -> None:
        """Judges a token; a wrong one is told and the connection ends."""
        assert self.connection is not None
        rules = self._rules
        if not rules.tokens or rules.is_valid_token(token):
            self.is_authorized = True
            self._websocket.take_whole_up_to(WHOLE_MESSAGE_SIZE)
            return
        self.is_authorized = False
        self._websocket.take_whole_up_to(WHOLE_BEFORE_AUTHENTICATION_BYTES)
        self.connection.send_unsolicited(Err(Unhandled(cause=AUTH_TOKEN_INVALID)))
        self._websocket.close(CLOSE_AUTH_TOKEN_INVALID, "AUTH_TOKEN_INVALID", label="unauthorized")

    def close(self, code: int = NORMAL_CLOSURE, reason: str = "", *, label: str = "requested") -> None:
        """Ends the connection after what is due; changes come due no more."""
        self._subscribers.gone(self)
        self._forget_deferred()
        self._websocket.close(code, reason, label=label)

    def failed(self) -> None:
        """A bug of ours ends the connection."""
        self._websocket.fail_internally()

    def flush_late(self, instance: bytes) -> None:
        """A notification that was put off goes out now: a reply about the same contract follows."""
        self._subscribers.tell_now(self, instance)
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
                self._stats.notifications_coalesced.inc()
            self._late[instance] = None
            self._websocket.send_soon()
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

    def note_held(self, now_s: float) -> None:
        """Brings the account up to date: what the connection holds, and how far each of it has got."""
        account, websocket = self.account, self._websocket
        waiting, unfinished = self._requests.held_bytes + self._deferred_bytes, websocket.unfinished_bytes
        if websocket.is_paused:  # what has come waits for us, and the peer cannot hurry it
            waiting, unfinished = waiting + unfinished, 0
        account.hold(Kind.REQUEST, waiting, now_s)
        account.hold(Kind.ANSWER, self._answer_bytes, now_s, progress=websocket.sent_bytes)
        account.hold(Kind.MESSAGE, unfinished, now_s, progress=websocket.received_bytes)
        account.hold(Kind.VERSION, self._mapped_bytes, now_s, progress=websocket.sent_bytes)
        for segment, stream_id in list(self._rooms.items()):
            if stream_id is None:
                account.moved(Kind.LEASE, websocket.large_bytes, now_s, key=segment)
            elif self.connection is not None and stream_id in self.connection.reassembly:
                account.moved(Kind.LEASE, self.connection.reassembly.bytes_of(stream_id), now_s, key=segment)
            else:
                del self._rooms[segment]

    def end_holding(self, holding: Holding, reason: str) -> None:
        """Gives back what an entry of the account holds: ends its stream or its frame, else the connection.

        Args:
            holding: of this session's account: a `LEASE`, or of a kind that ends with the connection.
            reason: for the client, where it can be told, and for the log.
        """
        connection = self.connection
        if holding.kind is Kind.LEASE and connection is not None:
            if holding.key not in self._rooms:  # asked for, and not here yet
                return
            stream_id = self._rooms[holding.key]
            if stream_id is not None:
                connection.abort_stream(stream_id, reason, Pulse.now())
                self._take_events()
            elif self._websocket.give_up_large():
                self._is_large_given_up = True
                del self._rooms[holding.key]
                self._refuse_message(reason)
            return
        logger.warning(
            "closing the connection of %s, which holds %d bytes (%s): %s",
            self.account.address or "a local peer",
            holding.nbytes,
            holding.kind.value,
            reason,
        )
        self._websocket.abort("too_slow")

    def holds_any(self, segments: Container[str]) -> bool:
        """Whether answers due refer to any of these segments."""
        return any(name in segments for stored in self._mapped for name in stored.segment_names)

    # ---- inside ------------------------------------------------------------------------------

    def _note_outbound(self) -> None:
        """Keeps the backlog's figures exact."""
        connection = self.connection
        if connection is not None:
            outbox = connection.outbox
            self._backlog.note_outbound(
                outbox.due_chunks + self._chunks_unsent,
                outbox.due_bytes + self._websocket.unsent_bytes,
                outbox.held_bytes + self._held_unsent,
                Pulse.now(),
            )

    def _receive(self, message: Blob) -> None:
        connection = self.connection
        assert connection is not None
        now_s = Pulse.now()
        stats = self._stats
        stats.messages_in.inc()
        stats.bytes_in.inc(len(message.view))
        if connection.receive_message(message, now_s):
            stats.chunks_in.inc()
        self._take_events()

    def _take_events(self) -> None:
        connection = self.connection
        assert connection is not None
        while (event := connection.next_event()) is not None:
            match event:
                case RequestReceived():
                    if self._deferred or connection.outbox.short_held_bytes > DUE_HEAP_BYTES:
                        self._defer(event)
                    else:
                        self._requests.begin(event)
                    if self._requests.in_hand or self._deferred or self._unsent_replies > FEW_REPLIES:
                        self._limit_requests()
                case SinkRequested(stream_id=stream_id, nbytes=nbytes):
                    self._websocket.pause()
                    provide = self._sink_provider(stream_id)
                    if self.is_authorized:
                        self._backend.lease(nbytes, self.account, provide)
                    else:
                        self._websocket.call_soon(provide, SinkRefused(NOT_AUTHENTICATED))
                case StreamCompleted():
                    self._stats.streams["inbound", "completed"].inc()
                case ChunkRefused(kind=kind, stream_killed=killed):
                    self._count_refused_chunk(kind, killed)
                    self._count_refusal()
                case MessageRefused(was_read=was_read):
                    self._count_refusal()
                    outcome = "error" if was_read else "refused"
                    self._stats.requests["undecodable", connection.codec.encoding.value, outcome].inc()
                case _:
                    raise AssertionError(f"a server has no {event}")
        reassembly = connection.reassembly
        if reassembly.backlog_chunks != self._backlog.chunks_in:
            self._backlog.note_inbound(reassembly.backlog_chunks, reassembly.backlog_bytes, Pulse.now())
        if connection.outbox:
            self._websocket.send_soon()

    def _count_refusal(self) -> None:
        self._unsent_refusals += 1
        self._limit_requests()
        self._note_outbound()

    def _count_refused_chunk(self, kind: ReassemblyErrorKind, killed: bool) -> None:
        stats = self._stats
        stats.reassembly_errors[(kind.value,)].inc()
        if killed and kind is not ReassemblyErrorKind.NESTED:  # that stream was completed, and is counted
            outcome = {ReassemblyErrorKind.EXPIRED: "expired", ReassemblyErrorKind.OUT_OF_BUDGET: "refused"}
            stats.streams["inbound", outcome.get(kind, "aborted")].inc()

    def _sink_provider(self, stream_id: int) -> Callable[[Sink | SinkRefused], None]:
        def provide(sink: Sink | SinkRefused) -> None:
            connection = self.connection
            assert connection is not None
            try:
                if stream_id in connection.reassembly:  # else it expired, or the connection was lost meanwhile
                    if isinstance(sink, Lease):
                        self._rooms[sink.name] = stream_id
                    connection.provide_sink(stream_id, sink, Pulse.now())
                    self._take_events()
            except Exception:
                self.failed()
            self._websocket.resume()

        return provide

    def _provide_room(self, sink: Sink | SinkRefused) -> None:
        if isinstance(sink, Lease) and self.connection is not None:
            self._rooms[sink.name] = None
        self._websocket.provide_room(None if isinstance(sink, SinkRefused) else sink)

    def _limit_requests(self) -> None:
        """Stops reading while too many requests wait, or their replies: a client may ask and never read.

        Beside an incomplete stream far more may wait, but never more than the connection's share of
        the heap: a peer that reads nothing meanwhile is closed as stalled.
        """
        heap_bytes = self._heap_bytes
        if heap_bytes > NOTED_BYTES:
            self.note_held(Pulse.now())
            self._host.held_more()
        if self._is_paused_for_requests:
            return
        if heap_bytes < self._ledger.connection_share:
            waiting = self._waiting
            if waiting < MAX_REQUESTS_IN_HAND:
                return
            assert self.connection is not None
            if waiting < MAX_REQUESTS_BESIDE_STREAMS and len(self.connection.reassembly):
                return
        self._is_paused_for_requests = True
        self._websocket.pause()

    def requests_answered(self) -> None:
        """Reads on when few enough requests and replies wait, and little enough is held for them."""
        if not self._is_paused_for_requests:
            return
        if self._waiting < MAX_REQUESTS_IN_HAND // 2 and 2 * self._heap_bytes <= self._ledger.connection_share:
            self._is_paused_for_requests = False
            self._websocket.resume()

    @property
    def _waiting(self) -> int:
        """What the client has asked, or got wrong, and has not been told all about."""
        in_hand = self._requests.in_hand + len(self._deferred)
        return in_hand + self._unsent_replies + self._unsent_refusals

    @property
    def _answer_bytes(self) -> int:
        """Answers due that lie in the heap."""
        return 0 if self.connection is None else self.connection.outbox.held_bytes + self._held_unsent

    @property
    def _heap_bytes(self) -> int:
        """What counts against the connection's share of the heap, messages in progress aside."""
        return self._requests.held_bytes + self._deferred_bytes + self._answer_bytes

    # ---- requests that wait until answers have left --------------------------------------------

    def _defer(self, event: RequestReceived) -> None:
        self._deferred.append(event)
        self._deferred_bytes += heap_bytes_of(event)

    def _begin_deferred(self) -> None:
        left = DEFERRED_AT_ONCE
        assert self.connection is not None
        outbox = self.connection.outbox
        while self._deferred and outbox.short_held_bytes <= DUE_HEAP_BYTES:
            if not left:  # the other connections of the process go first
                self._websocket.send_soon()
                return
            left -= 1
            event = self._deferred.popleft()
            self._deferred_bytes -= heap_bytes_of(event)
            self._requests.begin(event)

    def _forget_deferred(self) -> None:
        self._deferred.clear()
        self._deferred_bytes = 0

    # ---- mapped states that answers refer to ----------------------------------------------------

    def _map(self, stored: StoredState) -> None:
        """An answer that refers to a mapped state is due."""
        self._mapped[stored] = self._mapped.get(stored, 0) + stored.mapped_bytes
        self._mapped_bytes += stored.mapped_bytes

    def _unmap(self, stored: StoredState) -> None:
        """It has left, or never will."""
        self._mapped_bytes -= stored.mapped_bytes
        left = self._mapped[stored] - stored.mapped_bytes
        if left:
            self._mapped[stored] = left
        else:
            del self._mapped[stored]

    def _refuse_message(self, cause: str) -> None:
        assert self.connection is not None
        self.connection.refuse_message(cause)
        self._take_events()

    def _notify_late(self, instance: bytes) -> None:
        """Sends the newest state in place of every change that was put off."""
        del self._late[instance]
        notice = self._backend.notice_of(instance)
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
        follows = subscription.is_followed_by(notice.version)
        subscription.version = notice.version
        notification, encoded = notice.encoded_for(connection.codec, as_delta=follows and subscription.takes_deltas)
        if notice.stored.mapped_bytes:
            self._map(notice.stored)
        connection.send_notification(notification, encoded=encoded, token=notice.take())
        self._note_outbound()
        self._websocket.send_soon()
