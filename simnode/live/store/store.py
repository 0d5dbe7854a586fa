"""The process that owns the contracts. Enters: calls. Leaves: answers. Next: `write_batches.py`, its writer.

It holds the links to the handlers and to the reassembly service, and counts who subscribes to what.

Link methods of handlers: `hello(slot)`, `put(instance, code_hash, params, code, state, subscribe)`,
`update(instance, code_hash, keeps_current, parts)`, `subscribe(instance)`, `unsubscribe([instance])`
cast, `resubscribe([[instance, count]])`, `register_delegate(key, code_hash)`,
`unregister_delegate(key)`, `subscriptions()`. Handlers get `changed(instance, version, delta)`. The
reassembly service asks `holds(names)`, and `heard()`, which says that all is told that there was.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from simnode.live.link import LATER, Link, LinkClient, LinkRefusal, LinkServer
from simnode.live.pulse import Pulse
from simnode.live.settings import NodeSettings
from simnode.live.store.write_batches import WriteBatches
from simnode.live.store_codes import MISSING, REFUSED
from simnode.metrics.slab import StatsSlab
from simnode.node.subscriptions import SubscriberCounts, SubscriptionRefused
from simnode.storage.directory_lock import DirectoryLock
from simnode.storage.index import Index

logger = logging.getLogger(__name__)

WRITES = frozenset({"put", "update", "register_delegate", "unregister_delegate"})


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
        self._service = LinkClient(settings.socket_path("reassembly"), self._handle, self._greet_service)
        self._subscribers = SubscriberCounts(settings.caps)
        self._writer: WriteBatches | None = None
        #: whether handlers may have died since the table of readers was looked through
        self._has_lost_readers = True
        self._slab = slab
        self._pulse = Pulse(slab, self._tick)
        self._contracts_gauge = slab.gauge("simnode_store_contracts")
        self._bytes_gauge = slab.gauge("simnode_store_bytes")
        self._subscriptions_gauge = slab.gauge("simnode_store_subscriptions")

    async def start(self) -> None:
        """Opens the index, counts what is in it, and listens."""
        self._lock = DirectoryLock(self._settings.index_dir)
        self._index = Index(
            self._settings.index_dir,
            durable=self._settings.durable,
            max_readers=self._settings.max_index_readers,
        )
        self._writer = WriteBatches(
            self._settings, self._slab, index=self._index, service=self._service, subscribers=self._subscribers
        )
        self._service.start()
        await self._service.wait_up()
        await self._server.start()
        self._pulse.start()

    async def drain(self) -> None:
        """Stops serving once the batch in hand is committed."""
        self._pulse.stop()
        await self._server.close()
        if self._writer is not None:
            await self._writer.close()
        await self._service.close()
        if self._index is not None:
            self._index.close()
            self._lock.close()

    # ---- links -------------------------------------------------------------------------------

    def _greet_service(self, link: Link) -> None:
        assert self._writer is not None
        call = link.call("store_hello", self._writer.live_segments())
        call.add_done_callback(_report_lost_segments)

    def _handle(self, link: Link, method: str, args: list[Any]) -> Any:
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
            case "subscriptions", []:
                return [[instance, count] for instance, count in self._subscribers.contracts()]
            case "hello", [slot]:
                link.peer = slot
            case "holds", [names]:
                assert self._writer is not None
                return self._writer.holds(names)
            case "heard", []:  # and with it all that was cast before
                pass
            case _:
                raise AssertionError(f"no such call: {method}")
        return None

    def _lost(self, link: Link) -> None:
        self._subscribers.drop_place(link)
        self._has_lost_readers = True  # the process may take a moment longer to die than its link

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
        if self._writer is not None:
            self._contracts_gauge.set(self._writer.contracts)
            self._bytes_gauge.set(self._writer.stored_bytes)
        self._subscriptions_gauge.set(self._subscribers.total)
        if self._has_lost_readers and self._index is not None:
            self._has_lost_readers = False
            self._index.reader_check()  # else the slots of dead handlers would fill LMDB's table of readers


def _report_lost_segments(call: asyncio.Future[Any]) -> None:
    if call.cancelled() or call.exception() is not None:
        return  # the link went again; the next greeting tells
    for name in call.result():
        logger.error("segment %s is gone: the contracts in it cannot be read", name)
