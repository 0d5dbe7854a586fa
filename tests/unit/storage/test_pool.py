from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simnode.storage.errors import OutOfBudget, OutOfDescriptors, OutOfSpace, SegmentGone, UnknownSegment
from simnode.storage.pool import CAPACITY_STEP_BYTES, SegmentPool
from simnode.storage.segment_file import PAGE_BYTES
from simnode.storage.segments import Segment
from tests.support.descriptors import descriptors_left

STEP = CAPACITY_STEP_BYTES
NewPool = Callable[..., SegmentPool]


@pytest.fixture
def new_pool(tmp_path: Path) -> Iterator[NewPool]:
    """Makes pools in one directory; the last one's books must be right when the test is over."""
    made: list[SegmentPool] = []

    def make(*, budget: int = 10, free: int = 10, untrimmed: int = 10, punches: bool = True) -> SegmentPool:
        pool = SegmentPool(
            tmp_path,
            budget_bytes=budget * STEP,
            free_limit_bytes=free * STEP,
            untrimmed_limit_bytes=untrimmed * STEP,
            punches=punches,
        )
        made.append(pool)
        return pool

    yield make
    made[-1].check_invariants()


@pytest.fixture
def pool(new_pool: NewPool) -> SegmentPool:
    return new_pool()


def stored(pool: SegmentPool, nbytes: int = STEP) -> str:
    name = pool.lease(nbytes, "handler").name
    pool.stored(name, 0, nbytes, nbytes)
    return name


# -- leases ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "given"), [(0, STEP), (1, STEP), (STEP, STEP), (STEP + 1, 2 * STEP)])
def test_capacities_are_rounded_up_and_reserved(pool: SegmentPool, tmp_path: Path, asked: int, given: int) -> None:
    lease = pool.lease(asked, "handler")
    assert lease.nbytes == given == (tmp_path / lease.name).stat().st_size
    assert pool.reserved_bytes == given


def test_a_lease_beyond_the_budget_is_refused_and_counted(pool: SegmentPool) -> None:
    pool.lease(9 * STEP, "handler")
    with pytest.raises(OutOfBudget):
        pool.lease(STEP + 1, "handler")
    assert pool.figures().refused == 1
    pool.lease(STEP, "handler")


def test_a_released_lease_makes_room_and_its_file_is_used_again_under_a_fresh_name(pool: SegmentPool) -> None:
    first = pool.lease(10 * STEP, "handler")
    pool.release(first.name)
    second = pool.lease(10 * STEP, "handler")
    assert second.name != first.name
    figures = pool.figures()
    assert (figures.created, figures.recycled, figures.unlinked) == (1, 1, 0)
    assert (figures.reserved_bytes, figures.reserved_peak_bytes, figures.free_bytes) == (10 * STEP, 10 * STEP, 0)


def test_a_small_message_does_not_get_a_large_segment(pool: SegmentPool) -> None:
    pool.release(pool.lease(4 * STEP, "handler").name)
    assert pool.lease(STEP, "handler").nbytes == STEP
    assert pool.lease(3 * STEP, "handler").nbytes == 4 * STEP


def test_a_recycled_segment_is_not_leased_beyond_the_budget(pool: SegmentPool) -> None:
    pool.release(pool.lease(3 * STEP, "handler").name)
    pool.lease(8 * STEP, "handler")
    assert pool.lease(2 * STEP, "handler").nbytes == 2 * STEP


def test_a_segment_that_its_writer_still_holds_is_never_recycled(pool: SegmentPool, tmp_path: Path) -> None:
    """Its owner may be a stopped process whose lease was revoked; when it goes on, it writes."""
    lease = pool.lease(STEP, "handler")
    writer = Segment.open(tmp_path, lease.name, writable=True)
    pool.release(lease.name)
    writer.write(0, b"late")
    fresh = Segment.open(tmp_path, pool.lease(STEP, "other").name)
    assert bytes(fresh.map[:4]) == bytes(4)
    assert pool.figures().unlinked == 1


