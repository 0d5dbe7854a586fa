"""The segments of a node and its byte budget. Enters: leases asked for and given back. Leaves: names. Next: `cache.py`.

A segment's life; each arrow is one method of `SegmentPool`:

    lease ──► IN_FLIGHT ── stored ──► STORED ── retire ──┐
                  └───────────── release ────────────────┼──► FREE, under a fresh name ── lease ──► IN_FLIGHT
    rebuild ──► ORPHAN ── live / adopt / retire ──► …    └──► unlinked, if somebody still holds it (a mapping
                                                              outlives its name) or enough is free already

A segment that is given up and cannot be opened, for want of descriptors, is an ORPHAN until it is
given up once more.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Final

from simnode.storage.accounts import Accounts, Condition, Entry, Lease, PoolFigures
from simnode.storage.errors import OutOfBudget, OutOfSpace, OverShare, SegmentFailure, SegmentGone
from simnode.storage.free_list import FreeList
from simnode.storage.names import SegmentName, next_epoch
from simnode.storage.pages import emptied, filled
from simnode.storage.segment_file import STAT_BLOCK_BYTES, SegmentFile, page_range

CAPACITY_STEP_BYTES: Final = 64 * 1024
"""Capacities are multiples of this, so that recycled segments fit more often."""
UNTRIMMED_BYTES: Final = 64 * 1024 * 1024
LINGERING_NAMED: Final = 256
"""Segments that only readers hold, of which the names are given at once."""
TRIMS_AT_ONCE: Final = 256
"""Segments that one `tidy` looks at, so that it takes milliseconds and not a tenth of a second."""


class SegmentPool:
    """Leases, recycles and accounts for the segments of one directory, which is its alone to name.

    Not thread-safe. Making a new segment takes a time proportional to its size, everything else
    takes microseconds.

    Args:
        directory: must exist; one pool at a time works in it.
        budget_bytes: segments in flight, all together; unclaimed orphans count, too.
        free_limit_bytes: recycled segments kept for the next lease, all together.
        untrimmed_limit_bytes: pages around what rows refer to that may wait for `tidy`, all together: a segment that
            is retired before that needs no trimming.
        address_limit_bytes: segments in flight for one remote address, all together; None: as the budget.
        punches: whether the filesystem takes pages back from a file that lives on (`filesystem.examine`). If not, a
            stored segment occupies all of its length, and the figures say so.
    """

    def __init__(
        self,
        directory: Path,
        *,
        budget_bytes: int,
        free_limit_bytes: int,
        untrimmed_limit_bytes: int = UNTRIMMED_BYTES,
        address_limit_bytes: int | None = None,
        punches: bool = True,
    ) -> None:
        self.directory: Final = directory
        self.budget_bytes: Final = budget_bytes
        self.untrimmed_limit_bytes: Final = untrimmed_limit_bytes
        self.address_limit_bytes: Final = budget_bytes if address_limit_bytes is None else address_limit_bytes
        self._punches: Final = punches
        self._free: Final = FreeList(free_limit_bytes)
        self._accounts: Final = Accounts()
        self._new_names: Final = SegmentName.sequence(next_epoch(directory))
        #: page ranges to keep of stored segments whose other pages have not been given back yet
        self._untrimmed: dict[str, tuple[int, int]] = {}
        #: always the bytes of those other pages
        self._untrimmed_bytes = 0
        #: segments without a name and their bytes, kept open until nobody holds them, so that these are accounted for
        self._lingering: deque[tuple[SegmentFile, int]] = deque()
        #: always the sum of their bytes
        self.lingering_bytes = 0
        #: heap that processes of the node may hold for their peers: of the same budget
        self.granted_bytes = 0
        self._happened: Counter[str] = Counter()
        #: orphans for which the budget was not asked: what `rebuild` found, and what could not be given up
        self._inherited_bytes = 0

    # -- in flight --------------------------------------------------------------------------

    def grant(self, nbytes: int) -> None:
        """Counts heap that a process is going to hold for its peers against the budget; negative: gives it back.

        Raises:
            OutOfBudget: there is no such room.
        """
        if nbytes > 0:
            self._room_for(nbytes, "")
        self.granted_bytes += nbytes

    def lease(self, nbytes: int, owner: str, address: str = "") -> Lease:
        """A segment of at least `nbytes` for `owner` to write; it may hold old bytes.

        Args:
            nbytes: the room.
            owner: the process that writes it.
            address: the remote host that it is for, whose share it counts against; empty: nobody's.

        Raises:
            OutOfBudget: the node has no such room in flight: refuse the message.
            OutOfSpace: the filesystem has none, not even without the free segments.
            SegmentFailure: no descriptor is left, or the disk is broken.
        """
        capacity = _capacity_for(nbytes)
        room = self._room_for(capacity, address)
        recycled = self._free.take(capacity, at_most=room)
        if recycled is None:
            entry = self._create(capacity)
        else:
            entry = self._accounts.entry(recycled, Condition.FREE)
            self._happened["recycled"] += 1
        self._accounts.move(entry, Condition.IN_FLIGHT, owner=owner, address=address)
        return Lease(entry.key, entry.capacity)

    def grow(self, name: str, nbytes: int) -> Lease:
        """Make a leased segment at least `nbytes` long; its owner calls `Segment.grow` afterwards.

        Raises:
            OutOfBudget, OutOfSpace, SegmentFailure: as `lease`; the lease is as it was.
            UnknownSegment: not leased.
            SegmentGone: somebody else has removed its file.
        """
        entry = self._accounts.entry(name, Condition.IN_FLIGHT)
        capacity = _capacity_for(nbytes)
        if capacity > entry.capacity:
            self._room_for(capacity - entry.capacity, entry.address)
            self._with_space(lambda: SegmentFile.open(self.directory, name, writable=True).extend(capacity))
            self._accounts.hold(entry, capacity, [])
        return Lease(name, entry.capacity)

    def release(self, name: str) -> None:
        """The owner, or whoever speaks for it, gives the segment back unused.

        Raises:
            UnknownSegment: neither leased nor an orphan.
        """
        self._give_up(self._accounts.entry(name, Condition.IN_FLIGHT, Condition.ORPHAN))

    def leases_of(self, owner: str) -> list[str]:
        """The leases of one owner.

        If it is dead they stay in flight until each is stored or released. The caller asks the store
        first: the owner may have handed a reference on before it died.
        """
        return self._accounts.leased_to(owner)

    def disown(self, name: str, owner: str) -> None:
        """A lease is from now on one of `owner`, who stands for those that have lost sight of theirs.

        Raises:
            UnknownSegment: not leased.
        """
        entry = self._accounts.entry(name, Condition.IN_FLIGHT)
        self._accounts.move(entry, Condition.IN_FLIGHT, owner=owner, address=entry.address)

    # -- stored -----------------------------------------------------------------------------

    def stored(self, name: str, start: int, stop: int, kept_bytes: int) -> None:
        """From now on rows refer to `[start, stop)` of a leased segment; the pages around it are given back.

        That is left to a later `tidy` if somebody still holds the segment, or as long as few bytes
        wait for it.

        Args:
            name: the segment.
            start: offset of the first byte that a row refers to.
            stop: offset just past the last one.
            kept_bytes: how many of the bytes between are referred to.

        Raises:
            IndexError: the range is not inside the segment (whoever made the reference is wrong).
            UnknownSegment: not leased.
        """
        entry = self._accounts.entry(name, Condition.IN_FLIGHT)
        if not 0 <= start <= stop <= entry.capacity or not 0 <= kept_bytes <= stop - start:
            raise IndexError(f"{kept_bytes} bytes of [{start}:{stop}] in segment {name} of {entry.capacity} bytes")
        first, last = page_range(start, stop)
        self._accounts.move(entry, Condition.STORED, payload_bytes=kept_bytes)
        excess = entry.capacity - (last - first) if self._punches else 0
        may_wait = self._untrimmed_bytes + excess <= self.untrimmed_limit_bytes
        if excess and (may_wait or not self._trim(entry, first, last)):
            self._remember_untrimmed(name, entry.capacity, first, last)

    def retire(self, name: str) -> None:
        """No row refers to the segment any more; call it when that is committed.

        Recycled if nobody holds it, else unlinked: its readers keep their mapping.

        Raises:
            UnknownSegment: neither stored nor an orphan.
        """
        self._give_up(self._accounts.entry(name, Condition.STORED, Condition.ORPHAN))

    def tidy(self, *, at_most: int = TRIMS_AT_ONCE) -> None:
        """Give back the pages around what is stored, and of what has no name, where nobody holds the segment.

        Call it now and then (every second, say): ~10 µs for each segment that waits.

        Args:
            at_most: how many segments of each kind it looks at, those first that have waited longest.
        """
        self._trim_waiting(at_most)
        self._let_go_of_lingering(at_most)

    @property
    def lingering_names(self) -> list[str]:
        """Segments that lost their name while somebody held them, by the name that they had; the oldest first."""
        return [file.name for file, _ in islice(self._lingering, LINGERING_NAMED)]

    # -- after a restart --------------------------------------------------------------------

    def rebuild(self) -> None:
        """Take in what an earlier pool left in the directory: all of it orphans, which count against the budget.

        Then the store says which are `live`, the handlers `adopt` their leases, and whatever is an
        orphan after that is `retire`d. What an earlier pool had not trimmed stays untrimmed until
        `trim_later` says what to keep.
        """
        assert not len(self._accounts), "rebuild comes before the first lease"
        for path in sorted(self.directory.iterdir()):
            name = SegmentName.parse(path.name)
            if name is None:
                continue
            status = path.stat()
            if status.st_size == 0:  # whoever made it died before it had space
                path.unlink()
                continue
            held = min(status.st_blocks * STAT_BLOCK_BYTES, status.st_size)
            holes = [(0, status.st_size)] if held < status.st_size else []
            self._accounts.add(
                Entry(name=name, capacity=status.st_size, condition=Condition.ORPHAN, held_bytes=held, holes=holes)
            )
        self._inherited_bytes = self._accounts.held[Condition.ORPHAN]

    @property
    def taken_bytes(self) -> int:
        """What counts against the budget: in flight, unclaimed, granted, and held by nobody but readers."""
        held = self._accounts.held
        return held[Condition.IN_FLIGHT] + held[Condition.ORPHAN] + self.granted_bytes + self.lingering_bytes

    @property
    def reserved_bytes(self) -> int:
        """What is in flight now, of `budget_bytes`."""
        return self._accounts.held[Condition.IN_FLIGHT]

    @property
    def stored_names(self) -> list[str]:
        """Every segment that is stored."""
        return self._accounts.names(Condition.STORED)

    def is_orphan(self, name: str) -> bool:
        """Whether the segment is one of `orphans`."""
        return self._accounts.condition_of(name) is Condition.ORPHAN

    @property
    def orphans(self) -> list[str]:
        """Segments that `rebuild` found and nobody has claimed yet."""
        return self._accounts.names(Condition.ORPHAN)

    def live(self, names: Iterable[str]) -> list[str]:
        """Rows refer to these, so they are stored. Returns those that are no segment (lost bytes).

        Leases among them belong to writes whose store died before it could tell.
        """
        missing = []
        for name in names:
            if name not in self._accounts:
                missing.append(name)
                continue
            entry = self._accounts.entry(name, *Condition)
            if entry.condition in (Condition.ORPHAN, Condition.IN_FLIGHT):
                self._accounts.move(entry, Condition.STORED, payload_bytes=entry.held_bytes)
        return missing

    def trim_later(self, name: str, start: int, stop: int) -> None:
        """Rows refer to `[start, stop)` of a `live` segment: if an earlier pool has not trimmed it, `tidy` does.

        Raises:
            UnknownSegment: not stored.
            IndexError: the range is not inside the segment (whoever made the reference is wrong).
        """
        entry = self._accounts.entry(name, Condition.STORED)
        if not 0 <= start <= stop <= entry.capacity:
            raise IndexError(f"[{start}:{stop}] in segment {name} of {entry.capacity} bytes")
        first, last = page_range(start, stop)
        excess = entry.capacity - (last - first)
        if excess and self._punches and not entry.holes and name not in self._untrimmed:
            self._accounts.move(entry, Condition.STORED, payload_bytes=stop - start)
            self._remember_untrimmed(name, entry.capacity, first, last)

    def adopt(self, name: str, owner: str) -> Lease:
        """An orphan is still being written by `owner`: it is in flight again.

        Raises:
            UnknownSegment: not an orphan; the owner has lost its lease.
        """
        entry = self._accounts.entry(name, Condition.ORPHAN)
        self._accounts.move(entry, Condition.IN_FLIGHT, owner=owner)
        return Lease(name, entry.capacity)

    # -- looking ----------------------------------------------------------------------------

    def figures(self) -> PoolFigures:
        """Everything there is to show."""
        held, number, peak = self._accounts.held, self._accounts.number, self._accounts.peak
        return PoolFigures(
            budget_bytes=self.budget_bytes,
            free_limit_bytes=self._free.limit_bytes,
            reserved_bytes=held[Condition.IN_FLIGHT],
            reserved_peak_bytes=peak[Condition.IN_FLIGHT],
            stored_bytes=held[Condition.STORED],
            stored_peak_bytes=peak[Condition.STORED],
            payload_bytes=self._accounts.payload_bytes,
            untrimmed_bytes=self._untrimmed_bytes,
            free_bytes=held[Condition.FREE],
            orphan_bytes=held[Condition.ORPHAN],
            lingering_bytes=self.lingering_bytes,
            leases=number[Condition.IN_FLIGHT],
            stored_segments=number[Condition.STORED],
            free_segments=number[Condition.FREE],
            orphans=number[Condition.ORPHAN],
            created=self._happened["created"],
            recycled=self._happened["recycled"],
            unlinked=self._happened["unlinked"],
            refused=self._happened["refused"],
        )

    def check_invariants(self) -> None:
        """Assert that the books agree with each other, with the limits and with the directory (for tests)."""
        self._accounts.check_invariants()
        figures = self.figures()
        assert figures.free_bytes == self._free.nbytes <= self._free.limit_bytes
        assert figures.free_segments == len(self._free)
        assert figures.reserved_bytes + figures.orphan_bytes <= max(self.budget_bytes, self._inherited_bytes)
        assert self.granted_bytes >= 0
        on_disk = {path.name: path.stat().st_size for path in self.directory.glob("*.seg")}
        assert on_disk == self._accounts.capacities()

    # -- the steps --------------------------------------------------------------------------

    def _room_for(self, nbytes: int, address: str) -> int:
        if nbytes > self.budget_bytes - self.taken_bytes:
            self._let_go_of_lingering(TRIMS_AT_ONCE)
        taken = self.taken_bytes
        room = self.budget_bytes - taken
        if nbytes > room:
            self._happened["refused"] += 1
            raise OutOfBudget(f"{nbytes} bytes wanted, {taken} of {self.budget_bytes} are taken")
        if address:
            theirs = self._accounts.of_address[address]
            if theirs + nbytes > self.address_limit_bytes:
                self._happened["refused"] += 1
                raise OverShare(f"{nbytes} bytes wanted, {theirs} of {self.address_limit_bytes} are yours")
        return room

    def _create(self, capacity: int) -> Entry:
        name = next(self._new_names)
        self._with_space(lambda: SegmentFile.create(self.directory, str(name), capacity).close())
        entry = Entry(name=name, capacity=capacity, condition=Condition.IN_FLIGHT, held_bytes=capacity)
        self._accounts.add(entry)
        self._happened["created"] += 1
        return entry

    def _with_space(self, allocate: Callable[[], None]) -> None:
        """Allocate; if the filesystem is full, once more without what is idle: free segments, untrimmed pages."""
        try:
            try:
                return allocate()
            except OutOfSpace:
                self._unlink_free(self._free.clear())
                self._trim_waiting(len(self._untrimmed))
            return allocate()
        except (OutOfSpace, SegmentFailure):
            self._happened["refused"] += 1
            raise

    def _trim_waiting(self, at_most: int) -> None:
        for name, (first, last) in list(islice(self._untrimmed.items(), at_most)):
            entry = self._accounts.entry(name, Condition.STORED)
            self._forget_untrimmed(name, entry.capacity)
            if not self._trim(entry, first, last):  # behind the others
                self._remember_untrimmed(name, entry.capacity, first, last)

    def _trim(self, entry: Entry, first: int, last: int) -> bool:
        """Keep only the pages `[first, last)`; False if somebody holds the segment, or no descriptor is left."""
        holes = [(start, stop) for start, stop in ((0, first), (last, entry.capacity)) if start < stop]
        try:
            file = SegmentFile.open(self.directory, entry.key, writable=True)
            if not file.try_lock_exclusive():
                return False
            for start, stop in holes:
                file.punch(start, stop)
        except SegmentGone:  # its rows cannot be read any more, and its pages are gone with it
            return True
        except SegmentFailure:
            return False
        file.close()
        self._accounts.hold(entry, entry.capacity, holes)
        return True

    def _remember_untrimmed(self, name: str, capacity: int, first: int, last: int) -> None:
        self._untrimmed[name] = (first, last)
        self._untrimmed_bytes += capacity - (last - first)

    def _forget_untrimmed(self, name: str, capacity: int) -> None:
        first, last = self._untrimmed.pop(name)
        self._untrimmed_bytes -= capacity - (last - first)

    def _give_up(self, entry: Entry) -> None:
        """Recycle a segment, or unlink it: somebody holds it, enough is free, or its holes cannot be filled."""
        name = entry.key
        if name in self._untrimmed:
            self._forget_untrimmed(name, entry.capacity)
        try:
            file = SegmentFile.open(self.directory, name, writable=True)
        except SegmentGone:  # somebody else has removed it
            self._accounts.drop(entry)
            return
        except SegmentFailure:
            if entry.condition is not Condition.ORPHAN:
                self._inherited_bytes += entry.held_bytes
                self._accounts.move(entry, Condition.ORPHAN)
            return
        if not file.try_lock_exclusive() or entry.capacity > self._free.limit_bytes or not filled(file, entry.holes):
            self._unlink_empty(entry, file)
        else:
            self._accounts.rename(entry, entry.name.next_life())
            file.rename(entry.key)
            if entry.holes:
                self._accounts.hold(entry, entry.capacity, [])
            self._accounts.move(entry, Condition.FREE)
            self._unlink_free(self._free.add(entry.key, entry.capacity))

    def _unlink_free(self, names: list[str]) -> None:
        for name in names:
            entry = self._accounts.entry(name, Condition.FREE)
            try:
                file = SegmentFile.open(self.directory, name, writable=True)
            except SegmentGone:
                self._accounts.drop(entry)
            except SegmentFailure:  # no descriptor is left: idle mappings in some cache may keep its pages for a while
                os.unlink(self.directory / name)
                self._drop(entry)
            else:
                self._unlink_empty(entry, file)

    def _let_go_of_lingering(self, at_most: int) -> None:
        """Empties what nobody holds any more, among those that wait for it longest."""
        for _ in range(min(at_most, len(self._lingering))):
            file, nbytes = self._lingering.popleft()
            self.lingering_bytes -= nbytes
            if not emptied(file):  # behind the others
                self._linger(file, nbytes)

    def _linger(self, file: SegmentFile, nbytes: int) -> None:
        self._lingering.append((file, nbytes))
        self.lingering_bytes += nbytes

    def _unlink_empty(self, entry: Entry, file: SegmentFile) -> None:
        if not emptied(file):
            self._linger(file, file.held_bytes())
        file.unlink()
        self._drop(entry)

    def _drop(self, entry: Entry) -> None:
        self._accounts.drop(entry)
        self._happened["unlinked"] += 1


def _capacity_for(nbytes: int) -> int:
    return max(nbytes + -nbytes % CAPACITY_STEP_BYTES, CAPACITY_STEP_BYTES)
