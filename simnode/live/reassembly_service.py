"""The process that owns the segments. Enters: calls for leases. Leaves: names of segments. Next: `store.py`.

It moves no payload byte: handlers write into the segments it names. It never queues a lease: it
grants or refuses without waiting for another to end, so that an admitted message can always finish.

A lease whose owner is dead, or does not know whether the store has it, is freed once the store has
said that no write refers to it (`holds`), after which it never accepts one that does. A store may
die before it has told what it kept and what it retired: rows say the one, the other is what is left
when every handler has said which leases are its own (`claim`).

A link says what it is before anything is sent to it, or done for it: a handler with `hello`, the store
with `store_hello`.

Link methods of handlers: `hello(owner, granted)`, cast first; `adopt(names)`, cast, of all their leases;
`lease(nbytes, address)`; `grow(name, nbytes)`; `release(name)` and `doubt(name)`, cast; `grant(nbytes)` of heap, and
`give_back(nbytes)`, cast. They are told to `claim()`, which `adopt` answers, and to `relieve(segments)`: to end what
moves most slowly, or the slowest reader of those segments, which only readers hold.

Link methods of the store: `store_hello()`, cast first; then `live([[name], [name, start, stop] …])`, as often as it
takes, and `all_live()`; `lease(nbytes, "")`; and, cast, `release(name)`, `stored(name, start, stop, kept)` and
`retire(name)`. It is asked `holds(names)`, and `heard()`, whose answer comes after all that it has cast.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from simnode.live.link import FAILED, LATER, UNKNOWN_CALL, Link, LinkError, LinkLost, LinkRefusal, LinkServer
from simnode.live.pulse import Pulse
from simnode.live.settings import NodeSettings
from simnode.metrics.slab import StatsSlab
from simnode.storage.accounts import Lease
from simnode.storage.directory_lock import DirectoryLock
from simnode.storage.errors import OutOfBudget, OverShare, StorageError, UnknownSegment
from simnode.storage.pool import SegmentPool

logger = logging.getLogger(__name__)

STORE = "store"
IN_DOUBT = "in doubt"
"""Owns the leases that only the store can tell from segments of its own, and whose owner cannot ask it."""

NO_ROOM = "no_room"
UNKNOWN_SEGMENT = "unknown_segment"

LINGERING_SHARE = 0.25
"""Of the budget: states that only readers hold may take so much before the slowest of the readers is closed."""

RELIEF_INTERVAL_S = 0.1
"""How long the end of one reader may take before the next one is closed."""

ASKED_AT_ONCE = 100
"""Segments that the store is asked about in one message: to free them all takes a few milliseconds."""

ORPHAN_GRACE_S = 5.0
"""After a restart, how long a segment may stay unclaimed by the store and the handlers."""


@dataclass(frozen=True, slots=True)
class _Handler:
    """The peer of a link that has said `hello`; `owner` is unique among the node's processes, dead ones included."""

    owner: str


@dataclass(frozen=True, slots=True)
class _Store:
    """The peer of a link that has said `store_hello`."""

    owner: str = STORE