def test_an_unlinked_segment_is_accounted_for_until_it_is_let_go(pool: SegmentPool, tmp_path: Path) -> None:
    lease = pool.lease(STEP, "handler")
    writer = Segment.open(tmp_path, lease.name, writable=True)
    pool.release(lease.name)
    pool.tidy()
    assert pool.figures().lingering_bytes >= STEP
    writer.release_read()
    pool.tidy()
    assert pool.figures().lingering_bytes == 0
    assert bytes(writer.map) == bytes(STEP), "an idle mapping keeps no pages"


def test_leases_of_a_dead_owner_are_listed_and_stay_in_flight(pool: SegmentPool) -> None:
    names = [pool.lease(STEP, "dead").name for _ in range(3)]
    pool.lease(STEP, "alive")
    pool.stored(names[0], 0, STEP, STEP)
    assert pool.leases_of("dead") == names[1:]
    assert pool.reserved_bytes == 3 * STEP


def test_a_lease_in_doubt_is_another_owners(pool: SegmentPool) -> None:
    mine, doubtful = (pool.lease(STEP, "handler").name for _ in range(2))
    pool.disown(doubtful, "nobody")
    assert (pool.leases_of("handler"), pool.leases_of("nobody")) == ([mine], [doubtful])
    assert pool.reserved_bytes == 2 * STEP


def test_a_grown_lease_is_reserved_and_keeps_its_bytes(pool: SegmentPool, tmp_path: Path) -> None:
    lease = pool.lease(STEP, "handler")
    writer = Segment.open(tmp_path, lease.name, writable=True)
    writer.write(0, b"kept")
    assert pool.grow(lease.name, 5 * STEP - 1).nbytes == 5 * STEP
    writer.grow(5 * STEP)
    assert bytes(writer.map[:4]) == b"kept"
    assert pool.reserved_bytes == 5 * STEP
    assert pool.grow(lease.name, STEP).nbytes == 5 * STEP
    with pytest.raises(OutOfBudget):
        pool.grow(lease.name, 11 * STEP)
    assert pool.reserved_bytes == 5 * STEP


def test_what_is_in_another_condition_is_refused_by_every_call(pool: SegmentPool) -> None:
    kept = stored(pool)
    leased = pool.lease(STEP, "handler").name
    for call in (
        lambda: pool.release(kept),
        lambda: pool.grow(kept, STEP),
        lambda: pool.stored(kept, 0, 1, 1),
        lambda: pool.retire(leased),
        lambda: pool.disown(kept, "handler"),
        lambda: pool.adopt(leased, "handler"),
        lambda: pool.release("1-ffffff-0.seg"),
    ):
        with pytest.raises(UnknownSegment):
            call()


# -- the free list --------------------------------------------------------------------------


def test_free_segments_are_bounded(new_pool: NewPool) -> None:
    pool = new_pool(free=3)
    for name in [pool.lease(nbytes, "handler").name for nbytes in (2 * STEP, STEP, STEP, 4 * STEP)]:
        pool.release(name)
    figures = pool.figures()
    assert (figures.free_segments, figures.free_bytes, figures.unlinked) == (2, 2 * STEP, 2)


def test_a_segment_given_up_frees_its_pages_though_an_idle_mapping_is_left(new_pool: NewPool, tmp_path: Path) -> None:
    """Caches of readers keep mappings; the memory behind them would be nobody's."""
    pool = new_pool(free=0)
    name = pool.lease(STEP, "handler").name
    writer = Segment.open(tmp_path, name, writable=True)
    writer.write(0, b"x" * STEP)
    writer.release_read()
    pool.release(name)
    assert bytes(writer.map) == bytes(STEP)


def full_when_larger_than(limit_bytes: int, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    allocate = os.posix_fallocate

    def fallocate(fd: int, offset: int, length: int) -> None:
        if sum(path.stat().st_size for path in directory.glob("*.seg")) + length > limit_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)


