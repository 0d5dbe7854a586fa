"""The process that talks to clients. Enters: connected sockets. Leaves: their sessions' work. Next: `session.py`.

The front door hands it sockets; what lies behind its clients is in `backend.py`, who subscribed to
what in `subscribers.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from simnode.live.handlers.backend import Backend
from simnode.live.handlers.reports import Reports
from simnode.live.handlers.session import GOING_AWAY, Session
from simnode.live.handlers.stats import HandlerStats
from simnode.live.handlers.subscribers import Subscribers
from simnode.live.handover import HandoverClient
from simnode.live.link import UNKNOWN_CALL, Link, LinkRefusal
from simnode.live.pulse import Pulse
from simnode.live.settings import NodeSettings
from simnode.live.sockets.peer_watch import PeerWatch
from simnode.live.sockets.websocket import SCRATCH_BYTES, WebSocket
from simnode.metrics.slab import StatsSlab
from simnode.node.diagnostics import NodeView
from simnode.node.ledger import Holding, Kind, Ledger

DRAIN_TIMEOUT_S = 3.0

SLOW_BYTES_PER_S = 64 * 1024
"""What moves more slowly may be ended when the node is out of budget."""


class ConnectionHandler:
    """A pool member: up to `connections_per_handler` clients.

    Args:
        settings: of the node.
        slot: which of the pool it is.
        incarnation: how many processes had this slot before.
        slab: this process's stats.
    """

    def __init__(self, settings: NodeSettings, slot: int, incarnation: int, slab: StatsSlab) -> None:
        self._settings = settings
        self._slot = slot
        self._stats = HandlerStats(slab)
        self._backend = Backend(
            settings,
            f"handler-{slot}-{incarnation}",
            stats=self._stats,
            hear_store=self._hear_store,
            hear_service=self._hear_service,
            store_up=self._greet_store,
        )
        self._subscribers = Subscribers(self._backend)
        self._ledger = Ledger(settings.shares, self._stats.held_changed)
        #: what is held for no client in particular
        self._own_account = self._ledger.open(self, "")
        self._reports = Reports(self._backend, settings, self._view)
        self._front_door = HandoverClient(
            settings.socket_path("front_door"), slot, self._adopt, self._backend.mappings.give_up_idle
        )
        self._pulse = Pulse(slab, self._tick)
        self._started_at = self._pulse.now()
        self._rules = settings.access_rules
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._peer_watch = PeerWatch()
        #: sockets that are connected, upgraded or not
        self._websockets: set[WebSocket] = set()
        #: clients whose upgrade is done
        self._sessions: set[Session] = set()
        self._is_draining = False
        self._all_ended = asyncio.Event()
        #: that clients connect to; the settings may say 0, for any
        self._port = settings.port

    async def start(self) -> None:
        """Connects to the services, and then asks the front door for sockets."""
        await self._backend.start()
        self._pulse.start()
        self._peer_watch.start()
        self._front_door.start()

    async def drain(self) -> None:
        """Takes no more sockets, says goodbye to every client, and waits for them up to `DRAIN_TIMEOUT_S`."""
        self._is_draining = True
        await self._front_door.close()
        for session in list(self._sessions):
            session.close(GOING_AWAY, "the node is going away", label="drained")
        if self._websockets:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), DRAIN_TIMEOUT_S)
        for websocket in list(self._websockets):
            websocket.abort("drained")
        self._peer_watch.close()
        self._pulse.stop()
        await self._reports.close()
        await self._backend.close()

    # ---- sockets -----------------------------------------------------------------------------

    def _adopt(self, sock: socket.socket) -> None:
        """A socket that the front door accepted."""
        sock.setblocking(False)
        self._port = sock.getsockname()[1]
        websocket = WebSocket(
            sock,
            scratch=self._scratch,
            peer_watch=self._peer_watch,
            application=self._make_session,
            rules=self._rules,
            max_message_bytes=self._settings.limits.max_message_bytes,
            now=self._pulse.now,
            ended=self._ended,
        )
        self._websockets.add(websocket)
        websocket.start()

    def _make_session(self, websocket: WebSocket) -> Session:
        return Session(
            websocket,
            settings=self._settings,
            rules=self._rules,
            backend=self._backend,
            subscribers=self._subscribers,
            reports=self._reports,
            stats=self._stats,
            host=self,
            ledger=self._ledger,
        )

    def _ended(self, websocket: WebSocket) -> None:
        self._websockets.discard(websocket)
        if self._is_draining and not self._websockets:
            self._all_ended.set()
        self._front_door.socket_ended()

    # ---- session.Host ------------------------------------------------------------------------

    def session_opened(self, session: Session) -> None:
        self._sessions.add(session)
        self._stats.opened.inc()
        self._stats.open.add(1)

    def session_lost(self, session: Session, reason: str) -> None:
        self._sessions.discard(session)
        self._stats.open.add(-1)
        self._stats.closed[(reason,)].inc()

    def held_more(self) -> None:
        self._backend.use_grant(self._ledger.heap_bytes)

    def _view(self) -> NodeView:
        """What node queries are told, as far as that needs no looking for."""
        return NodeView(
            name="simnode",
            address=f"{self._settings.host}:{self._port}",
            uptime_seconds=int(self._pulse.now() - self._started_at),
            connections=len(self._sessions),
            contracts=self._backend.index.count(),
        )

    # ---- what the services say ---------------------------------------------------------------

    def _greet_store(self, link: Link) -> None:
        link.cast("hello", self._slot)
        self._subscribers.introduce(link)

    def _hear_store(self, link: Link, method: str, args: list[Any]) -> None:
        match method, args:
            case "changed", [contract, version, delta]:
                self._subscribers.tell(contract, version, delta)
            case _:
                raise LinkRefusal(UNKNOWN_CALL, f"no such call of the store: {method}")

    def _hear_service(self, link: Link, method: str, args: list[Any]) -> None:
        match method, args:
            case "relieve", [segments]:
                self._relieve(frozenset(segments))
            case _:
                raise LinkRefusal(UNKNOWN_CALL, f"no such call of the reassembly service: {method}")

    def _relieve(self, segments: frozenset[str]) -> None:
        """The node is out of budget: what moves most slowly here goes, if it is slow.

        Args:
            segments: of states that are not current any more and that only readers hold; if there are any, the
                slowest reader of one of them goes, however fast it is.
        """
        now_s = self._pulse.now()
        for session in self._sessions:
            session.note_held(now_s)
        readers = {session for session in self._sessions if session.holds_any(segments)} if segments else set()
        # what lies in the heap is kept within the grant by back-pressure; ending it would free no room for a stream
        kinds = (Kind.VERSION,) if readers else (Kind.LEASE,)
        slowest = self._ledger.slowest(now_s, among=readers or None, kinds=kinds)
        if slowest is not None and (readers or slowest.rate(now_s) < SLOW_BYTES_PER_S):
            _session_of(slowest).end_holding(slowest, "the node needs its room, and this is the slowest")

    # ---- time --------------------------------------------------------------------------------

    def _tick(self, now_s: float) -> None:
        self._reports.forget_old()
        if not self._settings.punches:
            self._backend.mappings.forget_unlinked()
        self._subscribers.tell_late()
        for websocket in list(self._websockets):
            websocket.check(now_s, progress_timeout_s=self._settings.progress_timeout_s)
        for session in list(self._sessions):
            session.handle_deadline(now_s)
            session.note_held(now_s)
        self._own_account.hold(Kind.LINK, self._backend.queued_bytes, now_s)
        self._own_account.hold(Kind.REPORT, self._reports.kept_bytes, now_s)
        self._end_late(now_s)
        self._backend.use_grant(self._ledger.heap_bytes)
        self._ledger.share_out(self._backend.granted_bytes)
        for session in list(self._sessions):
            session.requests_answered()

    def _end_late(self, now_s: float) -> None:
        """Ends what moves too slowly, and unfinished messages of which nothing has come for a stream's time to live."""
        ttl_s = self._settings.limits.stream_ttl_s
        for holding in self._ledger.still_since(now_s - ttl_s):
            _session_of(holding).end_holding(holding, f"nothing of the message has come for {ttl_s:g} s")
        for holding in self._ledger.late(now_s):
            _session_of(holding).end_holding(holding, "it moves at less than the minimum rate")


def _session_of(holding: Holding) -> Session:
    session = holding.account.holder
    assert isinstance(session, Session), "only what a client holds can be late"
    return session
