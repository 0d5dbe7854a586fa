"""The reassembly service over real links: what it grants, and whom it asks before it frees what nobody claims."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from simnode.live import reassembly_service
from simnode.live.link import Link, LinkClient, LinkRefusal
from simnode.live.reassembly_service import ReassemblyService
from simnode.live.settings import NodeSettings
from simnode.metrics.model import Role
from simnode.metrics.slab import StatsSlab
from simnode.protocol.limits import MIB
from simnode.storage.errors import OutOfDescriptors, OutOfSpace, SegmentGone
from tests.support.descriptors import descriptors_left
from tests.support.eventually import eventually
from tests.support.neutral import assert_neutral

BUDGET = 4 * MIB


class Peer:
    """A store or a handler: a link to the service, and what it is asked and told."""

    def __init__(self, settings: NodeSettings, greeting: str, about: Any) -> None:
        self.heard: list[str] = []
        #: what it says it holds
        self.holds: list[str] = []
        #: what it says are its leases
        self.leases: list[str] = []
        self._greeting = greeting
        self._about = about
        self.link = LinkClient(settings.socket_path("reassembly"), self._handle, self._greet)

    def _handle(self, link: Link, method: str, args: list[Any]) -> Any:
        self.heard.append(method)
        if method == "holds":
            return [name for name in args[0] if name in self.holds]
        if method == "claim":
            link.cast("adopt", self.leases)
        return None

    def _greet(self, link: Link) -> None:
        if self._greeting == "hello":
            link.cast("hello", self._about)
        elif self._greeting == "store_hello and no more":
            link.cast("store_hello")
        elif self._greeting == "store_hello":
            link.cast("store_hello")
            for segment in self._about:
                link.call("live", [segment])
            link.call("all_live")

    async def up(self) -> Peer:
        self.link.start()
        await self.link.wait_up()
        return self

    async def lease(self, nbytes: int = MIB) -> str:
        name: str
        name, _ = await self.link.call("lease", nbytes)
        self.leases.append(name)
        return name


class World:
    """A service, and whoever is connected to it."""

    def __init__(self, tmp_path: Path, slab: StatsSlab) -> None:
        self.settings = NodeSettings(run_dir=tmp_path, data_dir=tmp_path, memory_budget_bytes=BUDGET)
        self._slab = slab
        self._peers: list[Peer] = []

    async def start(self) -> None:
        self.service = ReassemblyService(self.settings, self._slab)
        await self.service.start()

    async def restart(self) -> None:
        """Another incarnation; those that are connected come back to it."""
        await self.service.drain()
        await self.start()
        for peer in self._peers:
            await peer.link.wait_up()

    async def store(self, *live: list[Any]) -> Peer:
        return await self._connect("store_hello", list(live))

    async def store_that_tells(self) -> Peer:
        """It has said what it is, and not yet what it needs."""
        return await self._connect("store_hello and no more", None)

    async def handler(self, name: str = "handler-0") -> Peer:
        return await self._connect("hello", name)

    async def stranger(self) -> Peer:
        """Somebody who is connected and has not said what it is."""
        peer = await self._connect("", None)
        with pytest.raises(LinkRefusal):  # which the service answers, so it has seen the link
            await peer.lease()
        return peer

    async def _connect(self, greeting: str, about: Any) -> Peer:
        peer = await Peer(self.settings, greeting, about).up()
        self._peers.append(peer)
        return peer

    async def gone(self, peer: Peer) -> None:
        self._peers.remove(peer)
        await peer.link.close()

    async def died(self, peer: Peer) -> None:
        """It ends without saying what it still had to say."""
        assert peer.link.link is not None
        peer.link.link._outgoing.clear()
        await self.gone(peer)

    async def end(self) -> None:
        for peer in list(self._peers):
            await self.gone(peer)
        await self.service.drain()

    def exists(self, name: str) -> bool:
        return (self.settings.segments_dir / name).exists()

    @property
    def reserved(self) -> int:
        assert self.service._pool is not None
        return self.service._pool.reserved_bytes

    @property
    def stored(self) -> list[str]:
        assert self.service._pool is not None
        return self.service._pool.stored_names


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with StatsSlab.open(tmp_path, Role.REASSEMBLY_SERVICE, 0, now_s=0.0) as slab:
        world = World(tmp_path, slab)
        world.settings.segments_dir.mkdir()
        await world.start()
        yield world
        await world.end()


async def test_room_that_the_store_has_ended_but_not_told_of_is_granted(world: World) -> None:
    """It tells of small things later, and the next message must not be refused for that."""
    store, handler = await world.store(), await world.handler()
    name = await handler.lease(BUDGET)
    store.link.cast_later("stored", name, 0, MIB, MIB)
    assert await handler.lease(BUDGET) != name
    assert store.heard == ["heard"]


async def test_room_that_is_not_there_is_refused_and_others_are_relieved(world: World) -> None:
    store, handler = await world.store(), await world.handler()
    await handler.lease(BUDGET)
    for asker in (handler, store):
        with pytest.raises(LinkRefusal) as refused:
            await asker.lease()
        assert refused.value.code == "no_room"
    await eventually(lambda: handler.heard == ["relieve", "relieve"])
    await world.gone(store)
    with pytest.raises(LinkRefusal):
        await handler.lease()


async def test_lease_grows_in_place_within_the_budget(world: World) -> None:
    await world.store()
    handler = await world.handler()
    name = await handler.lease()
    assert await handler.link.call("grow", name, 2 * MIB) == [name, 2 * MIB]
    assert world.reserved == 2 * MIB
    with pytest.raises(LinkRefusal) as refused:
        await handler.link.call("grow", name, BUDGET + 1)
    assert refused.value.code == "no_room"
    assert world.reserved == 2 * MIB


async def test_lease_that_is_no_more_does_not_grow(world: World) -> None:
    """Not even if it went while the store was heard out."""
    store, handler = await world.store(), await world.handler()
    name = await handler.lease()
    store.link.cast_later("stored", name, 0, MIB, MIB)
    with pytest.raises(LinkRefusal) as refused:
        await handler.link.call("grow", name, BUDGET + 1)
    assert refused.value.code == "unknown_segment"


async def test_handler_that_goes_while_its_lease_is_decided_gets_none(world: World) -> None:
    store, handler, other = await world.store(), await world.handler(), await world.handler("handler-1")
    name = await other.lease(BUDGET)
    store.link.cast_later("stored", name, 0, MIB, MIB)
    handler.link.ask("lease", (MIB,), lambda result, error: None)
    await world.gone(handler)
    await eventually(lambda: world.stored == [name])
    await eventually(lambda: world.reserved == 0)


async def test_lease_in_doubt_is_freed_unless_the_store_holds_it(world: World) -> None:
    store, handler = await world.store(), await world.handler()
    held, lost = await handler.lease(), await handler.lease()
    store.holds = [held]
    for name in (held, lost):
        handler.link.cast("doubt", name)
    await eventually(lambda: not world.exists(lost))
    assert world.exists(held)
    store.link.cast("stored", held, 0, MIB, MIB)
    await eventually(lambda: world.stored == [held])


async def test_lease_in_doubt_waits_for_a_store(world: World) -> None:
    """The store died when it had committed a row, and before it could tell."""
    store, handler = await world.store(), await world.handler()
    committed, lost = await handler.lease(), await handler.lease()
    await world.gone(store)
    for name in (committed, lost):
        handler.link.cast("doubt", name)
    await handler.lease()
    assert world.exists(committed)
    assert world.exists(lost)
    successor = await world.store([committed, 0, MIB])
    await eventually(lambda: not world.exists(lost))
    assert world.stored == [committed]
    assert successor.heard == ["holds"]


async def test_segment_that_a_dead_store_had_kept_and_retired_and_told_nobody_of(world: World) -> None:
    """Its handler has forgotten it, because it was answered."""
    store, handler = await world.store(), await world.handler()
    replaced, replacing, mine = [await handler.lease() for _ in range(3)]
    handler.leases = [mine]
    store.link.cast_later("stored", replaced, 0, MIB, MIB)
    await world.died(store)
    await world.store([replacing, 0, MIB])
    await eventually(lambda: not world.exists(replaced))
    assert (world.stored, world.exists(mine)) == ([replacing], True)


async def test_leases_of_a_store_that_died_may_be_in_rows(world: World) -> None:
    """It copied a payload, committed the row and died."""
    store = await world.store()
    committed, lost = await store.lease(), await store.lease()
    await world.gone(store)
    successor = await world.store([committed, 0, MIB])
    mine = await successor.lease()
    await eventually(lambda: not world.exists(lost))
    assert (world.stored, world.exists(mine)) == ([committed], True)


async def test_lease_that_its_handler_still_has_is_stored_once_a_row_refers_to_it(world: World) -> None:
    handler = await world.handler()
    name = await handler.lease()
    await world.store([name, 0, MIB])
    await eventually(lambda: world.stored == [name])
    handler.link.cast("release", name)
    await handler.lease()
    assert world.stored == [name]


async def test_leases_of_a_dead_handler_are_freed_unless_the_store_holds_them(world: World) -> None:
    store, handler = await world.store(), await world.handler()
    held, lost = await handler.lease(), await handler.lease()
    store.holds = [held]
    await world.gone(handler)
    await eventually(lambda: not world.exists(lost))
    assert world.exists(held)


async def test_store_that_is_still_telling_is_neither_asked_nor_relieved(world: World) -> None:
    """And what it stores or retires meanwhile counts."""
    handler = await world.handler()
    names = [await handler.lease() for _ in range(4)]
    old, told, replaced, mine = names
    first = await world.store([old, 0, MIB], [replaced, 0, MIB])
    await eventually(lambda: sorted(world.stored) == sorted([old, replaced]))
    await world.died(first)
    store = await world.store_that_tells()
    for name in (old, replaced):
        assert await store.link.call("live", [[name, 0, MIB]]) == []
    store.link.cast("retire", replaced)
    store.link.cast("stored", told, 0, MIB, MIB)
    handler.link.cast("doubt", mine)
    with pytest.raises(LinkRefusal):
        await handler.lease(BUDGET)
    await eventually(lambda: "relieve" in handler.heard)
    assert store.heard == []
    assert world.exists(mine)
    await store.link.call("all_live")
    await eventually(lambda: store.heard == ["holds"])
    await eventually(lambda: not world.exists(mine))
    assert sorted(world.stored) == sorted([old, told])


async def test_many_unclaimed_segments_are_asked_about_in_pieces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reassembly_service, "ASKED_AT_ONCE", 2)
    store, handler = await world.store(), await world.handler()
    names = [await handler.lease(64 * 1024) for _ in range(5)]
    store.holds = [names[1]]
    await world.gone(handler)
    await eventually(lambda: sum(map(world.exists, names)) == 1)
    assert store.heard == ["holds"] * 3
    assert world.exists(names[1])


async def test_orphans_are_freed_after_a_while_unless_the_store_holds_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that refers to one may be in the store's hands, with its handler gone."""
    monkeypatch.setattr(reassembly_service, "ORPHAN_GRACE_S", 0.0)
    store, handler = await world.store(), await world.handler()
    held, lost = await handler.lease(), await handler.lease()
    store.holds = [held]
    await world.gone(handler)
    await world.restart()
    await eventually(lambda: not world.exists(lost))
    assert world.exists(held)
    store.link.cast("stored", held, 0, MIB, MIB)
    await eventually(lambda: world.stored == [held])