def test_free_segments_give_way_when_the_filesystem_is_full(
    pool: SegmentPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_when_larger_than(5 * STEP, monkeypatch, tmp_path)
    pool.release(pool.lease(3 * STEP, "handler").name)
    assert pool.lease(5 * STEP, "handler").nbytes == 5 * STEP
    assert pool.figures().free_segments == 0


def test_a_full_filesystem_is_refused_and_nothing_is_reserved(
    pool: SegmentPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_when_larger_than(5 * STEP, monkeypatch, tmp_path)
    lease = pool.lease(3 * STEP, "handler")
    with pytest.raises(OutOfSpace):
        pool.lease(3 * STEP, "handler")
    with pytest.raises(OutOfSpace):
        pool.grow(lease.name, 6 * STEP)
    assert pool.reserved_bytes == 3 * STEP
    assert pool.figures().refused == 2


# -- stored segments ------------------------------------------------------------------------


def test_a_stored_segment_occupies_whole_pages_around_what_is_kept(pool: SegmentPool, tmp_path: Path) -> None:
    lease = pool.lease(STEP, "handler")
    writer = Segment.open(tmp_path, lease.name, writable=True)
    writer.write(0, b"x" * STEP)
    writer.release_read()
    pool.stored(lease.name, PAGE_BYTES + 1, 2 * PAGE_BYTES + 1, 100)
    pool.tidy()
    figures = pool.figures()
    assert (figures.reserved_bytes, figures.stored_bytes, figures.payload_bytes) == (0, 2 * PAGE_BYTES, 100)
    assert bytes(writer.map[: 4 * PAGE_BYTES]) == bytes(PAGE_BYTES) + b"x" * (2 * PAGE_BYTES) + bytes(PAGE_BYTES)


def test_pages_around_what_is_kept_wait_for_tidy_while_they_are_few(new_pool: NewPool, tmp_path: Path) -> None:
    """A segment that is retired before needs neither holes nor their filling."""
    pool = new_pool(untrimmed=2)
    names = [pool.lease(STEP, "handler").name for _ in range(3)]
    for name in names:
        pool.stored(name, 0, PAGE_BYTES, 1)
    held = [(tmp_path / name).stat().st_blocks * 512 for name in names]
    assert held == [STEP, STEP, PAGE_BYTES]
    figures = pool.figures()
    assert (figures.untrimmed_bytes, figures.stored_bytes) == (2 * (STEP - PAGE_BYTES), 2 * STEP + PAGE_BYTES)
    pool.retire(names[0])
    assert pool.figures().untrimmed_bytes == STEP - PAGE_BYTES
    pool.tidy()
    assert (pool.figures().untrimmed_bytes, pool.figures().stored_bytes) == (0, 2 * PAGE_BYTES)


def test_tidy_looks_at_those_first_that_have_waited_longest(pool: SegmentPool, tmp_path: Path) -> None:
    names = [pool.lease(STEP, "handler").name for _ in range(3)]
    held = Segment.open(tmp_path, names[0], writable=True)
    for name in names:
        pool.stored(name, 0, PAGE_BYTES, 1)
    pool.tidy(at_most=2)
    assert pool.figures().untrimmed_bytes == 2 * (STEP - PAGE_BYTES)
    pool.tidy(at_most=1)
    assert pool.figures().untrimmed_bytes == STEP - PAGE_BYTES
    held.release_read()
    pool.tidy(at_most=1)
    assert pool.figures().untrimmed_bytes == 0


def test_untrimmed_pages_give_way_when_the_filesystem_is_full(
    pool: SegmentPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocate = os.posix_fallocate

    def fallocate(fd: int, offset: int, length: int) -> None:
        if sum(path.stat().st_blocks * 512 for path in tmp_path.glob("*.seg")) + length > 4 * STEP:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        allocate(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    pool.stored(pool.lease(3 * STEP, "handler").name, 0, STEP, STEP)
    assert pool.lease(3 * STEP, "handler").nbytes == 3 * STEP
    assert pool.figures().untrimmed_bytes == 0


def test_a_segment_in_use_is_trimmed_later(pool: SegmentPool, tmp_path: Path) -> None:
    """The handler that wrote the message may still read its other parts."""
    lease = pool.lease(STEP, "handler")
    writer = Segment.open(tmp_path, lease.name, writable=True)
    writer.write(0, b"x" * STEP)
    pool.stored(lease.name, 0, 1, 1)
    pool.tidy()
    assert pool.figures().untrimmed_bytes == STEP - PAGE_BYTES
    assert bytes(writer.map) == b"x" * STEP
    writer.release_read()
    pool.tidy()
    figures = pool.figures()
    assert (figures.untrimmed_bytes, figures.stored_bytes) == (0, PAGE_BYTES)


@pytest.mark.parametrize(("start", "stop", "kept"), [(-1, 1, 1), (2, 1, 0), (0, STEP + 1, 1), (0, 1, 2)])
def test_a_reference_outside_the_segment_is_refused(pool: SegmentPool, start: int, stop: int, kept: int) -> None:
    lease = pool.lease(STEP, "handler")
    with pytest.raises(IndexError):
        pool.stored(lease.name, start, stop, kept)
    assert pool.reserved_bytes == STEP


def test_a_retired_segment_is_recycled_whole(pool: SegmentPool, tmp_path: Path) -> None:
    """Whoever leases it must not meet the holes that trimming left."""
    lease = pool.lease(4 * STEP, "handler")
    pool.stored(lease.name, STEP, 2 * STEP, STEP)
    pool.tidy()
    pool.retire(lease.name)
    again = pool.lease(4 * STEP, "handler")
    assert pool.figures().recycled == 1
    assert (tmp_path / again.name).stat().st_blocks * 512 >= 4 * STEP


def test_a_retired_segment_that_is_being_read_is_unlinked_and_stays_readable(pool: SegmentPool, tmp_path: Path) -> None:
    lease = pool.lease(STEP, "handler")
    writer = Segment.open(tmp_path, lease.name, writable=True)
    writer.write(0, b"state")
    writer.release_read()
    pool.stored(lease.name, 0, 5, 5)
    reader = Segment.open(tmp_path, lease.name)
    reader.acquire_read()
    pool.retire(lease.name)
    other = Segment.open(tmp_path, pool.lease(STEP, "handler").name, writable=True)
    other.write(0, b"other")
    assert bytes(reader.map[:5]) == b"state"
    with pytest.raises(SegmentGone):
        Segment.open(tmp_path, lease.name)


def test_a_segment_retired_before_it_could_be_trimmed_is_forgotten_wholly(pool: SegmentPool, tmp_path: Path) -> None:
    lease = pool.lease(STEP, "handler")
    writer = Segment.open(tmp_path, lease.name, writable=True)
    pool.stored(lease.name, 0, 1, 1)
    pool.retire(lease.name)
    assert pool.figures().untrimmed_bytes == 0
    writer.release_read()
    pool.tidy()


def test_a_retired_segment_whose_holes_cannot_be_filled_is_unlinked(
    pool: SegmentPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = pool.lease(2 * STEP, "handler").name
    pool.stored(name, 0, STEP, STEP)
    pool.tidy()
    full_when_larger_than(0, monkeypatch, tmp_path)
    pool.retire(name)
    assert pool.figures().unlinked == 1


# -- after a restart ------------------------------------------------------------------------


def test_a_restarted_pool_finds_everything_and_lets_it_be_claimed(new_pool: NewPool) -> None:
    before = new_pool()
    kept, lost = stored(before), "1-ffffff-0.seg"
    leased, forgotten = (before.lease(STEP, "handler").name for _ in range(2))
    pool = new_pool()
    pool.rebuild()
    assert pool.orphans == sorted([kept, leased, forgotten])
    assert pool.live([kept, lost]) == [lost]
    assert pool.adopt(leased, "handler").nbytes == STEP
    assert pool.orphans == [forgotten]
    assert (pool.is_orphan(forgotten), pool.is_orphan(kept), pool.is_orphan(lost)) == (True, False, False)
    assert pool.stored_names == [kept]
    assert pool.leases_of("handler") == [leased]
    pool.retire(forgotten)
    figures = pool.figures()
    assert (figures.orphan_bytes, figures.reserved_bytes, figures.free_bytes) == (0, STEP, STEP)
    assert figures.stored_bytes == STEP


def test_a_lease_that_a_row_refers_to_is_stored(pool: SegmentPool) -> None:
    """Its store died when it had committed the row, and before it could tell."""
    lease = pool.lease(STEP, "handler")
    assert pool.live([lease.name]) == []
    assert (pool.stored_names, pool.leases_of("handler"), pool.reserved_bytes) == ([lease.name], [], 0)


def test_unclaimed_orphans_count_against_the_budget(new_pool: NewPool) -> None:
    """Else the leases that are still to be adopted would find their room taken."""
    new_pool().lease(9 * STEP, "handler")
    pool = new_pool()
    pool.rebuild()
    with pytest.raises(OutOfBudget):
        pool.lease(2 * STEP, "other")
    for name in pool.orphans:
        pool.release(name)
    pool.lease(2 * STEP, "other")


def test_a_trimmed_segment_is_recycled_whole_even_after_a_restart(new_pool: NewPool, tmp_path: Path) -> None:
    before = new_pool()
    name = before.lease(4 * STEP, "handler").name
    before.stored(name, STEP, 2 * STEP, STEP)
    before.tidy()
    pool = new_pool()
    pool.rebuild()
    assert pool.live([name]) == []
    assert pool.figures().stored_bytes == STEP
    assert pool.live([name]) == [], "saying it twice changes nothing"
    pool.retire(name)
    assert (tmp_path / pool.lease(4 * STEP, "handler").name).stat().st_blocks * 512 >= 4 * STEP


def test_what_an_earlier_pool_had_not_trimmed_is_trimmed_once_the_store_says_what_to_keep(new_pool: NewPool) -> None:
    before = new_pool()
    untrimmed, trimmed = (before.lease(4 * STEP, "handler").name for _ in range(2))
    before.stored(trimmed, STEP, 2 * STEP, STEP)
    before.tidy()
    before.stored(untrimmed, STEP, 2 * STEP, STEP)
    pool = new_pool()
    pool.rebuild()
    pool.live([untrimmed, trimmed])
    for name in (untrimmed, trimmed, untrimmed):
        pool.trim_later(name, STEP, 2 * STEP)
    assert (pool.figures().untrimmed_bytes, pool.figures().stored_bytes) == (3 * STEP, 5 * STEP)
    pool.tidy()
    assert (pool.figures().untrimmed_bytes, pool.figures().stored_bytes) == (0, 2 * STEP)
    with pytest.raises(IndexError):
        pool.trim_later(untrimmed, 0, 4 * STEP + 1)


def test_names_of_a_restarted_pool_are_fresh(new_pool: NewPool) -> None:
    """A reader may remember a name that was unlinked long ago."""
    before = new_pool(free=0)
    old = before.lease(STEP, "handler").name
    before.release(old)
    pool = new_pool()
    pool.rebuild()
    assert pool.lease(STEP, "handler").name != old


def test_files_without_space_and_other_peoples_files_are_no_orphans(new_pool: NewPool, tmp_path: Path) -> None:
    (tmp_path / "9-000000-0.seg").touch()
    (tmp_path / "notes.txt").write_text("mine")
    pool = new_pool()
    pool.rebuild()
    assert pool.orphans == []
    assert (tmp_path / "notes.txt").exists()


def test_larger_leases_of_an_earlier_configuration_can_be_adopted(new_pool: NewPool) -> None:
    name = new_pool().lease(5 * STEP, "handler").name
    pool = new_pool(budget=1)
    pool.rebuild()
    pool.adopt(name, "handler")
    with pytest.raises(OutOfBudget):
        pool.lease(STEP, "handler")


# -- filesystems that do not punch holes ------------------------------------------------------


@pytest.fixture
def no_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, start: int, stop: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr("simnode.storage.segment_file.punch_hole", refuse)


@pytest.mark.usefixtures("no_holes")
def test_without_holes_a_stored_segment_occupies_all_of_itself_and_nothing_waits_to_be_trimmed(
    new_pool: NewPool, tmp_path: Path
) -> None:
    pool = new_pool(punches=False)
    name = pool.lease(3 * STEP, "handler").name
    pool.stored(name, PAGE_BYTES, 2 * PAGE_BYTES, PAGE_BYTES)
    pool.tidy()

    figures = pool.figures()
    on_disk = (tmp_path / name).stat().st_blocks * 512
    assert (figures.stored_bytes, figures.payload_bytes, figures.untrimmed_bytes) == (on_disk, PAGE_BYTES, 0)

    successor = new_pool(punches=False)
    successor.rebuild()
    assert successor.live([name]) == []
    successor.trim_later(name, PAGE_BYTES, 2 * PAGE_BYTES)
    successor.tidy()
    figures = successor.figures()
    assert (figures.stored_bytes, figures.untrimmed_bytes) == (on_disk, 0)
    successor.retire(name)
    assert successor.figures().free_bytes == on_disk


@pytest.mark.usefixtures("no_holes")
def test_without_holes_segments_are_recycled_unlinked_and_forgotten_as_ever(new_pool: NewPool, tmp_path: Path) -> None:
    pool = new_pool(free=1, punches=False)
    held = stored(pool, 2 * STEP)
    reader = Segment.open(tmp_path, held)
    reader.acquire_read()
    pool.retire(held)  # held: unlinked, and remembered
    pool.retire(stored(pool, 2 * STEP))  # larger than what may be free: unlinked
    pool.release(pool.lease(STEP, "handler").name)
    pool.release(pool.lease(STEP, "handler").name)  # recycled
    assert pool.figures().lingering_bytes == 2 * STEP

    reader.release_read()
    reader.close()
    pool.tidy()

    figures = pool.figures()
    assert (figures.lingering_bytes, figures.unlinked, figures.recycled, figures.free_bytes) == (0, 2, 1, STEP)


# ---- without descriptors -------------------------------------------------------------------------


def test_lease_without_a_descriptor_is_refused_and_leaves_nothing(pool: SegmentPool, tmp_path: Path) -> None:
    with descriptors_left(os.getpid()), pytest.raises(OutOfDescriptors):
        pool.lease(STEP, "owner")
    assert pool.figures().refused == 1
    assert not list(tmp_path.glob("*.seg"))
    assert pool.lease(STEP, "owner").nbytes == STEP


def test_lease_that_cannot_grow_for_want_of_a_descriptor_is_as_it_was(pool: SegmentPool) -> None:
    lease = pool.lease(STEP, "owner")
    with descriptors_left(os.getpid()), pytest.raises(OutOfDescriptors):
        pool.grow(lease.name, 2 * STEP)
    assert pool.reserved_bytes == STEP
    assert pool.grow(lease.name, 2 * STEP).nbytes == 2 * STEP


@pytest.mark.parametrize("was_stored", [False, True])
def test_segment_that_is_given_up_without_a_descriptor_can_be_given_up_later(
    pool: SegmentPool, was_stored: bool
) -> None:
    """Its owner says so once, and nobody else ever would."""
    lease = pool.lease(STEP, "owner")
    if was_stored:
        pool.stored(lease.name, 0, STEP, STEP)
    with descriptors_left(os.getpid()):
        (pool.retire if was_stored else pool.release)(lease.name)
    assert pool.orphans == [lease.name]
    pool.release(lease.name)
    figures = pool.figures()
    assert (figures.orphans, figures.free_segments) == (0, 1)


def test_pages_that_cannot_be_trimmed_without_a_descriptor_are_trimmed_later(new_pool: NewPool) -> None:
    pool = new_pool(untrimmed=0)
    lease = pool.lease(2 * STEP, "owner")
    with descriptors_left(os.getpid()):
        pool.stored(lease.name, 0, STEP, STEP)
    assert pool.figures().untrimmed_bytes == STEP
    pool.tidy()
    assert (pool.figures().untrimmed_bytes, pool.figures().stored_bytes) == (0, STEP)


def test_free_segments_go_without_a_descriptor_when_space_is_wanted(pool: SegmentPool, tmp_path: Path) -> None:
    names = [pool.lease(STEP, "owner").name for _ in range(3)]
    for name in names:
        pool.release(name)
    with descriptors_left(os.getpid()):
        pool._unlink_free(pool._free.clear())
    assert not list(tmp_path.glob("*.seg"))


def test_segment_whose_file_somebody_has_removed_is_forgotten(pool: SegmentPool, tmp_path: Path) -> None:
    lease = pool.lease(STEP, "owner")
    (tmp_path / lease.name).unlink()
    pool.release(lease.name)
    assert pool.figures().reserved_bytes == 0
