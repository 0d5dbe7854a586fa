"""How much is done for a figure. Enters: nothing. Leaves: `FULL`, `QUICK`. Next: `bench.py`."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.processes import OBVIOUS_PYTHON, OBVIOUS_RAY

SLOW = frozenset({OBVIOUS_RAY})
"""They take as long as all others together, and no target is of theirs: they get fewer transfers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is done for a figure.

    Attributes:
        rounds: of A B A B …, for the two servers that a verdict rests on; the others have one.
        seconds: of a measurement that has no other measure.
        transfers: in a measurement, by MiB.
        counted_transfers: of 50 MiB, whose CPU seconds are counted together.
        updates: to all subscribers, in each phase; phases with and without a stalled one alternate.
        without: servers that are left out.
    """

    rounds: int
    seconds: float
    transfers: dict[int, int]
    counted_transfers: int
    updates: int
    without: frozenset[str] = frozenset()

    def takes_part(self, server: str, number: int, *, is_judged: bool) -> bool:
        """Whether a server is measured in the round of this number, from 0."""
        return server not in self.without and (number == 0 or is_judged)

    def scaled(self, transfers: int, server: str) -> int:
        """How many of so many transfers this server gets."""
        return transfers // (4 if server in SLOW else 1)


FULL = Effort(rounds=5, seconds=1.0, transfers={1: 200, 8: 30, 50: 8}, counted_transfers=20, updates=3)

QUICK = Effort(
    rounds=1,
    seconds=0.5,
    transfers={1: 100, 8: 20, 50: 4},
    counted_transfers=10,
    updates=3,
    without=frozenset({OBVIOUS_PYTHON, OBVIOUS_RAY}),
)
