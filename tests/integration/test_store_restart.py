"""A store over the index of the one before, without Ray: it counts the same, and tells the same of its segments."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from simnode.live.link import Link, LinkClient
from simnode.live.reassembly_service import ReassemblyService
from simnode.live.settings import NodeSettings
from simnode.live.store import store as store_module
from simnode.live.store.store import ContractStore
from simnode.metrics.catalogue import CATALOGUE
from simnode.metrics.layout import layout_of
from simnode.metrics.model import Kind, Role, Source
from simnode.metrics.reader import read_slab
from simnode.metrics.slab import StatsSlab, slab_path
from simnode.protocol.limits import MIB
from simnode.storage.segments import Segment
from tests.support.eventually import eventually

GAUGES = [
    metric.name
    for metric in CATALOGUE
    if Role.CONTRACT_STORE in metric.roles and metric.kind is Kind.GAUGE and metric.source is Source.SLAB
]


class World:
    """A store and a reassembly service in this process, and a handler that writes."""

    def __init__(self, run_dir: Path) -> None:
        self.settings = NodeSettings(run_dir=run_dir, data_dir=run_dir)
        self.settings.segments_dir.mkdir()
        self.service_slab = StatsSlab.open(run_dir, Role.REASSEMBLY_SERVICE, 0, now_s=0.0)
        self.service = ReassemblyService(self.settings, self.service_slab)
        self.rooms = LinkClient(self.settings.socket_path("reassembly"), _ignore, self._greet)
        self._numbers = itertools.count()

    def _greet(self, link: Link) -> None:
        link.cast("hello", "handler-0-0", 0)

    @asynccontextmanager
    async def store(self, *subscriptions: tuple[bytes, int]) -> AsyncIterator[LinkClient]:
        """A store; the handler's subscriptions are made known to it."""
        with StatsSlab.open(self.settings.run_dir, Role.CONTRACT_STORE, 0, now_s=0.0) as slab:
            self.contract_store = ContractStore(self.settings, slab)
            await self.contract_store.start()
            link = LinkClient(self.settings.socket_path("store"), _ignore, lambda link: link.cast("hello", 0))
            link.start()
            await link.wait_up()
            await link.call("resubscribe", list(subscriptions))
            await eventually(lambda: self.service._store is not None)
            yield link
            await link.close()
            await self.contract_store.drain()
        await eventually(lambda: self.service._store is None)

    def gauges(self) -> dict[str, float]:
        self.contract_store._tick(0.0)
        layout = layout_of(Role.CONTRACT_STORE)
        cells = read_slab(slab_path(self.settings.run_dir, Role.CONTRACT_STORE, 0)).cells
        return {name: cells[layout.block(name, Kind.GAUGE).cell({})] for name in GAUGES}

    async def large(self, nbytes: int = MIB) -> list[Any]:
        """A payload in a lease, as a handler sends it."""
        name, _ = await self.rooms.call("lease", nbytes, "")
        segment = Segment.open(self.settings.segments_dir, name, writable=True)
        segment.write(0, next(self._numbers).to_bytes(8) * (nbytes // 8))
        segment.release_read()
        segment.close()
        return [name, 0, nbytes]


def _ignore(link: Link, method: str, args: list[Any]) -> None:
    """The handler has no clients."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    await world.service.start()
    world.rooms.start()
    await world.rooms.wait_up()
    yield world
    await world.rooms.close()
    await world.service.drain()
    world.service_slab.close()


ONE, TWO, THREE = (number.to_bytes(32) for number in (1, 2, 3))
CODE_HASH = b"c" * 32


async def write_everything(world: World, store: LinkClient) -> None:
    """States, parameters and codes, small and large; new, replaced and appended to."""
    await store.call("put", ONE, CODE_HASH, b"params", await world.large(), b"small", True)
    await store.call("put", TWO, CODE_HASH, await world.large(128 * 1024), b"unused", await world.large(), False)
    await store.call("put", THREE, b"d" * 32, b"", b"another code", await world.large(), True)
    await store.call("update", TWO, CODE_HASH, False, [await world.large()])
    await store.call("update", ONE, CODE_HASH, True, [b"grows"])
    await store.call("update", THREE, b"d" * 32, False, [b"small", b"now"])


async def test_every_gauge_of_a_store_is_the_same_after_a_restart(world: World) -> None:
    """Bytes of code used to be forgotten."""
    async with world.store() as store:
        await write_everything(world, store)
        before = world.gauges()
    async with world.store((ONE, 1), (THREE, 1)):
        assert world.gauges() == before
    assert before == {
        "simnode_store_contracts": 3,
        "simnode_store_bytes": len(b"paramssmallgrowssmallnowanother code") + 2 * MIB + 128 * 1024,
        "simnode_store_subscriptions": 2,
    }


async def test_segments_stay_the_stores_over_a_restart_though_it_tells_of_them_one_by_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SEGMENTS_AT_ONCE", 1)
    async with world.store() as store:
        await write_everything(world, store)
        await store.call("subscriptions", 0)
    assert world.service._pool is not None
    stored = sorted(world.service._pool.stored_names)
    assert len(stored) == 3
    async with world.store():
        assert sorted(world.service._pool.stored_names) == stored


async def test_subscriptions_come_in_pieces_and_all_of_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message with a million of them would end the link."""
    monkeypatch.setattr(store_module, "SUBSCRIPTIONS_AT_ONCE", 10)
    expected = [[number.to_bytes(32), 1 + number % 2] for number in range(200)]
    async with world.store(*map(tuple, expected)) as store:
        found: list[Any] = []
        shard: int | None = 0
        pieces = 0
        while shard is not None:
            shard, piece = await store.call("subscriptions", shard)
            found += piece
            pieces += 1
        assert sorted(found) == expected
        assert pieces > 10
        assert await store.call("subscriber_counts", [expected[1][0], b"unknown"]) == [2, 0]


async def test_handler_that_is_gone_is_forgotten_in_the_background(world: World) -> None:
    async with world.store():
        other = LinkClient(world.settings.socket_path("store"), _ignore, lambda link: link.cast("hello", 1))
        other.start()
        await other.wait_up()
        await other.call("resubscribe", [(number.to_bytes(32), 1) for number in range(100)])
        assert world.gauges()["simnode_store_subscriptions"] == 100
        await other.close()
        counts = world.contract_store._subscribers
        await eventually(lambda: counts.needs_sweep or not counts.total)
        assert world.gauges()["simnode_store_subscriptions"] == 0
        await eventually(lambda: not counts.needs_sweep)
        assert counts.places_of((1).to_bytes(32)) == []
