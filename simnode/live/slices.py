"""Long work in short turns of the event loop. Enters: small steps. Leaves: turns for others. Next: `shared_work.py`.

A thread would not do: it holds the interpreter for 5 ms at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

SLICE_S = 0.002
"""Of one piece of work, in one turn of the event loop. Each turn serves whoever else is ready."""


class Slices:
    """Says when it is the others' turn. One for each piece of work, made when it begins.

    Args:
        slice_s: seconds in one turn of the loop.
        now: the monotonic clock, in seconds.
    """

    def __init__(self, *, slice_s: float = SLICE_S, now: Callable[[], float] = time.monotonic) -> None:
        self._slice_s = slice_s
        self._now = now
        self._ends_at = now() + slice_s

    async def step_done(self) -> None:
        """Call it after each small step: lets the others go first if this turn's time is up."""
        if self._now() >= self._ends_at:
            await self.next_turn()

    async def next_turn(self) -> None:
        """Lets the others go first."""
        await asyncio.sleep(0)
        self._ends_at = self._now() + self._slice_s


async def in_slices(steps: Iterable[object], slices: Slices | None = None) -> None:
    """Runs through all steps, each of which must be small."""
    slices = slices or Slices()
    for _ in steps:
        await slices.step_done()
