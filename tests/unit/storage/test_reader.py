"""The reader's race is played by hand: the fake index changes the store between one lookup and the next."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simnode.storage.cache import SegmentCache
from simnode.storage.errors import IndexDamaged, OutOfDescriptors, SegmentGone
from simnode.storage.index import Index
from simnode.storage.pool import SegmentPool
from simnode.storage.reader import StoredContracts
from simnode.storage.rows import ContractRow, Extents, SegmentRef
from simnode.storage.segments import DESCRIPTORS_OF_A_SEGMENT, Segment
from tests.support.descriptors import descriptors_left

INSTANCE = b"i" * 32
CODE_HASH = b"c" * 32
MIB = 1 << 20


class World:
    """A store, a pool and a reader in one process."""

    def __init__(self, root: Path) -> None:
        self.segments = root / "segments"
        self.segments.mkdir()
        self.pool = SegmentPool(self.segments, budget_bytes=MIB, free_limit_bytes=MIB)
        self.index = Index(root / "index")
        self.cache = SegmentCache(self.segments, capacity=4)
        self.contracts = StoredContracts(self.index, self.cache)

    def stored(self, content: bytes) -> SegmentRef:
        lease = self.pool.lease(len(content), "handler")
        segment = Segment.open(self.segments, lease.name, writable=True)
        segment.write(0, content)
        segment.release_read()
        self.pool.stored(lease.name, 0, len(content), len(content))
        return SegmentRef(lease.name, 0, len(content))

    def commit(self, version: int, state: Extents, params: Extents = (b"params",)) -> None:
        with self.index.write() as batch:
            batch.put_row(ContractRow(INSTANCE, version, CODE_HASH, params, state))

    def before_lookup(self, number: int, change: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
        """Let `change` happen just before the reader's lookup of this number (the first is 1)."""
        get, lookups = Index.get, iter(range(1, 100))

        def counted(index: Index, instance: bytes) -> ContractRow | None:
            if next(lookups) == number:
                change()
            return get(index, instance)

        monkeypatch.setattr(Index, "get", counted)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.pool.check_invariants()
    world.index.close()


def test_what_is_not_stored_is_none(world: World) -> None:
    assert world.contracts.state(INSTANCE) is None


def test_an_inline_state_needs_no_segment(world: World) -> None:
    world.commit(3, (b"st", b"ate"))
    stored = world.contracts.state(INSTANCE)
    assert stored is not None
    assert (stored.key.instance, stored.key.code, stored.version) == (INSTANCE, CODE_HASH, 3)
    assert [bytes(blob) for blob in stored.state] == [b"st", b"ate"]
    assert stored.params == []
    assert stored.code == []
    assert stored.state_nbytes == 5
    stored.release()


def test_extents_of_several_segments_are_held_until_released(world: World) -> None:
    first, second = world.stored(b"first"), world.stored(b"second")
    world.commit(1, (SegmentRef(first.name, 1, 5), b"-", second, SegmentRef(first.name, 0, 1)))
    stored = world.contracts.state(INSTANCE)
    assert stored is not None
    assert b"".join(map(bytes, stored.state)) == b"irst-secondf"
    world.commit(2, (b"",))
    world.pool.retire(first.name)
    world.stored(b"OTHER")
    assert bytes(stored.state[0]) == b"irst"
    stored.release()
    stored.release()
    world.pool.retire(second.name)
    assert world.pool.figures().unlinked == 1, "the held one; the released one is recycled"


def test_the_code_is_read_when_it_is_asked_for(world: World) -> None:
    world.commit(1, (b"state",))
    code = world.stored(b"code")
    with world.index.write() as batch:
        batch.put_code(CODE_HASH, (code,))
    stored = world.contracts.state(INSTANCE, with_code=True)
    assert stored is not None
    assert [bytes(blob) for blob in stored.code] == [b"code"]
    assert [bytes(blob) for blob in stored.params] == [b"params"]
    assert stored.code[0].origin is not None
    stored.release()


