"""Who wants to hear of which contract. Enters: subscribers and contracts. Leaves: refusals. Next: `simnode.live`.

Source of the caps: protocol.md §6; both are settings.
"""

from __future__ import annotations

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


class _Place:
    """The subscribers at one place, by contract.

    Plain numbers in a few dictionaries: an object for each of a million contracts would cost the
    collector of garbage a tenth of a second every now and then.
    """

    __slots__ = ("shards", "total")

    def __init__(self) -> None:
        #: contract -> subscribers, in the shard that its hash gives; no zero is kept
        self.shards: list[dict[bytes, int]] = [{} for _ in range(SHARDS)]
        #: always the sum of all counts
        self.total = 0


class SubscriberCounts:
    """How many subscribers each contract has, and where: the store's side, which knows handlers, not clients.

    There are few places. Contracts are in shards, so that all of them can be gone through piece by
    piece while they change: a contract never leaves its shard.

    Args:
        caps: the limit per contract.
    """

    def __init__(self, caps: SubscriptionCaps) -> None:
        self._caps = caps
        self._places: dict[Hashable, _Place] = {}
        #: of places that are gone, until `sweep`
        self._left_behind: list[dict[bytes, int]] = []

    @property
    def total(self) -> int:
        """The sum of all counts."""
        return sum(place.total for place in self._places.values())

    def add(self, contract: bytes, place: Hashable) -> None:
        """One more subscriber at `place`. Raises `SubscriptionRefused` when the contract has its fill."""
        count = self.count_of(contract)
        if count >= self._caps.per_contract:
            raise SubscriptionRefused(f"contract has {count} subscribers, maximum is {self._caps.per_contract}")
        self.restore(contract, place, 1)

    def restore(self, contract: bytes, place: Hashable, count: int) -> None:
        """Subscribers that were admitted before this process began; beyond the cap, too."""
        here = self._places.get(place)
        if here is None:
            here = self._places[place] = _Place()
        shard = here.shards[_shard_of(contract)]
        shard[contract] = shard.get(contract, 0) + count
        here.total += count

    def remove(self, contracts: Iterable[bytes], place: Hashable) -> None:
        """One subscriber fewer of each contract at `place`; unknown ones are none."""
        here = self._places.get(place)
        if here is None:
            return
        for contract in contracts:
            shard = here.shards[_shard_of(contract)]
            count = shard.get(contract)
            if count is None:
                continue
            here.total -= 1
            if count == 1:
                del shard[contract]
            else:
                shard[contract] = count - 1

    def drop_place(self, place: Hashable) -> None:
        """Everybody at `place` is gone, at once; call `sweep` for the memory that they take."""
        here = self._places.pop(place, None)
        if here is not None:
            self._left_behind += here.shards

    @property
    def needs_sweep(self) -> bool:
        """Whether there is memory to give back."""
        return bool(self._left_behind)

    def sweep(self) -> Iterator[None]:
        """Gives back what places that are gone have left, one shard a step."""
        while self._left_behind:
            self._left_behind.pop().clear()
            yield

    def places_of(self, contract: bytes) -> list[Hashable]:
        """Where the contract has subscribers."""
        shard = _shard_of(contract)
        return [place for place, here in self._places.items() if contract in here.shards[shard]]

    def count_of(self, contract: bytes) -> int:
        """How many subscribers the contract has."""
        shard = _shard_of(contract)
        return sum(here.shards[shard].get(contract, 0) for here in self._places.values())

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
        while shard < SHARDS and len(found) < at_least:
            counts: dict[bytes, int] = {}
            for here in self._places.values():
                for contract, count in here.shards[shard].items():
                    counts[contract] = counts.get(contract, 0) + count
            found += counts.items()
            shard += 1
        return (shard if shard < SHARDS else None), found


def _shard_of(contract: bytes) -> int:
    # by Python's hash, which is salted: whoever chooses the contracts cannot choose one shard for all
    return hash(contract) % SHARDS
