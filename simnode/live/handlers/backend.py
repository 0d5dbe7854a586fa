"""What lies behind a handler's clients. Enters: settings. Leaves: rooms, states, the store. Next: `session.py`.

The two links of a handler, its view of the index and its mappings of the store's segments. It knows
no client.
"""

from __future__ import annotations

import logging
import resource
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

from simnode.live.handlers.notices import Notice
from simnode.live.handlers.stats import HandlerStats
from simnode.live.link import Handle, Link, LinkClient, LinkError, LinkLost
from simnode.live.payloads import Lease, Payload
from simnode.live.settings import NodeSettings
from simnode.node.grants import Grant
from simnode.node.ledger import Account
from simnode.protocol.reassembly import SinkRefused
from simnode.storage.cache import SegmentCache
from simnode.storage.errors import IndexDamaged, SegmentGone, StorageError
from simnode.storage.index import Index
from simnode.storage.reader import StoredContracts
from simnode.storage.segments import DESCRIPTORS_OF_A_SEGMENT

logger = logging.getLogger(__name__)

CACHED_MAPPINGS = 512
"""Mappings of stored segments that a handler keeps: far below vm.max_map_count, two descriptors each."""

DESCRIPTORS_FOR_MAPPINGS = 0.25
"""Of the process's descriptors, so that those that are kept for later leave enough for clients and their messages."""


class Backend:
    """The services behind one handler.

    Args:
        settings: of the node.
        owner: names this process to the reassembly service; another incarnation has another name.
        stats: of this process.
        hear_store: is called with what the store casts.
        hear_service: with what the reassembly service casts.
        store_up: with each new link to the store, before anything else is sent on it.
    """

    def __init__(
        self,
        settings: NodeSettings,
        owner: str,
        *,
        stats: HandlerStats,
        hear_store: Handle,
        hear_service: Handle,
        store_up: Callable[[Link], None],
    ) -> None:
        self._settings = settings
        self._owner = owner
        self._stats = stats
        #: mappings of stored segments; whoever needs a descriptor may give idle ones up
        self.mappings = SegmentCache(settings.segments_dir, _affordable_mappings())
        #: contracts whose subscribers could not be told; they are with the next tick
        self.untold: set[bytes] = set()
        #: what this process leases, for a reassembly service that starts again
        self._leases: weakref.WeakSet[Lease] = weakref.WeakSet()
        self._grant = Grant()
        self._hear_service = hear_service
        self._service = LinkClient(settings.socket_path("reassembly"), self._heard_service, self._greet_service)
        self.store = LinkClient(settings.socket_path("store"), hear_store, store_up)

    async def start(self) -> None:
        """Connects, and opens the index once the store has made it."""
        self._service.start()
        self.store.start()
        await self.store.wait_up()
        await self._service.wait_up()
        settings = self._settings
        self.index = Index(settings.index_dir, readonly=True, max_readers=settings.max_index_readers)
        self.contracts = StoredContracts(self.index, self.mappings)

    async def close(self) -> None:
        """Ends the links and closes the index."""
        await self.store.close()
        await self._service.close()
        self.index.close()

    def lease(self, nbytes: int, account: Account, give: Callable[[Lease | SinkRefused], None]) -> None:
        """Asks for room for a connection's message; `give` gets a `Lease`, or a `SinkRefused`, whatever goes wrong."""
        take = partial(self._leased, account)
        self._service.ask("lease", (nbytes, account.address), partial(self._reserved, nbytes, take, give))

    def grow(self, lease: Lease, nbytes: int, give: Callable[[Lease | SinkRefused], None]) -> None:
        """Asks for more room behind what is in a lease; `give` gets that lease, or a `SinkRefused` with the reason."""
        take = partial(self._grown, lease)
        self._service.ask("grow", (lease.name, nbytes), partial(self._reserved, nbytes, take, give))

    def notice_of(self, contract: bytes, version: int = 0, delta: Payload | None = None) -> Notice | None:
        """The contract's newest state, to be released; `delta` counts if that is of `version`.

        None if there is none to be had; if that may change, the contract is one of `untold`.
        """
        try:
            stored = self.contracts.state(contract)
        except StorageError as failure:
            logger.error("subscribers of contract %s cannot be told: %s", contract.hex(), failure)
            if not isinstance(failure, SegmentGone | IndexDamaged):
                self.untold.add(contract)
            return None
        if stored is None:
            return None
        return Notice(stored, delta if stored.version == version else None, self._stats.notifications_encoded)

    def use_grant(self, held_bytes: int) -> None:
        """Asks the node for heap, or gives heap back, so that `held_bytes` are within the grant."""
        wanted = self._grant.wanted(held_bytes)
        if wanted:
            self._service.ask("grant", (wanted,), partial(self._granted, wanted))
            return
        surplus = self._grant.surplus(held_bytes)
        if surplus:
            self._service.cast("give_back", surplus)

    @property
    def granted_bytes(self) -> int:
        """Heap that the node's budget counts for this process."""
        return self._grant.granted_bytes

    @property
    def queued_bytes(self) -> int:
        """Bytes on their way to the services that have not left this process."""
        return self._service.queued_bytes + self.store.queued_bytes

    def _granted(self, wanted: int, _: Any, error: LinkError | None) -> None:
        if error is None:
            self._grant.granted(wanted)
        else:
            self._grant.refused()

    def _reserved(
        self,
        nbytes: int,
        take: Callable[[str, int], Lease],
        give: Callable[[Lease | SinkRefused], None],
        result: Any,
        error: LinkError | None,
    ) -> None:
        """The service has answered: `take` makes a lease of the name and the length of the segment that it granted."""
        room: Lease | SinkRefused
        if error is not None:
            room = _no_room(nbytes, error)
        else:
            try:
                room = take(*result)
            except Exception as failure:  # whatever it is, who asked must hear
                room = _unusable(nbytes, failure)
        give(room)

    def _leased(self, account: Account, name: str, nbytes: int) -> Lease:
        try:
            lease = Lease(self.mappings.open(name, writable=True), self._service, account)
        except BaseException:
            self._service.cast("release", name)
            raise
        self._leases.add(lease)
        return lease

    def _grown(self, lease: Lease, name: str, nbytes: int) -> Lease:
        return self.mappings.with_descriptors(partial(lease.grown, name, nbytes))

    def _heard_service(self, link: Link, method: str, args: list[Any]) -> None:
        if method == "claim":
            self._claim(link)
        else:
            self._hear_service(link, method, args)

    def _greet_service(self, link: Link) -> None:
        link.cast("hello", self._owner, self._grant.lost())
        self._claim(link)

    def _claim(self, link: Link) -> None:
        link.cast("adopt", [lease.name for lease in self._leases if lease.is_ours])


def _no_room(nbytes: int, error: LinkError) -> SinkRefused:
    """The service refused, or is away."""
    if isinstance(error, LinkLost):
        return SinkRefused("the node's reassembly service is away")
    return SinkRefused(f"the node has no room for {nbytes} bytes: {error}")


def _unusable(nbytes: int, failure: Exception) -> SinkRefused:
    """The service granted room that this process cannot use."""
    if isinstance(failure, StorageError):
        logger.error("granted room cannot be used: %s: %s", type(failure).__name__, failure)
    else:
        logger.error("granted room cannot be used", exc_info=failure)
    return SinkRefused(f"the node has no room for {nbytes} bytes")


def _affordable_mappings() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return CACHED_MAPPINGS
    return max(1, min(CACHED_MAPPINGS, int(limit * DESCRIPTORS_FOR_MAPPINGS) // DESCRIPTORS_OF_A_SEGMENT))
