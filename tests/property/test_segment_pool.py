"""Random lives of segments: the books always agree with the directory, and no limit is ever passed."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from simnode.storage.errors import OutOfBudget
from simnode.storage.pool import CAPACITY_STEP_BYTES, SegmentPool
from simnode.storage.segments import Segment

STEP = CAPACITY_STEP_BYTES
BUDGET, FREE, UNTRIMMED = 8 * STEP, 4 * STEP, 3 * STEP
TMPFS = Path("/dev/shm")
"""Where `st_blocks` counts pages exactly; elsewhere a filesystem's own blocks are in it."""


class SegmentPoolMachine(RuleBasedStateMachine):
    """A pool, its handlers (each writes one byte value all over its lease) and its readers."""

    leases = Bundle("leases")
    stored = Bundle("stored")
    readers = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.exact = TMPFS.is_dir()
        self.directory = Path(tempfile.mkdtemp(dir=TMPFS if self.exact else None))
        self.pool = self.new_pool()
        self.marks = 0
        #: content and kept range of every stored segment
        self.kept: dict[str, tuple[int, int, int]] = {}
        self.leased: dict[str, int] = {}

    def new_pool(self) -> SegmentPool:
        return SegmentPool(
            self.directory,
            budget_bytes=BUDGET,
            free_limit_bytes=FREE,
            untrimmed_limit_bytes=UNTRIMMED,
        )

    @rule(target=leases, nbytes=st.integers(1, BUDGET + STEP))
    def lease(self, nbytes: int) -> object:
        before = self.pool.reserved_bytes
        try:
            lease = self.pool.lease(nbytes, "handler")
        except OutOfBudget:
            assert before + nbytes + STEP > BUDGET
            return multiple()
        assert lease.nbytes >= nbytes
        self.marks = self.marks % 255 + 1
        segment = Segment.open(self.directory, lease.name, writable=True)
        segment.write(0, bytes([self.marks]) * lease.nbytes)
        segment.release_read()
        self.leased[lease.name] = self.marks
        return lease.name

    @rule(name=leases, nbytes=st.integers(1, BUDGET))
    def grow(self, name: str, nbytes: int) -> None:
        if name not in self.leased:
            return
        try:
            capacity = self.pool.grow(name, nbytes).nbytes
        except OutOfBudget:
            return
        Segment.open(self.directory, name, writable=True).write(0, bytes([self.leased[name]]) * capacity)

    @rule(name=consumes(leases))
    def release(self, name: str) -> None:
        if self.leased.pop(name, None) is not None:
            self.pool.release(name)

    @rule(target=stored, name=consumes(leases), ends=st.tuples(st.integers(0, STEP), st.integers(0, STEP)))
    def store(self, name: str, ends: tuple[int, int]) -> object:
        if name not in self.leased:
            return multiple()
        start, stop = sorted(ends)
        self.pool.stored(name, start, stop, stop - start)
        self.kept[name] = (self.leased.pop(name), start, stop)
        return name

    @rule(name=consumes(stored))
    def retire(self, name: str) -> None:
        if self.kept.pop(name, None) is not None:
            self.pool.retire(name)

    @rule(target=readers, name=stored)
    def read(self, name: str) -> object:
        if name not in self.kept:
            return multiple()
        segment = Segment.open(self.directory, name)
        segment.acquire_read()
        return segment, self.kept[name]

    @rule(reader=consumes(readers))
    def end_reading(self, reader: tuple[Segment, tuple[int, int, int]]) -> None:
        """However long ago its segment was retired, a reader sees what it began to read."""
        segment, (mark, start, stop) = reader
        assert bytes(segment.map[start:stop]) == bytes([mark]) * (stop - start)
        segment.release_read()

    @rule()
    def tidy(self) -> None:
        self.pool.tidy()

    @rule(target=stored, name=consumes(leases))
    def store_and_die(self, name: str) -> object:
        """The store commits a row and dies before it has told the pool; its successor says what rows refer to."""
        if name not in self.leased:
            return multiple()
        assert self.pool.live([name]) == []
        self.kept[name] = (self.leased.pop(name), 0, STEP)
        return name

    @rule(adopted=st.booleans())
    def restart(self, adopted: bool) -> None:
        """The service dies; the store and (perhaps) the handlers claim what is theirs."""
        self.pool = self.new_pool()
        self.pool.rebuild()
        assert self.pool.live(self.kept) == []
        for name, (_, start, stop) in self.kept.items():
            self.pool.trim_later(name, start, stop)
        if adopted:
            for name in self.leased:
                self.pool.adopt(name, "handler")
        else:
            self.leased.clear()
        for name in self.pool.orphans:
            self.pool.retire(name)

    @invariant()
    def books_agree_with_the_directory(self) -> None:
        self.pool.check_invariants()
        figures = self.pool.figures()
        assert figures.leases == len(self.leased)
        assert figures.stored_segments == len(self.kept)
        assert figures.reserved_bytes <= BUDGET
        assert figures.free_bytes <= FREE
        if self.exact:
            on_disk = sum(path.stat().st_blocks * 512 for path in self.directory.glob("*.seg"))
            assert figures.reserved_bytes + figures.stored_bytes + figures.free_bytes == on_disk

    @invariant()
    def stored_bytes_are_what_was_written(self) -> None:
        for name, (mark, start, stop) in self.kept.items():
            assert bytes(Segment.open(self.directory, name).map[start:stop]) == bytes([mark]) * (stop - start)

    def teardown(self) -> None:
        shutil.rmtree(self.directory)


TestSegmentPool = SegmentPoolMachine.TestCase
TestSegmentPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