def test_a_code_that_is_not_there_is_typed(world: World) -> None:
    world.commit(1, (b"state",))
    with pytest.raises(IndexDamaged):
        world.contracts.state(INSTANCE, with_code=True)


def test_a_segment_recycled_between_lookup_and_lock_is_looked_up_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = world.stored(b"old")
    world.commit(1, (old,))
    read = SegmentCache.read

    def replaced_first(cache: SegmentCache, name: str) -> Segment:
        if name == old.name:
            world.commit(2, (world.stored(b"new"),))
            world.pool.retire(old.name)
        return read(cache, name)

    monkeypatch.setattr(SegmentCache, "read", replaced_first)
    stored = world.contracts.state(INSTANCE)
    assert stored is not None
    assert (stored.version, bytes(stored.state[0])) == (2, b"new")
    stored.release()


def test_an_idle_mapping_of_a_recycled_segment_is_not_believed(world: World) -> None:
    """Its file holds another contract's bytes by now."""
    old = world.stored(b"old")
    world.commit(1, (old,))
    first = world.contracts.state(INSTANCE)
    assert first is not None
    first.release()
    world.commit(2, (b"inline",))
    world.pool.retire(old.name)
    new = world.stored(b"NEW")
    world.commit(3, (new,))
    assert world.pool.figures().recycled == 1
    second = world.contracts.state(INSTANCE)
    assert second is not None
    assert bytes(second.state[0]) == b"NEW"
    second.release()


def test_a_row_that_changes_after_the_lock_is_looked_up_again_and_the_lock_is_let_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = world.stored(b"old")
    world.commit(1, (old,))
    world.before_lookup(2, lambda: world.commit(2, (b"new",)), monkeypatch)
    stored = world.contracts.state(INSTANCE)
    assert stored is not None
    assert (stored.version, bytes(stored.state[0])) == (2, b"new")
    world.pool.retire(old.name)
    assert world.pool.figures().free_segments == 1


def test_a_contract_whose_segment_is_lost_is_an_error_and_not_a_loop(world: World) -> None:
    kept, lost = world.stored(b"kept"), SegmentRef("9-000000-0.seg", 0, 4)
    world.commit(1, (kept, lost))
    with pytest.raises(SegmentGone, match=lost.name):
        world.contracts.state(INSTANCE)
    world.pool.retire(kept.name)
    assert world.pool.figures().free_segments == 1, "nothing stays held"


def test_a_reference_outside_its_segment_is_typed_and_nothing_stays_held(world: World) -> None:
    ref = world.stored(b"state")
    world.commit(1, (SegmentRef(ref.name, 0, 2 * MIB),))
    with pytest.raises(IndexDamaged):
        world.contracts.state(INSTANCE)
    world.pool.retire(ref.name)
    assert world.pool.figures().free_segments == 1


def test_an_index_that_fails_under_the_lock_leaves_nothing_held(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = world.stored(b"state")
    world.commit(1, (ref,))

    def fail() -> None:
        raise IndexDamaged("broken disk")

    world.before_lookup(2, fail, monkeypatch)
    with pytest.raises(IndexDamaged):
        world.contracts.state(INSTANCE)
    world.pool.retire(ref.name)
    assert world.pool.figures().free_segments == 1


def test_a_state_that_is_held_half_is_let_go_when_no_descriptor_is_left(world: World) -> None:
    """Else its segments could never be recycled, because nobody would release them."""
    params, state = world.stored(b"params"), world.stored(b"state")
    world.commit(1, (state,), (params,))
    with descriptors_left(os.getpid(), DESCRIPTORS_OF_A_SEGMENT), pytest.raises(OutOfDescriptors):
        world.contracts.state(INSTANCE)
    for name in (params.name, state.name):
        assert Segment.open(world.segments, name, writable=False).try_lock_exclusive()
    stored = world.contracts.state(INSTANCE)
    assert stored is not None
    stored.release()
