"""Long work gives the loop back when its time is up, by a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from simnode.live.slices import Slices, in_slices

STEP_S = 0.000_5
SLICE_S = 0.002


class Clock:
    """Each step of the work takes `STEP_S`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.steps = 0

    def __call__(self) -> float:
        return self.now_s

    def work(self, steps: int) -> Iterator[None]:
        for _ in range(steps):
            self.now_s += STEP_S
            self.steps += 1
            yield


async def test_others_have_their_turn_after_each_slice_and_not_before() -> None:
    clock = Clock()
    seen: list[int] = []

    def others() -> None:
        seen.append(clock.steps)
        asyncio.get_running_loop().call_soon(others)

    asyncio.get_running_loop().call_soon(others)
    await in_slices(clock.work(40), Slices(slice_s=SLICE_S, now=clock))
    each = round(SLICE_S / STEP_S)
    assert seen == list(range(each, 41, each))


async def test_work_that_is_short_is_done_in_one_turn() -> None:
    clock = Clock()
    seen: list[int] = []
    asyncio.get_running_loop().call_soon(lambda: seen.append(clock.steps))
    await in_slices(clock.work(3), Slices(slice_s=SLICE_S, now=clock))
    assert (clock.steps, seen) == (3, [])
