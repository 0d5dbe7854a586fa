"""A process's stats slab. Enters: a run directory, a role, a slot. Leaves: handles to cells. Next: `reader.py`.

The slab is a small mapped file, `<run_dir>/slabs/<role>-<slot>.slab`. Its process writes numbers into it at the price
of an addition; the exporter maps it and reads, asking nobody, even while the process is blocked, and after it died. A
process that takes a dead one's place opens the same slot: counters and peaks go on, gauges begin at 0.

The file is 64 bytes of header, then the cells of `layout.py`:

====  ======================================================================
word  (8 bytes each, little-endian)
====  ======================================================================
0     magic
1     the layout's fingerprint
2     pid
3     start of the process, clock ticks since boot (with the pid: which process)
4     incarnation: how many processes have had this slot
5     heartbeat, seconds of the monotonic clock, a double
6     slot
7     role, its position in `Role`
====  ======================================================================
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from simnode.metrics.cells import Counter, Gauge, Histogram, PeakGauge
from simnode.metrics.layout import Layout, layout_of
from simnode.metrics.model import Kind, Role
from simnode.metrics.process import read_process_stat

MAGIC = int.from_bytes(b"simnode1", "little")
HEADER_BYTES = 64
CELL_BYTES = 8

WORD_PID, WORD_START_TICKS, WORD_INCARNATION, WORD_HEARTBEAT = range(2, 6)
"""The words that change: what a process writes when it takes over, and at each heartbeat."""

HEADER = struct.Struct("<5Qd2Q")
assert HEADER.size == HEADER_BYTES


class SlabInUseError(RuntimeError):
    """Another living process writes this slot (the supervisor's fault: two actors were given one slot)."""


def slab_directory(run_dir: Path) -> Path:
    """Where the slabs of a run are."""
    return run_dir / "slabs"


def slab_path(run_dir: Path, role: Role, slot: int) -> Path:
    """The slab of one slot."""
    return slab_directory(run_dir) / f"{role}-{slot}.slab"


def slab_bytes(layout: Layout) -> int:
    """The size of a slab file in bytes."""
    return HEADER_BYTES + layout.cell_count * CELL_BYTES


class StatsSlab:
    """The slab of this process, open for writing. Made by `StatsSlab.open`; each cell has one writing thread."""

    def __init__(self, fd: int, layout: Layout) -> None:
        self._fd = fd
        self._layout = layout
        self._map = mmap.mmap(fd, slab_bytes(layout))
        self._view = memoryview(self._map)
        self._words = self._view[:HEADER_BYTES].cast("Q")
        self._times = self._view[:HEADER_BYTES].cast("d")
        self._cells = self._view[HEADER_BYTES:].cast("d")

    @classmethod
    def open(cls, run_dir: Path, role: Role, slot: int, *, now_s: float) -> Self:
        """Create the slot's slab, or take over the one that an earlier process left.

        Args:
            run_dir: the run directory; `slabs/` in it is made if need be.
            role: what this process is; decides which metrics the slab has.
            slot: which of the role's processes it is (≥ 0), stable over restarts.
            now_s: the monotonic clock, in seconds.

        Raises:
            SlabInUseError: a living process has the slot.
            OSError: among others ENOSPC, when the file cannot be allocated in full.
        """
        path = slab_path(run_dir, role, slot)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        layout = layout_of(role)
        fd = _lock_existing(path, layout)
        if fd is None:
            fd = _create(path, layout, role, slot)
        slab = cls(fd, layout)
        slab._take_over(now_s)
        return slab

    def counter(self, name: str, /, **labels: str) -> Counter:
        """A handle to one counter. Raises `UnknownMetricError` for what the catalogue does not have."""
        return Counter(self._cells, self._layout.block(name, Kind.COUNTER).cell(labels))

    def gauge(self, name: str, /, **labels: str) -> Gauge:
        """A handle to one gauge. Raises `UnknownMetricError` for what the catalogue does not have."""
        return Gauge(self._cells, self._layout.block(name, Kind.GAUGE).cell(labels))

    def peak(self, name: str, /, **labels: str) -> PeakGauge:
        """The handle to one peak: take it once, it remembers. Raises `UnknownMetricError` as `counter` does."""
        return PeakGauge(self._cells, self._layout.block(name, Kind.PEAK).cell(labels))

    def histogram(self, name: str, /, **labels: str) -> Histogram:
        """A handle to one histogram. Raises `UnknownMetricError` for what the catalogue does not have."""
        block = self._layout.block(name, Kind.HISTOGRAM)
        return Histogram(self._cells, block.cell(labels), block.metric.buckets)

    def counters(self, name: str) -> dict[tuple[str, ...], Counter]:
        """Every counter of a family, by its label values in the catalogue's order. Raises `UnknownMetricError`."""
        block = self._layout.block(name, Kind.COUNTER)
        return {values: Counter(self._cells, cell) for values, cell in block.cells.items()}

    def histograms(self, name: str) -> dict[tuple[str, ...], Histogram]:
        """Every histogram of a family, by its label values in the catalogue's order. Raises `UnknownMetricError`."""
        block = self._layout.block(name, Kind.HISTOGRAM)
        bounds = block.metric.buckets
        return {values: Histogram(self._cells, cell, bounds) for values, cell in block.cells.items()}

    def heartbeat(self, now_s: float) -> None:
        """Say that the process lives and its loop turns, at `now_s` on the monotonic clock. Once a second will do."""
        self._times[WORD_HEARTBEAT] = now_s

    def close(self) -> None:
        """Let go of the slot; the file stays for the exporter. Handles then raise ValueError."""
        for view in (self._words, self._times, self._cells, self._view):
            view.release()
        self._map.close()
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take_over(self, now_s: float) -> None:
        last_seen_s = self._times[WORD_HEARTBEAT]
        for block in self._layout.blocks:
            for cell in block.cells.values():
                if block.metric.kind is Kind.GAUGE:
                    self._cells[cell] = 0.0
                elif block.metric.kind is Kind.PEAK:
                    PeakGauge(self._cells, cell).restart(last_seen_s=last_seen_s, now_s=now_s)
        process = read_process_stat(os.getpid())
        assert process is not None, "this process exists"
        # A reader between these lines sees a pid with another's start: a process that is not up, for one scrape.
        self._words[WORD_PID] = process.pid
        self._words[WORD_START_TICKS] = process.start_ticks
        self._words[WORD_INCARNATION] += 1
        self.heartbeat(now_s)


def _lock_existing(path: Path, layout: Layout) -> int | None:
    """The slot's file, locked, if there is one of this layout."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        _lock(fd, path)
        header = os.pread(fd, HEADER_BYTES, 0)
        if os.fstat(fd).st_size == slab_bytes(layout):
            magic, fingerprint, *_ = HEADER.unpack(header)
            if (magic, fingerprint) == (MAGIC, layout.fingerprint):
                return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)  # of another version: replaced by a new file, which leaves readers of the old one alone
    return None


def _create(path: Path, layout: Layout, role: Role, slot: int) -> int:
    """A new, zeroed, locked file; it gets its name when it is complete, so no reader sees half of one."""
    draft = path.with_suffix(f".{os.getpid()}.draft")
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd, path)
        os.posix_fallocate(fd, 0, slab_bytes(layout))  # ENOSPC here, rather than SIGBUS at the first write
        os.pwrite(fd, HEADER.pack(MAGIC, layout.fingerprint, 0, 0, 0, 0.0, slot, list(Role).index(role)), 0)
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        os.close(fd)
        raise
    return fd


def _lock(fd: int, path: Path) -> None:
    """The kernel lets go of the lock when the process ends, however it ends."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SlabInUseError(f"a living process writes {path.name}") from error