# ---- links that have not said what they are --------------------------------------------------------


async def test_nothing_is_sent_to_a_link_that_has_not_said_what_it_is(world: World) -> None:
    """A service that has just begun used to tell a store before its hello to `relieve`, and its link died of that."""
    handler = await world.handler()
    stranger = await world.stranger()
    await handler.lease(BUDGET)
    with pytest.raises(LinkRefusal) as refused:
        await handler.lease()
    assert refused.value.code == "no_room"
    await eventually(lambda: handler.heard == ["relieve"])
    # what was sent before is here by the time that this is answered
    stranger.link.cast("store_hello")
    await stranger.link.call("all_live")
    assert stranger.heard == []
    await eventually(lambda: handler.heard == ["relieve", "claim"])
    with pytest.raises(LinkRefusal):
        await handler.lease()
    assert stranger.heard == ["heard"]


async def test_nothing_is_done_for_a_link_that_has_not_said_what_it_is(world: World) -> None:
    """Its leases would have no owner, and nobody would ever free them."""
    stranger = await world.stranger()
    assert world.reserved == 0
    stranger.link.cast("adopt", ["1-000000-0.seg"])
    stranger.link.cast("hello", "handler-9")
    await stranger.lease()
    assert world.reserved == MIB


@pytest.mark.parametrize("is_store", [False, True])
async def test_call_that_a_role_does_not_have_is_refused_and_its_link_lives(world: World, is_store: bool) -> None:
    peer = await (world.store() if is_store else world.handler())
    method = "doubt" if is_store else "retire"
    peer.link.cast(method, "1-000000-0.seg")
    with pytest.raises(LinkRefusal) as refused:
        await peer.link.call(method, "1-000000-0.seg")
    assert refused.value.code == "unknown_call"
    await peer.lease()


