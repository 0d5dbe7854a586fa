"""The process that talks to clients. Enters: connected sockets. Leaves: their sessions' work. Next: `session.py`.

It is handed sockets by the front door, leases rooms from the reassembly service, sends writes to
the store, and reads the index and the segments itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import weakref
from collections.abc import Callable
from typing import Any

from simnode.live.handover import HandoverClient
from simnode.live.link import Link, LinkClient, LinkLost, LinkRefusal
from simnode.live.notices import Notice
from simnode.live.payloads import Lease, Payload
from simnode.live.pulse import Pulse
from simnode.live.response_modes import MODES
from simnode.live.session import GOING_AWAY, Session, Subscription
from simnode.live.settings import NodeSettings
from simnode.live.stats import HandlerStats
from simnode.live.websocket import SCRATCH_BYTES, WebSocket
from simnode.metrics.slab import StatsSlab
from simnode.node.diagnostics import NodeView, diagnose
from simnode.protocol.messages.requests import NodeQuery
from simnode.protocol.messages.responses import QueryResponse
from simnode.protocol.reassembly import Sink, SinkRefused
from simnode.storage.cache import SegmentCache
from simnode.storage.errors import IndexFailure, SegmentGone
from simnode.storage.index import Index
from simnode.storage.reader import StoredContracts
from simnode.storage.segments import Segment

logger = logging.getLogger(__name__)

CACHED_MAPPINGS = 512
"""Mappings of stored segments that a handler keeps: far below vm.max_map_count, two descriptors each."""

DRAIN_TIMEOUT_S = 3.0

SLOW_STREAM_BYTES_PER_S = 64 * 1024
"""A stream that is slower may be ended when the node is out of budget."""


class ConnectionHandler:
    """A pool member: up to `connections_per_handler` clients.

    Args:
        settings: of the node.
        slot: which of the pool it is.
        incarnation: how many processes had this slot before.
        slab: this process's stats.
    """

    def __init__(self, settings: NodeSettings, slot: int, incarnation: int, slab: StatsSlab) -> None:
        self.settings = settings
        self.access_rules = settings.access_rules
        self.framing = MODES[settings.response_mode]
        self.stats = HandlerStats(slab)
        #: seconds of the process's one clock
        self.now = Pulse.now
        self.sessions: set[Session] = set()
        self._slot = slot
        self._owner = f"handler-{slot}-{incarnation}"
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        #: sockets that are connected, upgraded or not
        self._websockets: set[WebSocket] = set()
        #: contract -> sessions that subscribed to it
        self._subscribers: dict[bytes, set[Session]] = {}
        #: what this process leases, for a reassembly service that starts again
        self._leases: weakref.WeakSet[Lease] = weakref.WeakSet()
        self._service = LinkClient(settings.socket_path("reassembly"), self._handle_service, self._greet_service)
        self.store = LinkClient(settings.socket_path("store"), self._handle_store, self._greet_store)
        self._front_door = HandoverClient(settings.socket_path("front_door"), slot, self._adopt)
        self._pulse = Pulse(slab, self._tick)
        self._started_at = self._pulse.now()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_draining = False
        #: that clients connect to; the settings may say 0, for any
        self._port = settings.port
        self._all_ended = asyncio.Event()

    async def start(self) -> None:
        """Connects to the services, opens the index, and then asks the front door for sockets."""
        self._service.start()
        self.store.start()
        await self.store.wait_up()
        await self._service.wait_up()
        self.index = Index(self.settings.index_dir, readonly=True, max_readers=self.settings.max_index_readers)
        self._cache = SegmentCache(self.settings.segments_dir, CACHED_MAPPINGS)
        self.contracts = StoredContracts(self.index, self._cache)
        self._pulse.start()
        self._front_door.start()

    async def drain(self) -> None:
        """Takes no more sockets, says goodbye to every client, and waits for them up to `DRAIN_TIMEOUT_S`."""
        self._is_draining = True
        await self._front_door.close()
        for session in list(self.sessions):
            session.close(GOING_AWAY, "the node is going away", label="drained")
        if self._websockets:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), DRAIN_TIMEOUT_S)
        for websocket in list(self._websockets):
            websocket.abort("drained")
        self._pulse.stop()
        await self.store.close()
        await self._service.close()
        self.index.close()

    # ---- sockets -----------------------------------------------------------------------------

    def _adopt(self, sock: socket.socket) -> None:
        """A socket that the front door accepted."""
        sock.setblocking(False)
        self._port = sock.getsockname()[1]
        websocket = WebSocket(
            sock,
            scratch=self._scratch,
            application=lambda websocket: Session(websocket, self),
            rules=self.access_rules,
            max_message_bytes=self.settings.limits.max_message_bytes,
            now=self.now,
            ended=self._ended,
        )
        self._websockets.add(websocket)
        websocket.start()

    def _ended(self, websocket: WebSocket) -> None:
        self._websockets.discard(websocket)
        if self._is_draining and not self._websockets:
            self._all_ended.set()
        self._front_door.socket_ended()

    def session_opened(self, session: Session) -> None:
        """A client's upgrade is done."""
        self.sessions.add(session)
        self.stats.opened.inc()
        self.stats.open.add(1)

    def session_lost(self, session: Session, reason: str) -> None:
        """A client is gone."""
        self.sessions.discard(session)
        self.stats.open.add(-1)
        self.stats.closed[(reason,)].inc()
        subscriptions, session.subscriptions = session.subscriptions, {}
        for contract in subscriptions:
            self._drop_subscriber(session, contract)
        # the store is told of those it has agreed to; of the others when it does (`subscribed`)
        contracts = [contract for contract, told in subscriptions.items() if told.version is not None]
        if contracts:
            self.store.cast("unsubscribe", contracts)

    def refused(self, reason: str) -> None:
        """A connection that never became a session is gone."""
        self.stats.refused[(reason,)].inc()

    # ---- rooms -------------------------------------------------------------------------------

    def lease(self, nbytes: int, give: Callable[[Any], None]) -> None:
        """Asks for room; `give` gets a `Lease`, or a `SinkRefused` with the reason."""
        task = asyncio.get_running_loop().create_task(self._lease(nbytes, give))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _lease(self, nbytes: int, give: Callable[[Sink | SinkRefused], None]) -> None:
        room: Sink | SinkRefused
        try:
            name, _ = await self._service.call("lease", nbytes)
            room = Lease(Segment.open(self.settings.segments_dir, name, writable=True), self._service)
            self._leases.add(room)
        except (LinkRefusal, SegmentGone) as refusal:
            room = SinkRefused(f"the node has no room for {nbytes} bytes: {refusal}")
        except LinkLost:
            room = SinkRefused("the node's reassembly service is away")
        give(room)

    def _greet_service(self, link: Link) -> None:
        link.cast("hello", self._owner)
        link.cast("adopt", [lease.name for lease in self._leases if lease.is_ours])

    def _handle_service(self, link: Link, method: str, args: list[Any]) -> Any:
        assert method == "relieve", f"no such call: {method}"
        self._relieve()

    def _relieve(self) -> None:
        """The node is out of budget: this process's slowest stream goes, if it is slow."""
        slowest: tuple[float, int, Session] | None = None
        for session in self.sessions:
            stream = session.slowest_stream(self.now())
            if stream is not None and (slowest is None or stream[1] < slowest[0]):
                slowest = (stream[1], stream[0], session)
        if slowest is not None and slowest[0] < SLOW_STREAM_BYTES_PER_S:
            _, stream_id, session = slowest
            session.abort_stream(stream_id, "the node needs its room, and this stream is the slowest")

    # ---- the store ---------------------------------------------------------------------------

    def _greet_store(self, link: Link) -> None:
        link.cast("hello", self._slot)
        if self._subscribers:
            link.cast("resubscribe", [[contract, len(who)] for contract, who in self._subscribers.items()])
            # whatever happened meanwhile: everybody gets the current state, if it is news
            for contract in list(self._subscribers):
                asyncio.get_running_loop().call_soon(self._catch_up, contract)

    def _catch_up(self, contract: bytes) -> None:
        self._tell(contract, 0, None)

    def _handle_store(self, link: Link, method: str, args: list[Any]) -> Any:
        match method, args:
            case "changed", [contract, version, delta]:
                self._tell(contract, version, delta)
            case _:
                raise AssertionError(f"no such call: {method}")

    def _tell(self, contract: bytes, version: int, delta: Payload | None) -> None:
        """Everybody here who subscribed hears of the newest state; `delta` is what led to `version`."""
        subscribers = self._subscribers.get(contract)
        notice = self.notice_of(contract, version, delta) if subscribers else None
        if subscribers is None or notice is None:
            return
        for session in list(subscribers):
            session.contract_changed(contract, notice)
        notice.release()

    def notice_of(self, contract: bytes, version: int = 0, delta: Payload | None = None) -> Notice | None:
        """The contract's newest state, to be released; `delta` counts if that is of `version`."""
        try:
            stored = self.contracts.state(contract)
        except (IndexFailure, SegmentGone):
            logger.exception("subscribers of contract %s cannot be told", contract.hex())
            return None
        return None if stored is None else Notice(stored, delta if stored.version == version else None)

    def subscribe(self, session: Session, contract: bytes, *, takes_deltas: bool) -> None:
        """Before the store is asked, so that no change falls between its answer and ours."""
        session.subscriptions[contract] = Subscription(takes_deltas)
        self._subscribers.setdefault(contract, set()).add(session)

    def subscribed(self, session: Session, contract: bytes, version: int) -> None:
        """The store agreed; the client knows this version, and hears of every newer one."""
        subscription = session.subscriptions.get(contract)
        if subscription is None:
            self.store.cast("unsubscribe", [contract])  # the client went while the store was asked
            return
        subscription.version = version
        notice = self.notice_of(contract) if subscription.newest > version else None
        if notice is not None:
            session.contract_changed(contract, notice)
            notice.release()

    def forget_subscription(self, session: Session, contract: bytes) -> None:
        """The store refused, or the client is gone."""
        session.subscriptions.pop(contract, None)
        self._drop_subscriber(session, contract)

    def _drop_subscriber(self, session: Session, contract: bytes) -> None:
        who = self._subscribers.get(contract)
        if who is not None:
            who.discard(session)
            if not who:
                del self._subscribers[contract]

    # ---- reading -----------------------------------------------------------------------------

    def diagnose(self, query: NodeQuery, subscribers: dict[bytes, int]) -> QueryResponse:
        """Answers a node query from what this process can see."""
        view = NodeView(
            name="simnode",
            address=f"{self.settings.host}:{self._port}",
            uptime_seconds=int(self.now() - self._started_at),
            connections=len(self.sessions),
            contracts=self.index.count(),
            subscribers=subscribers,
            state_nbytes=self._state_nbytes,
            hosted=lambda: [row.instance for row in self.index.rows()],
        )
        return diagnose(query, view)

    def _state_nbytes(self, contract: bytes) -> int | None:
        row = self.index.get(contract)
        return None if row is None else row.state_nbytes

    # ---- time --------------------------------------------------------------------------------

    def _tick(self, now_s: float) -> None:
        for session in list(self.sessions):
            session.handle_deadline(now_s)
        for websocket in list(self._websockets):
            websocket.check(now_s, progress_timeout_s=self.settings.progress_timeout_s)
