"""The process that owns the contracts. Enters: calls. Leaves: answers. Next: `write_batches.py`, its writer.

It holds the links to the handlers and to the reassembly service, and counts who subscribes to what. A
link says `hello` before anything is sent to it, or done for it.

Link methods of handlers: `hello(slot)`, `put(instance, code_hash, params, code, state, subscribe)`,
`update(instance, code_hash, keeps_current, parts)`, `subscribe(instance)`, `unsubscribe([instance])`
cast, `resubscribe([[instance, count]])`, `register_delegate(key, code_hash)`,
`unregister_delegate(key)`, `subscriptions(shard)`, which answers `[next shard or None, [[instance, count]]]`,
and `subscriber_counts([instance])`. Handlers get `changed(instance, version, delta)`. The
reassembly service asks `holds(names)`, and `heard()`, which says that all is told that there was.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from simnode.live.link import LATER, UNKNOWN_CALL, Link, LinkClient, LinkLost, LinkRefusal, LinkServer
from simnode.live.pulse import Pulse
from simnode.live.settings import NodeSettings
from simnode.live.slices import in_slices
from simnode.live.store.write_batches import WriteBatches
from simnode.live.store_codes import MISSING, REFUSED
from simnode.metrics.slab import StatsSlab
from simnode.node.subscriptions import SubscriberCounts, SubscriptionRefused
from simnode.storage.data_directory import check_index
from simnode.storage.directory_lock import DirectoryLock
from simnode.storage.index import Index

logger = logging.getLogger(__name__)

SUBSCRIPTIONS_AT_ONCE = 1000
"""Contracts in one answer to `subscriptions`: half a millisecond, and far from the limit of a link message."""

SEGMENTS_AT_ONCE = 500
"""Segments that the reassembly service is told of in one message."""

WRITES = frozenset({"put", "update", "register_delegate", "unregister_delegate"})


@dataclass(frozen=True, slots=True)
class _Handler:
    """The peer of a link that has said `hello`: which of the pool it is."""

    slot: int


class ContractStore:
    """Keeps contracts, counts subscribers and tells them.

    Args:
        settings: of the node.
        slab: this process's stats.
    """

    def __init__(self, settings: NodeSettings, slab: StatsSlab) -> None:
        self._settings = settings
        self._index: Index | None = None
        self._server = LinkServer(settings.socket_path("store"), self._handle, self._lost)
        self._service = LinkClient(settings.socket_path("reassembly"), self._handle_service, self._greet_service)
        self._subscribers = SubscriberCounts(settings.caps)
        self._writer: WriteBatches | None = None
        #: tells the reassembly service what rows refer to
        self._introduction: asyncio.Task[None] | None = None
        #: takes the subscribers of dead handlers out of the table
        self._sweeping: asyncio.Task[None] | None = None
        #: whether handlers may have died since the table of readers was looked through
        self._has_lost_readers = True
        self._slab = slab
        self._pulse = Pulse(slab, self._tick)
        self._contracts_gauge = slab.gauge("simnode_store_contracts")
        self._bytes_gauge = slab.gauge("simnode_store_bytes")
        self._subscriptions_gauge = slab.gauge("simnode_store_subscriptions")

    async def start(self) -> None:
        """Opens the index and listens."""
        self._lock = DirectoryLock(self._settings.index_dir)
        check_index(self._settings.index_dir)
        self._index = Index(
            self._settings.index_dir,
            durable=self._settings.durable,
            max_readers=self._settings.max_index_readers,
        )
        self._pulse.start()
        if not self._index.is_counted:
            await asyncio.get_running_loop().run_in_executor(None, _recount, self._index)
        self._writer = WriteBatches(
            self._settings, self._slab, index=self._index, service=self._service, subscribers=self._subscribers
        )
        self._service.start()
        await self._service.wait_up()
        await self._server.start()
        self._note()  # not only with the next tick: till then the gauges would say that nothing is stored

    async def drain(self) -> None:
        """Stops serving once the batch in hand is committed."""
        self._pulse.stop()
        await self._server.close()
        for task in (self._introduction, self._sweeping):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._writer is not None:
            await self._writer.close()
        await self._service.close()
        if self._index is not None:
            self._index.close()
            self._lock.close()

    # ---- links -------------------------------------------------------------------------------

    def _greet_service(self, link: Link) -> None:
        link.cast("store_hello")
        if self._introduction is not None:
            self._introduction.cancel()
        self._introduction = asyncio.get_running_loop().create_task(self._introduce(link))
        self._introduction.add_done_callback(_log_failure)

    async def _introduce(self, link: Link) -> None:
        """Tells the service what rows refer to, message by message; writes go on meanwhile, and are told of as ever."""
        assert self._writer is not None
        live, last = self._writer.segments_in_hand(), ""
        try:
            while True:
                page = self._writer.live_segments(last, SEGMENTS_AT_ONCE)
                for name in await link.call("live", live + page):
                    logger.error("segment %s is gone: the contracts in it cannot be read", name)
                if not page:
                    break
                live, last = [], page[-1][0]
            await link.call("all_live")
        except LinkLost:
            return  # the next greeting tells
        except LinkRefusal as refusal:
            logger.error("the reassembly service does not take what rows refer to: %s", refusal)
            link.close()  # and greet it once more

    def _handle(self, link: Link, method: str, args: list[Any]) -> Any:
        """What handlers call."""
        if link.peer is None:
            self._introduce_handler(link, method, args)
            return None
        if method in WRITES:
            assert self._writer is not None
            self._writer.add(link, method, args)
            return LATER
        match method, args:
            case "subscribe", [instance]:
                return self._subscribe(link, instance)
            case "unsubscribe", [instances]:
                self._subscribers.remove(instances, link)
            case "resubscribe", [counts]:
                for instance, count in counts:
                    self._subscribers.restore(instance, link, count)
            case "subscriptions", [shard]:
                return self._subscribers.contracts(shard, SUBSCRIPTIONS_AT_ONCE)
            case "subscriber_counts", [instances]:
                return [self._subscribers.count_of(instance) for instance in instances]
            case _:
                raise LinkRefusal(UNKNOWN_CALL, f"no such call of handlers: {method}")
        return None

    def _introduce_handler(self, link: Link, method: str, args: list[Any]) -> None:
        """The first thing that a peer says."""
        if method != "hello":
            raise LinkRefusal(UNKNOWN_CALL, f"{method} comes before the link has said what it is")
        (slot,) = args
        link.peer = _Handler(slot)

    def _handle_service(self, link: Link, method: str, args: list[Any]) -> Any:
        """What the reassembly service asks."""
        match method, args:
            case "holds", [names]:
                assert self._writer is not None
                return self._writer.holds(names)
            case "heard", []:  # and with it all that was cast before
                return None
            case _:
                raise LinkRefusal(UNKNOWN_CALL, f"no such call of the reassembly service: {method}")

    def _lost(self, link: Link) -> None:
        self._subscribers.drop_place(link)
        self._sweep()
        self._has_lost_readers = True  # the process may take a moment longer to die than its link

    def _sweep(self) -> None:
        if self._sweeping is None and self._subscribers.needs_sweep:
            self._sweeping = asyncio.get_running_loop().create_task(in_slices(self._subscribers.sweep()))
            self._sweeping.add_done_callback(self._swept)

    def _swept(self, task: asyncio.Task[None]) -> None:
        self._sweeping = None
        _log_failure(task)
        if self._subscribers.needs_sweep and not task.cancelled():
            self._sweep()

    def _subscribe(self, link: Link, instance: bytes) -> list[Any]:
        assert self._index is not None
        row = self._index.get(instance)
        if row is None:
            raise LinkRefusal(MISSING, "no such contract")
        try:
            self._subscribers.add(instance, link)
        except SubscriptionRefused as refusal:
            raise LinkRefusal(REFUSED, str(refusal)) from refusal
        return [row.code_hash, row.version]

    def _tick(self, now_s: float) -> None:
        self._service.flush()
        self._note()
        if self._has_lost_readers and self._index is not None:
            self._has_lost_readers = False
            self._index.reader_check()  # else the slots of dead handlers would fill LMDB's table of readers

    def _note(self) -> None:
        if self._index is not None and self._index.is_counted:
            self._contracts_gauge.set(self._index.count())
            self._bytes_gauge.set(self._index.totals().nbytes)
        self._subscriptions_gauge.set(self._subscribers.total)


def _recount(index: Index) -> None:
    """For an index that an older simnode wrote; takes seconds for a million contracts."""
    logger.info("counting what is in the index %s, once", index.path)
    index.recount(lambda number: logger.info("counted %d contracts", number))


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("work in the background failed", exc_info=task.exception())