# ---- machines that do not suffice ----------------------------------------------------------------


FAILURES = [
    (OutOfSpace("no room for 9 bytes in /dev/shm/simnode-0/x"), "no_room"),
    (OutOfDescriptors("segment 1-0.seg cannot be opened"), "no_room"),
    (SegmentGone("1-0.seg"), "no_room"),
    (RuntimeError("a bug at 0x7f00"), "failed"),
]


@pytest.mark.parametrize("method", ["lease", "grow"])
@pytest.mark.parametrize(("failure", "code"), FAILURES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("has_store", [False, True])
async def test_whatever_is_raised_when_room_is_asked_for_who_asked_is_answered(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str, failure: Exception, code: str, has_store: bool
) -> None:
    """Also when the store is heard out first; and the text says nothing of this machine."""

    def fail(*_: object) -> None:
        raise failure

    if has_store:
        await world.store()
    handler = await world.handler()
    name = await handler.lease()
    with monkeypatch.context() as patch:
        patch.setattr(world.service._pool, method, fail)
        with pytest.raises(LinkRefusal) as refused:
            await handler.link.call(*(("lease", MIB) if method == "lease" else ("grow", name, 2 * MIB)))
    assert refused.value.code == code
    assert_neutral(str(refused.value))
    await handler.lease()
    assert handler.link.link is not None


async def test_room_is_refused_without_descriptors_and_granted_once_there_are_some(world: World) -> None:
    """Over real files: the leases that are given back meanwhile are freed afterwards."""
    await world.store()
    handler = await world.handler()
    name = await handler.lease()
    with descriptors_left(os.getpid()):
        with pytest.raises(LinkRefusal):
            await handler.lease()
        handler.link.cast("release", name)
        with pytest.raises(LinkRefusal):
            await handler.lease()
        assert world.exists(name)
    world.service._orphans_due_at = 0.0
    await eventually(lambda: not world.exists(name))
    await handler.lease(BUDGET)


async def test_room_that_grew_after_its_lease_was_stored_is_refused_neutrally(world: World) -> None:
    await world.store()
    handler = await world.handler()
    with pytest.raises(LinkRefusal) as refused:
        await handler.link.call("grow", "1-00002a-0.seg", MIB)
    assert_neutral(str(refused.value))
