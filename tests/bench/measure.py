"""Figures of a machine that others use too. Enters: pids. Leaves: seconds, bytes, shares. Next: `results.py`.

CPU seconds are the kernel's (`/proc/<pid>/stat`, in ticks of 10 ms); memory is anonymous memory
(`/proc/<pid>/statm`, resident without shared), sampled, because the kernel keeps no peak of it.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

SAMPLE_INTERVAL_S = 0.003
LEAST_SAMPLES_PER_S = 100.0


def median(samples: Sequence[float]) -> float:
    """The middle of at least one sample; of an even number, the mean of the middle two."""
    return statistics.median(samples)


# ---- CPU -------------------------------------------------------------------------------------------


def cpu_seconds(pids: Iterable[int]) -> float:
    """What these processes, all their threads together, have used so far. Those that are gone count nothing."""
    return sum(_ticks(pid) for pid in pids) / TICKS_PER_S


def _ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    user, system = text.rpartition(")")[2].split()[11:13]
    return int(user) + int(system)


@dataclass(frozen=True, slots=True)
class CpuUse:
    """A moment's counters, in seconds.

    Attributes:
        wall_s: of the clock.
        machine_s: that all cores together spent on processes.
        ours_s: of it, on the benchmark: its servers, this process and the drivers that ended.
    """

    wall_s: float
    machine_s: float
    ours_s: float

    @classmethod
    def now(cls, servers: Iterable[int]) -> Self:
        """Reads them.

        Args:
            servers: pids of every server that runs, measured or not.
        """
        own = os.times()
        drivers = own.children_user + own.children_system
        return cls(time.monotonic(), _machine_seconds(), cpu_seconds(servers) + own.user + own.system + drivers)


def _machine_seconds() -> float:
    # interrupts are left out: they are charged to no process, and most of them are the loopback's, that is ours
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = map(
        int, Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + steal) / TICKS_PER_S


def others_share(before: CpuUse, after: CpuUse, cores: int) -> float:
    """The share of the machine (all `cores`) that went to processes that are not the benchmark's, 0 to 1."""
    others_s = (after.machine_s - before.machine_s) - (after.ours_s - before.ours_s)
    return min(1.0, max(0.0, others_s / (cores * (after.wall_s - before.wall_s))))


# ---- memory ----------------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """A process and everything it started, directly or not."""
    process = psutil.Process(pid)
    return [pid, *(child.pid for child in process.children(recursive=True))]


def anonymous_bytes(pids: Iterable[int]) -> int:
    """Anonymous memory of these processes together, now."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/statm").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += _anonymous_pages(text) * PAGE_BYTES
    return total


def _anonymous_pages(statm: bytes) -> int:
    _, resident, shared, *_ = statm.split()
    return int(resident) - int(shared)


class AnonymousPeak:
    """Samples the anonymous memory of some processes, together, for as long as the block lasts.

    Attributes:
        idle_bytes: at the start.
        peak_bytes: the highest seen.
        samples_per_s: how often it looked; known afterwards.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._files = [os.open(f"/proc/{pid}/statm", os.O_RDONLY) for pid in pids]
        self.idle_bytes = self.peak_bytes = self._read()
        self.samples_per_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="anonymous peak")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for file in self._files:
            os.close(file)

    def _sample(self) -> None:
        # on any core: a driver that is busy on this one must not keep it from looking
        os.sched_setaffinity(threading.get_native_id(), range(os.cpu_count() or 1))  # noqa: TID251  (all there are)
        started, samples = time.monotonic(), 0
        while not self._stop.wait(SAMPLE_INTERVAL_S):
            self.peak_bytes = max(self.peak_bytes, self._read())
            samples += 1
        self.samples_per_s = samples / (time.monotonic() - started)

    def _read(self) -> int:
        pages = 0
        for file in self._files:
            try:
                pages += _anonymous_pages(os.pread(file, 256, 0))
            except ProcessLookupError:
                continue  # it ended, and its memory with it
        return pages * PAGE_BYTES