class ReassemblyService:
    """Leases segments within the node's byte budget and takes them back.

    Args:
        settings: of the node.
        slab: this process's stats.
    """

    def __init__(self, settings: NodeSettings, slab: StatsSlab) -> None:
        self._settings = settings
        self._segments_dir: Path = settings.segments_dir
        self._pool: SegmentPool | None = None
        self._server = LinkServer(settings.socket_path("reassembly"), self._handle, self._lost)
        #: of a store that has said all it had to say
        self._store: Link | None = None
        #: what was stored when the latest store came, less what it has spoken of since
        self._unconfirmed: set[str] = set()
        #: owners of leases that the store is to be asked about
        self._dead: set[str] = set()
        #: leases that handlers claim after a restart, until the store has said what its rows refer to
        self._claims: list[tuple[str, list[str]]] = []
        #: owner -> heap that it may hold, in bytes
        self._grants: dict[str, int] = {}
        self._relieve_readers_at = 0.0
        self._orphans_due_at = 0.0
        self._settling: asyncio.Task[None] | None = None
        self._pulse = Pulse(slab, self._tick)
        self._reserved = slab.peak("simnode_reserved_bytes")
        self._granted = slab.gauge("simnode_granted_bytes")
        self._lingering = slab.gauge("simnode_lingering_bytes")
        self._refused = slab.counter("simnode_reservations_refused_total")
        self._segments = {state: slab.gauge("simnode_segments", state=state) for state in ("in_use", "free")}
        self._segment_bytes = {state: slab.gauge("simnode_segment_bytes", state=state) for state in ("in_use", "free")}
        slab.gauge("simnode_memory_budget_bytes").set(settings.memory_budget_bytes)

    async def start(self) -> None:
        """Takes in what an earlier incarnation left, and listens."""
        self._lock = DirectoryLock(self._segments_dir)
        self._pool = SegmentPool(
            self._segments_dir,
            budget_bytes=self._settings.memory_budget_bytes,
            free_limit_bytes=self._settings.free_segments_bytes,
            address_limit_bytes=int(self._settings.address_share * self._settings.memory_budget_bytes),
            punches=self._settings.punches,
        )
        self._pool.rebuild()
        self._note_all()  # not only with the first tick: till then the gauges would say that there is no segment
        await self._server.start()
        self._pulse.start()
        self._orphans_due_at = self._pulse.now() + ORPHAN_GRACE_S

    async def drain(self) -> None:
        """Stops serving; the segments stay for whoever comes next."""
        self._pulse.stop()
        if self._settling is not None:
            self._settling.cancel()
        await self._server.close()
        if self._pool is not None:  # whoever comes next does not know what lies around the payloads
            self._pool.tidy(at_most=self._pool.figures().stored_segments)
        self._lock.close()

    # ---- calls -------------------------------------------------------------------------------

    def _handle(self, link: Link, method: str, args: list[Any]) -> Any:
        peer = link.peer
        try:
            if isinstance(peer, _Handler):
                return self._handle_handler(link, peer, method, args)
            if isinstance(peer, _Store):
                return self._handle_store(link, peer, method, args)
        except (UnknownSegment, IndexError) as error:
            raise _unknown_segment() from error
        return self._introduce(link, method, args)

    def _introduce(self, link: Link, method: str, args: list[Any]) -> Any:
        """The first thing that a peer says."""
        match method, args:
            case "hello", [owner, granted]:
                assert self._pool is not None
                link.peer = _Handler(owner)
                self._dead.discard(owner)
                self._end_grant(owner)
                # it holds that much already, whatever this service can promise
                self._grants[owner] = granted
                self._pool.granted_bytes += granted
            case "store_hello", []:
                self._welcome_store(link)
            case _:
                raise LinkRefusal(UNKNOWN_CALL, f"{method} comes before the link has said what it is")
        return None

    def _handle_handler(self, link: Link, peer: _Handler, method: str, args: list[Any]) -> Any:
        pool = self._pool
        assert pool is not None
        match method, args:
            case "lease", [nbytes, address]:
                return self._reserve(link, partial(pool.lease, nbytes, peer.owner, address))
            case "grow", [name, nbytes]:
                return self._reserve(link, partial(pool.grow, name, nbytes))
            case "grant", [nbytes]:
                return self._grant_heap(peer.owner, nbytes)
            case "give_back", [nbytes]:
                pool.grant(-nbytes)
                self._grants[peer.owner] -= nbytes
            case "release", [name]:
                self._release(name)
            case "doubt", [name]:
                self._doubt(name)
            case "adopt", [names]:
                self._claimed(peer.owner, names)
            case _:
                raise LinkRefusal(UNKNOWN_CALL, f"no such call of handlers: {method}")
        return None

    def _handle_store(self, link: Link, peer: _Store, method: str, args: list[Any]) -> Any:
        pool = self._pool
        assert pool is not None
        match method, args:
            case "lease", [nbytes, address]:
                return self._reserve(link, partial(pool.lease, nbytes, peer.owner, address))
            case "release", [name]:
                self._release(name)
            case "stored", [name, start, stop, kept]:
                if pool.is_orphan(name):  # leased before a restart of ours, and in nobody's hands but the store's
                    pool.adopt(name, STORE)
                pool.stored(name, start, stop, kept)
                self._note()
            case "retire", [name]:
                self._unconfirmed.discard(name)
                pool.retire(name)
                self._relieve_readers()
            case "live", [live]:
                return self._confirm(live)
            case "all_live", []:
                self._trust(link)
            case _:
                raise LinkRefusal(UNKNOWN_CALL, f"no such call of the store: {method}")
        return None

    def _grant_heap(self, owner: str, nbytes: int) -> None:
        """Grants heap to a handler, which divides what it has among its clients if there is no more."""
        assert self._pool is not None
        try:
            self._pool.grant(nbytes)
        except OutOfBudget as error:
            self._relieve()
            raise LinkRefusal(NO_ROOM, str(error)) from error
        self._grants[owner] += nbytes

    def _end_grant(self, owner: str) -> None:
        assert self._pool is not None
        self._pool.granted_bytes -= self._grants.pop(owner, 0)

    def _reserve(self, link: Link, reserve: Callable[[], Lease]) -> Any:
        """Grants room, or refuses it once all is heard that the store has to tell: it may have ended other leases."""
        try:
            return self._grant(reserve)
        except UnknownSegment:
            raise
        except StorageError as error:
            if self._store is None or self._store is link:
                raise self._refusal(error) from error
        self._store.ask("heard", (), partial(self._reserve_after_all, link, link.call_id, reserve))
        return LATER

    def _reserve_after_all(
        self, link: Link, call_id: int, reserve: Callable[[], Lease], _: Any, error: LinkError | None
    ) -> None:
        if link.is_lost:
            return
        try:
            link.answer(call_id, self._grant(reserve))
        except UnknownSegment:
            link.refuse(call_id, _unknown_segment())
        except StorageError as failure:
            link.refuse(call_id, self._refusal(failure))
        except Exception:  # whatever it is, who asked must hear
            logger.exception("room could not be reserved")
            link.refuse(call_id, LinkRefusal(FAILED, "internal error of the node"))
        link.flush()

    def _grant(self, reserve: Callable[[], Lease]) -> list[Any]:
        lease = reserve()
        self._note()
        return [lease.name, lease.nbytes]

    def _refusal(self, error: StorageError) -> LinkRefusal:
        self._refused.inc()
        if not isinstance(error, OverShare):  # one host's share is none of the others' business
            self._relieve()
        if isinstance(error, OutOfBudget):
            return LinkRefusal(NO_ROOM, str(error))
        logger.error("no room for a segment: %s", error)
        return LinkRefusal(NO_ROOM, "its memory or disk has no space left")

    def _relieve_readers(self) -> None:
        """Closes the slowest reader of what is not current any more, if such states take too much of the budget."""
        assert self._pool is not None
        now_s = self._pulse.now()
        if self._has_much_lingering and now_s >= self._relieve_readers_at:
            self._relieve_readers_at = now_s + RELIEF_INTERVAL_S
            self._relieve()

    @property
    def _has_much_lingering(self) -> bool:
        assert self._pool is not None
        return self._pool.lingering_bytes > LINGERING_SHARE * self._pool.budget_bytes

    def _relieve(self) -> None:
        """Under pressure the slowest goes first: a reader of what is not current any more, else what moves slowly."""
        assert self._pool is not None
        lingering = self._pool.lingering_names if self._has_much_lingering else []
        for handler, _ in self._server.introduced(_Handler):
            handler.cast("relieve", lingering)

    def _doubt(self, name: str) -> None:
        """Its owner cannot say whether the store has it."""
        assert self._pool is not None
        with contextlib.suppress(UnknownSegment):  # it has, and told us
            self._pool.disown(name, IN_DOUBT)
            self._dead.add(IN_DOUBT)
            self._settle_soon()

    def _release(self, name: str) -> None:
        assert self._pool is not None
        try:
            self._pool.release(name)
        except UnknownSegment:
            # the store had kept it before it refused the write that it came in
            logger.info("segment %s was released by its handler and is the store's", name)
        self._note()

    def _claimed(self, owner: str, names: list[str]) -> None:
        """These are all the leases of a handler."""
        assert self._pool is not None
        for name in set(self._pool.leases_of(owner)).difference(names):
            self._doubt(name)
        self._claims.append((owner, names))
        self._settle_claims()

    def _settle_claims(self) -> None:
        """Leases that outlived this service's restart, and that no row refers to by now, are their handlers' again."""
        assert self._pool is not None
        if self._store is None:
            return
        claims, self._claims = self._claims, []
        for owner, names in claims:
            for name in names:
                with contextlib.suppress(UnknownSegment):  # stored, or given back meanwhile
                    self._pool.adopt(name, owner)
        self._note()

    def _welcome_store(self, link: Link) -> None:
        """A store is there, and will say which segments it needs."""
        assert self._pool is not None
        link.peer = _Store()
        self._store = None
        self._unconfirmed = set(self._pool.stored_names)

    def _confirm(self, live: list[list[Any]]) -> list[str]:
        """The store needs these segments, or just a part of them; returns those lost."""
        assert self._pool is not None
        names = [name for name, *_ in live]
        self._unconfirmed.difference_update(names)
        missing = self._pool.live(names)
        for name, *part in live:
            if part and name not in missing:
                try:
                    self._pool.trim_later(name, *part)
                except IndexError:  # not as long as its row says
                    missing.append(name)
        return missing

    def _trust(self, link: Link) -> None:
        """The store has said all it needs, so what nobody claims can be told from it."""
        assert self._pool is not None
        self._store = link
        for name in self._unconfirmed:  # told us, and died before its row was committed
            self._pool.retire(name)
        self._unconfirmed = set()
        self._settle_claims()
        for handler, _ in self._server.introduced(_Handler):  # the others claim as soon as they say what they are
            handler.cast("claim")

    # ---- deaths ------------------------------------------------------------------------------

    def _lost(self, link: Link) -> None:
        assert self._pool is not None
        if link is self._store:
            self._store = None
        if isinstance(link.peer, _Handler):
            owner = link.peer.owner
            if all(peer.owner != owner for _, peer in self._server.introduced(_Handler)):  # else it is back already
                self._end_grant(owner)
            self._dead.add(owner)
            self._settle_soon()
        elif isinstance(link.peer, _Store):
            for name in self._pool.leases_of(STORE):  # a row may refer to it, of which we have not heard
                self._doubt(name)

    def _settle_soon(self) -> None:
        if self._store is not None and self._settling is None and self._unclaimed():
            self._settling = asyncio.get_running_loop().create_task(self._settle(self._store))
            self._settling.add_done_callback(self._settled)

    async def _settle(self, store: Link) -> None:
        """Frees what nobody claims, but for what the store has in hand: it is asked about that again."""
        unclaimed = self._unclaimed()
        for at in range(0, len(unclaimed), ASKED_AT_ONCE):
            asked = unclaimed[at : at + ASKED_AT_ONCE]
            held = await store.call("holds", asked)
            freed = set(asked).difference(held)
            for name in freed.intersection(self._unclaimed()):  # its owner may be back by now
                self._release(name)

    def _unclaimed(self) -> list[str]:
        """Segments in flight that only the store may know of."""
        assert self._pool is not None
        leases = {owner: self._pool.leases_of(owner) for owner in self._dead}
        self._dead = {owner for owner, names in leases.items() if names}
        orphans = self._pool.orphans if self._pulse.now() >= self._orphans_due_at else []
        return [*orphans, *itertools.chain(*leases.values())]

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._settling = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, LinkLost):
            logger.info("the store went away while it was asked what it holds")
        elif error is not None:  # the next tick tries again
            logger.error("what nobody claims could not be freed", exc_info=error)

    # ---- figures -----------------------------------------------------------------------------

    def _tick(self, now_s: float) -> None:
        assert self._pool is not None
        self._pool.tidy()
        self._relieve_readers()
        self._settle_soon()
        self._note_all()

    def _note_all(self) -> None:
        assert self._pool is not None
        self._note()
        figures = self._pool.figures()
        self._segments["in_use"].set(figures.leases + figures.stored_segments + figures.orphans)
        self._segments["free"].set(figures.free_segments)
        self._segment_bytes["in_use"].set(
            figures.reserved_bytes + figures.stored_bytes + figures.orphan_bytes + figures.lingering_bytes
        )
        self._segment_bytes["free"].set(figures.free_bytes)

    def _note(self) -> None:
        assert self._pool is not None
        self._reserved.set(self._pool.reserved_bytes, self._pulse.now())
        self._granted.set(self._pool.granted_bytes)
        self._lingering.set(self._pool.lingering_bytes)


def _unknown_segment() -> LinkRefusal:
    """For a segment that is not in the condition that the peer takes it for; which one is nothing for a client."""
    return LinkRefusal(UNKNOWN_SEGMENT, "the node has lost the room")
