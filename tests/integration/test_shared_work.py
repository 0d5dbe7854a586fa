"""Work that many ask for is done once, one at a time, and nobody is given what is older than it may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from simnode.live.shared_work import GIVEN_AT_ONCE, NodeTurn, SharedWork, Waiter
from tests.support.eventually import eventually

MAX_AGE_S = 1.0
MAX_KEPT_BYTES = 250
DEAR = "dear"


def weigh(result: str) -> int:
    return 100 if result.startswith(DEAR) else 0


class World:
    """Work whose end is in the test's hand."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.work = SharedWork(max_age_s=MAX_AGE_S, weigh=weigh, max_kept_bytes=MAX_KEPT_BYTES, now=lambda: self.now_s)
        self.turn = asyncio.Lock()
        self.begun: list[str] = []
        self.given: list[tuple[int, str]] = []
        self.may_end = asyncio.Event()
        self._askers = 0

    def ask(self, key: str) -> Waiter[str]:
        self._askers += 1
        asker = self._askers

        async def make() -> str:
            self.begun.append(key)
            await self.may_end.wait()
            return f"{key}: {len(self.begun)}"

        return self.work.ask(key, make, self.turn, lambda result: self.given.append((asker, result)))

    async def asked(self, key: str, times: int = 1) -> None:
        """Asks, and waits until all is answered."""
        for _ in range(times):
            self.ask(key)
        await eventually(lambda: len(self.given) == self._askers)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.work.close()


async def test_all_who_ask_before_it_begins_share_it(world: World) -> None:
    world.may_end.set()
    await world.asked("cheap", times=60)
    assert world.begun == ["cheap"]
    assert world.given == [(asker, "cheap: 1") for asker in range(1, 61)], "in the order in which they asked"


async def test_who_asks_later_is_not_given_what_began_before(world: World) -> None:
    """A client that subscribes and then asks would not find itself."""
    world.ask("cheap")
    await eventually(lambda: world.begun)
    world.ask("cheap")
    world.ask("cheap")
    world.may_end.set()
    await eventually(lambda: len(world.given) == 3)
    assert world.given == [(1, "cheap: 1"), (2, "cheap: 2"), (3, "cheap: 2")]


async def test_what_is_dear_is_given_to_those_who_ask_while_it_is_young(world: World) -> None:
    world.ask(DEAR)
    await eventually(lambda: world.begun)
    world.ask(DEAR)
    world.may_end.set()
    await eventually(lambda: len(world.given) == 2)
    world.now_s = MAX_AGE_S - 0.01
    await world.asked(DEAR)
    assert world.begun == [DEAR]
    world.now_s = MAX_AGE_S
    await world.asked(DEAR)
    assert world.begun == [DEAR, DEAR]


async def test_different_work_is_done_one_after_the_other(world: World) -> None:
    world.ask("one")
    world.ask("two")
    await eventually(lambda: world.begun)
    await asyncio.sleep(0)
    assert world.begun == ["one"]
    world.may_end.set()
    await eventually(lambda: len(world.given) == 2)
    assert world.given == [(1, "one: 1"), (2, "two: 2")]


async def test_many_are_given_the_result_in_several_turns(world: World) -> None:
    """Each may do something with it, and others want their turn."""
    turns: list[int] = []
    world.may_end.set()
    for _ in range(3 * GIVEN_AT_ONCE):
        world.ask("cheap")

    def look() -> None:
        turns.append(len(world.given))
        asyncio.get_running_loop().call_soon(look)

    look()
    await eventually(lambda: len(world.given) == 3 * GIVEN_AT_ONCE)
    steps = [after - before for before, after in pairwise(turns)]
    assert max(steps) <= GIVEN_AT_ONCE


async def test_work_that_nobody_wants_any_more_ends_and_is_joined_by_nobody(world: World) -> None:
    first, second = world.ask("cheap"), world.ask("cheap")
    await eventually(lambda: world.begun)
    waiting = world.ask("another")
    first.cancel()
    first.cancel()
    waiting.cancel()
    assert world.turn.locked()
    second.cancel()
    await eventually(lambda: not world.turn.locked())
    world.may_end.set()
    await world.work.close()
    assert world.given == []
    assert world.begun == ["cheap"]


async def test_work_that_was_given_up_before_it_began_begins_for_who_asks_anew(world: World) -> None:
    world.ask("cheap").cancel()
    world.ask("cheap")
    world.may_end.set()
    await eventually(lambda: world.given)
    assert world.given == [(2, "cheap: 1")]


async def test_what_is_kept_has_a_limit_and_old_results_go(world: World) -> None:
    world.may_end.set()
    for number in range(3):
        await world.asked(f"{DEAR} {number}")
    assert world.work.kept_bytes == 200
    await world.asked(f"{DEAR} 2")
    await world.asked(f"{DEAR} 0")
    assert world.begun == [f"{DEAR} {number}" for number in (0, 1, 2, 0)], "the oldest made room"
    world.now_s = MAX_AGE_S
    world.work.forget_old()
    assert world.work.kept_bytes == 0


async def test_turn_of_a_node_is_one_processs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two views of one file stand for two processes; one that dies lets go."""
    monkeypatch.setattr("simnode.live.shared_work.TURN_POLL_S", 0)
    here, there = NodeTurn(tmp_path / "turn"), NodeTurn(tmp_path / "turn")
    entered: list[str] = []

    async def enter(name: str, turn: NodeTurn) -> None:
        async with turn:
            entered.append(name)

    await here.__aenter__()
    waiting = [asyncio.create_task(enter(name, turn)) for name, turn in (("there", there), ("here", here))]
    for _ in range(5):
        await asyncio.sleep(0)
    assert entered == []
    await here.__aexit__(None, None, None)
    await asyncio.gather(*waiting)
    assert sorted(entered) == ["here", "there"]
    await here.__aenter__()
    gone = asyncio.create_task(enter("gone", there))
    for _ in range(5):
        await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    here.close()
    async with there:
        pass
    there.close()
