"""Memory of the node's processes. Enters: pids. Leaves: bytes by role, and their peaks. Next: `aggregate.py`.

RssAnon is the heap alone. RSS and its kernel-kept peak, VmHWM, count every mapped segment in every process that maps
it, so neither can be used; and of RssAnon the kernel keeps no peak. Hence a thread that looks often.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from simnode.metrics.cells import PEAK_CELLS, PeakGauge, maxima_of_seconds, peak_for_life
from simnode.metrics.model import Role
from simnode.metrics.process import read_proc_file

RSS_ANON_INTERVAL_S = 0.05
PSS_INTERVAL_S = 5.0

MAX_DUTY_RATIO = 0.2
"""The share of one core that a sampler may use; with hundreds of processes it looks less often instead."""


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """One role's memory by one measure, in bytes."""

    now: float
    peak_60s: float
    peak_life: float
    """Since the sampler began: an exporter that restarts begins anew."""


def read_rss_anon_bytes(pid: int) -> int | None:
    """RssAnon of one process, in bytes; None when it is gone."""
    return _kibibytes(read_proc_file(pid, "status"), "RssAnon:")


def read_pss_bytes(pid: int) -> int | None:
    """The proportional set size of one process, in bytes; None when it is gone. Takes milliseconds."""
    return _kibibytes(read_proc_file(pid, "smaps_rollup"), "Pss:")


class MemorySampler:
    """Looks at the memory of every role at an interval, from a thread of its own, and remembers peaks.

    Args:
        measure: the memory of one pid in bytes, or None when the process is gone.
        processes: the living pids by role.
        interval_s: the time from the beginning of one look to that of the next, at the least.
        clock: the monotonic clock.
        name: of the thread.
    """

    def __init__(
        self,
        measure: Callable[[int], int | None],
        *,
        processes: Callable[[], Mapping[Role, Sequence[int]]],
        interval_s: float,
        clock: Callable[[], float],
        name: str,
    ) -> None:
        self._measure = measure
        self._processes = processes
        self._interval_s = interval_s
        self._clock = clock
        self._gauges: dict[Role, PeakGauge] = {}
        self._cells: dict[Role, memoryview[float]] = {}
        self._samples = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def samples(self) -> int:
        """How many times it has looked."""
        return self._samples

    def start(self) -> None:
        """Start the thread; it looks at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def sample(self) -> float:
        """Look once. Returns the pause until the next look, in seconds."""
        began_s = self._clock()
        for role, pids in self._processes().items():
            # One that died since it was listed counts no more; its share of an earlier peak stays.
            total = sum(self._measure(pid) or 0 for pid in pids)
            self._gauge(role).set(total, self._clock())
        self._samples += 1
        took_s = self._clock() - began_s
        return max(self._interval_s, took_s / MAX_DUTY_RATIO) - took_s

    def readings(self, now_s: float) -> dict[Role, MemoryReading]:
        """What it knows, by role. From any thread."""
        readings = {}
        for role, cells in list(self._cells.items()):
            values = cells.tolist()
            seconds = maxima_of_seconds(values, 0, now_s=now_s, held_until_s=now_s)
            readings[role] = MemoryReading(values[0], max(seconds), peak_for_life(values, 0))
        return readings

    def _gauge(self, role: Role) -> PeakGauge:
        if role not in self._gauges:
            cells = memoryview(bytearray(PEAK_CELLS * 8)).cast("d")
            self._gauges[role] = PeakGauge(cells, 0)
            self._cells[role] = cells
        return self._gauges[role]

    def _run(self) -> None:
        while not self._closing.wait(self.sample()):
            pass


def _kibibytes(text: str | None, field: str) -> int | None:
    """The field of a `/proc` file that is in "kB" (which are KiB), in bytes; a process in its exit has none left."""
    for line in (text or "").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None
