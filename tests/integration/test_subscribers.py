"""Who hears of a change, in how many turns; and how a store that has just started learns who is here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from simnode.live.handlers import subscribers as subscribers_module
from simnode.live.handlers.subscribers import Subscribers, Subscription
from simnode.live.link import LinkLost
from tests.support.eventually import eventually

ONE = b"1" * 32


class Notice:
    def __init__(self, version: int) -> None:
        self.version = version
        self.shares = 1

    def release(self) -> None:
        self.shares -= 1


class Client:
    """A subscriber, and the versions it heard of."""

    def __init__(self) -> None:
        self.subscriptions: dict[bytes, Subscription] = {}
        self.heard: list[int] = []

    def contract_changed(self, contract: bytes, notice: Notice) -> None:
        subscription = self.subscriptions[contract]
        assert subscription.version is not None
        if notice.version > subscription.version:
            subscription.version = notice.version
            self.heard.append(notice.version)


class Store:
    """A store that has just started; its answers wait for the test."""

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}
        self.messages: list[int] = []
        self.unanswered: list[Callable[[], None]] = []
        self.link = self

    def ask(self, method: str, args: Any, answer: Callable[[Any, Any], None]) -> None:
        assert method == "resubscribe"
        self._take(args[0])
        self.unanswered.append(lambda: answer(None, None))

    def call(self, method: str, counts: Any) -> asyncio.Future[None]:
        assert method == "resubscribe"
        self._take(counts)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.unanswered.append(lambda: future.set_result(None))
        return future

    def cast(self, method: str, contracts: list[bytes]) -> None:
        assert method == "unsubscribe"
        for contract in contracts:
            if self.counts.get(contract):
                self.counts[contract] -= 1

    def _take(self, counts: Any) -> None:
        self.messages.append(len(counts))
        for contract, count in counts:
            self.counts[contract] = self.counts.get(contract, 0) + count

    def answer(self) -> None:
        self.unanswered.pop(0)()


class World:
    def __init__(self) -> None:
        self.store = Store()
        self.version = 1
        self.notices: list[Notice] = []
        backend: Any = SimpleNamespace(store=self.store, notice_of=self._notice_of)
        self.subscribers = Subscribers(backend)

    def _notice_of(self, *_: Any) -> Notice:
        self.notices.append(Notice(self.version))
        return self.notices[-1]

    def subscribe(self, contract: bytes = ONE) -> Client:
        client = Client()
        self.subscribers.begin(client, contract, takes_deltas=False)  # type: ignore[arg-type]
        self.subscribers.agreed(client, contract, self.version)  # type: ignore[arg-type]
        return client

    def change(self) -> None:
        self.version += 1
        self.subscribers.tell(ONE, self.version)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(subscribers_module, "TOLD_AT_ONCE", 4)
    monkeypatch.setattr(subscribers_module, "INTRODUCED_AT_ONCE", 3)
    return World()


# ---- a change ------------------------------------------------------------------------------------


async def test_few_subscribers_hear_of_a_change_at_once(world: World) -> None:
    clients = [world.subscribe() for _ in range(4)]
    world.change()
    assert [client.heard for client in clients] == [[2]] * 4
    assert [notice.shares for notice in world.notices] == [0]


async def test_many_subscribers_hear_of_a_change_in_several_turns(world: World) -> None:
    clients = [world.subscribe() for _ in range(10)]
    turns: list[int] = []
    world.change()
    while not turns or turns[-1] < 10:
        turns.append(sum(map(len, (client.heard for client in clients))))
        await asyncio.sleep(0)
    assert turns == [4, 8, 10]
    assert [notice.shares for notice in world.notices] == [0]


async def test_change_that_comes_meanwhile_replaces_the_older_one_for_those_who_wait(world: World) -> None:
    """They hear of it first, so a contract that never rests forgets nobody."""
    clients = [world.subscribe() for _ in range(10)]
    world.change()
    waiting = [client for client in clients if not client.heard]
    world.change()
    await asyncio.sleep(0)
    assert sum(client.heard == [3] for client in waiting) == 4
    await eventually(lambda: all(client.heard[-1:] == [3] for client in clients))
    assert [client.heard for client in waiting] == [[3]] * 6
    assert [notice.shares for notice in world.notices] == [0, 0]


async def test_who_gets_a_reply_about_it_hears_of_the_change_before(world: World) -> None:
    clients = [world.subscribe() for _ in range(10)]
    world.change()
    last = next(client for client in clients if not client.heard)
    world.subscribers.tell_now(last, ONE)  # type: ignore[arg-type]
    assert last.heard == [2]
    await eventually(lambda: all(client.heard == [2] for client in clients))
    world.subscribers.tell_now(last, ONE)  # type: ignore[arg-type]


async def test_who_went_meanwhile_is_not_told(world: World) -> None:
    clients = [world.subscribe() for _ in range(10)]
    world.change()
    gone = next(client for client in clients if not client.heard)
    world.subscribers.gone(gone)  # type: ignore[arg-type]
    await eventually(lambda: all(client.heard == [2] for client in clients if client is not gone))
    assert gone.heard == []


# ---- a store that has just started ---------------------------------------------------------------


def contracts(number: int) -> list[bytes]:
    return [at.to_bytes(32) for at in range(number)]


async def test_store_is_told_in_pieces_and_clients_of_what_they_missed_once_it_knows(world: World) -> None:
    """What it commits before it knows of them nobody tells them; so they are told after it has answered."""
    clients = [world.subscribe(contract) for contract in contracts(7)]
    world.version = 2
    world.subscribers.introduce(world.store)  # type: ignore[arg-type]
    for number, told in ((1, 0), (2, 3), (3, 6)):
        await eventually(lambda number=number: len(world.store.messages) == number)
        assert sum(client.heard == [2] for client in clients) == told
        world.store.answer()
    await eventually(lambda: all(client.heard == [2] for client in clients))
    assert world.store.messages == [3, 3, 1]
    assert world.store.counts == dict.fromkeys(contracts(7), 1)


async def test_nobody_is_counted_twice_who_subscribes_or_goes_meanwhile(world: World) -> None:
    stays, goes = contracts(7)[-1], contracts(7)[-2]
    clients = {contract: world.subscribe(contract) for contract in contracts(7)}
    world.subscribers.introduce(world.store)  # type: ignore[arg-type]
    await eventually(lambda: world.store.messages)
    world.subscribers.gone(clients[goes])  # type: ignore[arg-type]
    world.version = 2
    newcomer = Client()
    world.subscribers.begin(newcomer, stays, takes_deltas=False)  # type: ignore[arg-type]
    world.store.counts[stays] += 1  # by the call that follows
    world.subscribers.agreed(newcomer, stays, 2)  # type: ignore[arg-type]
    while world.store.unanswered:
        world.store.answer()
        for _ in range(5):
            await asyncio.sleep(0)
    assert world.store.counts == dict.fromkeys(contracts(7)[:-2], 1) | {stays: 2}
    assert clients[stays].heard == [2]


async def test_store_that_goes_before_it_knows_everybody_is_left_to_its_successor(world: World) -> None:
    for contract in contracts(7):
        world.subscribe(contract)
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    lost.set_exception(LinkLost("gone"))
    dying: Any = SimpleNamespace(call=lambda *_: lost)
    world.subscribers.introduce(dying)
    for _ in range(5):
        await asyncio.sleep(0)
    world.subscribers.introduce(world.store)  # type: ignore[arg-type]
    for _ in range(3):
        await eventually(lambda: world.store.unanswered)
        world.store.answer()
    await eventually(lambda: sum(world.store.messages) == 7)


async def test_who_was_being_subscribed_when_the_store_died_is_not_counted_by_the_next(world: World) -> None:
    """It is about to be told that the store is away, and would be counted for ever."""
    agreed, asked = world.subscribe(), Client()
    other = b"2" * 32
    for contract in (ONE, other):
        world.subscribers.begin(asked, contract, takes_deltas=False)  # type: ignore[arg-type]
    world.subscribers.introduce(world.store)  # type: ignore[arg-type]
    await eventually(lambda: bool(world.store.unanswered))
    assert world.store.counts == {ONE: 1}
    for contract in (ONE, other):
        world.subscribers.refused(asked, contract)  # type: ignore[arg-type]
    world.store.answer()
    assert agreed.subscriptions[ONE].version == world.version
