"""Recycled segments waiting for a use. Enters: names and capacities. Leaves: the best fit. Next: `pool.py`.

Rewriting pages that exist is five times as fast as touching new ones, so they are worth keeping;
but only so many bytes of them, and never much more for a message than it needs.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

MAX_OVERSIZE_RATIO: Final = 1.5
"""A segment is handed out for a message of at least its capacity divided by this."""


class FreeList:
    """Names of free segments by capacity, the oldest given up first. Pure: it touches no file.

    Args:
        limit_bytes: capacity that may lie idle, all together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes: Final = limit_bytes
        #: always the sum of the capacities
        self.nbytes = 0
        self._capacities: dict[str, int] = {}  # in the order of their freeing
        self._by_capacity: list[tuple[int, str]] = []  # sorted

    def __len__(self) -> int:
        return len(self._capacities)

    def add(self, name: str, capacity: int) -> list[str]:
        """Keep a segment; the names that have to go for it (itself, if it is larger than the limit)."""
        self._capacities[name] = capacity
        insort(self._by_capacity, (capacity, name))
        self.nbytes += capacity
        if capacity > self.limit_bytes:
            return self._give_up(name)
        evicted: list[str] = []
        while self.nbytes > self.limit_bytes:
            evicted += self._give_up(next(iter(self._capacities)))
        return evicted

    def take(self, nbytes: int, at_most: int) -> str | None:
        """Remove and return the smallest segment that holds `nbytes`, if it is not too large.

        Args:
            nbytes: capacity that is needed.
            at_most: capacity that there is room for in the budget.
        """
        at = bisect_left(self._by_capacity, (nbytes, ""))
        if at == len(self._by_capacity):
            return None
        capacity, name = self._by_capacity[at]
        if capacity > min(nbytes * MAX_OVERSIZE_RATIO, at_most):
            return None
        self._give_up(name)
        return name

    def clear(self) -> list[str]:
        """Give up everything; the names, oldest first."""
        names = list(self._capacities)
        self._capacities.clear()
        self._by_capacity.clear()
        self.nbytes = 0
        return names

    def _give_up(self, name: str) -> list[str]:
        capacity = self._capacities.pop(name)
        del self._by_capacity[bisect_left(self._by_capacity, (capacity, name))]
        self.nbytes -= capacity
        return [name]
