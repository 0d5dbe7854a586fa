"""Who wants to hear of which contract. Enters: subscribers and contracts. Leaves: refusals. Next: `simnode.live`.

Source of the caps: protocol.md §6; both are settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

MAX_SUBSCRIPTIONS_PER_CLIENT = 500
MAX_SUBSCRIBERS_PER_CONTRACT = 256

SHARDS = 1024
"""Parts of the table of subscribers: with a million contracts, a walk looks at a thousand of them at once."""


class SubscriptionRefused(Exception):
    """A cap is reached (nobody's fault); the text is fit to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionCaps:
    """How many subscriptions there may be."""

    per_client: int = MAX_SUBSCRIPTIONS_PER_CLIENT
    per_contract: int = MAX_SUBSCRIBERS_PER_CONTRACT


class SubscriberCounts:
    """How many subscribers each contract has, and where: the store's side, which knows handlers, not clients.

    Contracts are kept in shards, so that walking through all of them can be done piece by piece while
    they change: a contract never leaves its shard.

    Args:
        caps: the limit per contract.
    """

    def __init__(self, caps: SubscriptionCaps) -> None:
        self._caps = caps
        #: by `_shard_of`: contract -> place -> subscribers there; no zero is kept
        self._shards: list[dict[bytes, Counter[Hashable]]] = [{} for _ in range(SHARDS)]
        #: place -> all subscribers there
        self._at_place: Counter[Hashable] = Counter()
        #: places that count for nothing and that `sweep` takes out of the shards, with the number of their end
        self._gone: dict[Hashable, int] = {}
        self._ends = 0
        #: always the sum of all counts
        self.total = 0

    def add(self, contract: bytes, place: Hashable) -> None:
        """One more subscriber at `place`. Raises `SubscriptionRefused` when the contract has its fill."""
        count = self.count_of(contract)
        if count >= self._caps.per_contract:
            raise SubscriptionRefused(f"contract has {count} subscribers, maximum is {self._caps.per_contract}")
        self.restore(contract, place, 1)

    def restore(self, contract: bytes, place: Hashable, count: int) -> None:
        """Subscribers that were admitted before this process began; beyond the cap, too."""
        if place in self._gone:  # it is back before it was forgotten
            for _ in self.sweep():
                pass
        self._shard_of(contract).setdefault(contract, Counter())[place] += count
        self._at_place[place] += count
        self.total += count

    def remove(self, contracts: Iterable[bytes], place: Hashable) -> None:
        """One subscriber fewer of each contract at `place`; unknown ones are none."""
        if place in self._gone:
            return
        for contract in contracts:
            shard = self._shard_of(contract)
            places = shard.get(contract)
            if places is None or not places[place]:
                continue
            places[place] -= 1
            self._at_place[place] -= 1
            self.total -= 1
            if not places[place]:
                del places[place]
            if not places:
                del shard[contract]

    def drop_place(self, place: Hashable) -> None:
        """Everybody at `place` is gone, at once; call `sweep` for the memory that they take."""
        count = self._at_place.pop(place, 0)
        if count:
            self.total -= count
            self._ends += 1
            self._gone[place] = self._ends

    @property
    def needs_sweep(self) -> bool:
        """Whether there is something to forget."""
        return bool(self._gone)

    def sweep(self) -> Iterator[None]:
        """Forgets the places that are gone, one shard a step. Changes between two steps do no harm."""
        begun = dict(self._gone)
        for shard in self._shards:
            gone = {place for place, end in begun.items() if self._gone.get(place) == end}
            for contract in [contract for contract, places in shard.items() if not gone.isdisjoint(places)]:
                places = shard[contract]
                for place in gone.intersection(places):
                    del places[place]
                if not places:
                    del shard[contract]
            yield
        for place, end in begun.items():
            if self._gone.get(place) == end:
                del self._gone[place]

    def places_of(self, contract: bytes) -> list[Hashable]:
        """Where the contract has subscribers."""
        places = self._shard_of(contract).get(contract, ())
        return [place for place in places if place not in self._gone] if self._gone else list(places)

    def count_of(self, contract: bytes) -> int:
        """How many subscribers the contract has."""
        places = self._shard_of(contract).get(contract)
        return 0 if places is None else self._count(places)

    def contracts(self, shard: int, at_least: int) -> tuple[int | None, list[tuple[bytes, int]]]:
        """Contracts that have subscribers, with their number, piece by piece.

        A contract is in one piece only, whatever changes between them.

        Args:
            shard: 0, or where the piece before said to go on.
            at_least: how many contracts are enough for one piece.

        Returns:
            Where to go on, None at the end, and the contracts.
        """
        found: list[tuple[bytes, int]] = []
        while shard < SHARDS:
            counts = ((contract, self._count(places)) for contract, places in self._shards[shard].items())
            found += [(contract, count) for contract, count in counts if count]
            shard += 1
            if len(found) >= at_least:
                break
        return (shard if shard < SHARDS else None), found

    def _shard_of(self, contract: bytes) -> dict[bytes, Counter[Hashable]]:
        # by Python's hash, which is salted: whoever chooses the contracts cannot choose one shard for all
        return self._shards[hash(contract) % SHARDS]

    def _count(self, places: Counter[Hashable]) -> int:
        if not self._gone:
            return places.total()
        return sum(count for place, count in places.items() if place not in self._gone)
