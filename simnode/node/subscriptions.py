"""Who wants to hear of which contract. Enters: subscribers and contracts. Leaves: refusals. Next: `simnode.live`.

Source of the caps: protocol.md §6; both are settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

MAX_SUBSCRIPTIONS_PER_CLIENT = 500
MAX_SUBSCRIBERS_PER_CONTRACT = 256


class SubscriptionRefused(Exception):
    """A cap is reached (nobody's fault); the text is fit to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionCaps:
    """How many subscriptions there may be."""

    per_client: int = MAX_SUBSCRIPTIONS_PER_CLIENT
    per_contract: int = MAX_SUBSCRIBERS_PER_CONTRACT


class SubscriberCounts:
    """How many subscribers each contract has, and where: the store's side, which knows handlers, not clients.

    Args:
        caps: the limit per contract.
    """

    def __init__(self, caps: SubscriptionCaps) -> None:
        self._caps = caps
        #: contract -> place -> subscribers there; no zero is kept
        self._places: dict[bytes, Counter[Hashable]] = {}
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
        self._places.setdefault(contract, Counter())[place] += count
        self.total += count

    def remove(self, contracts: Iterable[bytes], place: Hashable) -> None:
        """One subscriber fewer of each contract at `place`; unknown ones are none."""
        for contract in contracts:
            places = self._places.get(contract)
            if places is None or not places[place]:
                continue
            places[place] -= 1
            self.total -= 1
            if not places[place]:
                del places[place]
            if not places:
                del self._places[contract]

    def drop_place(self, place: Hashable) -> None:
        """Everybody at `place` is gone."""
        for contract in [contract for contract, places in self._places.items() if place in places]:
            places = self._places[contract]
            self.total -= places.pop(place)
            if not places:
                del self._places[contract]

    def places_of(self, contract: bytes) -> list[Hashable]:
        """Where the contract has subscribers."""
        return list(self._places.get(contract, ()))

    def count_of(self, contract: bytes) -> int:
        """How many subscribers the contract has."""
        places = self._places.get(contract)
        return places.total() if places else 0

    def contracts(self) -> Iterable[tuple[bytes, int]]:
        """Every contract that has subscribers, with their number."""
        return [(contract, places.total()) for contract, places in self._places.items()]
