"""Values in 8-byte cells. Enters: increments and times. Leaves: doubles in a slab. Next: `slab.py`.

Every cell is an aligned double, written with one store and read with one load, which x86-64 (and AArch64) never
tears: another process sees the old value or the new one. What spans cells (a histogram's sum and its buckets, a peak
and its ring) may be seen half updated for the length of one call, which is one increment's worth of error. A cell has
one writing thread: `+=` on it is not atomic between threads.

Doubles count exactly up to 2**53: nine petabytes, or a million requests a second for 285 years.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

PEAK_SECONDS = 60
"""Length of a peak's window: this many whole seconds of the monotonic clock, the current one included."""

_NOW, _LIFE, _SECOND, _RING = range(4)

PEAK_CELLS = _RING + PEAK_SECONDS
"""Cells of a peak: the value now, the highest for life, the second of the latest write, the maxima of 60 seconds."""


class Counter:
    """A number that only grows."""

    __slots__ = ("_cell", "_cells")

    def __init__(self, cells: memoryview[float], cell: int) -> None:
        self._cells = cells
        self._cell = cell

    def inc(self, amount: float = 1.0) -> None:
        """Add `amount` (≥ 0)."""
        self._cells[self._cell] += amount


class Gauge:
    """A number that goes both ways."""

    __slots__ = ("_cell", "_cells")

    def __init__(self, cells: memoryview[float], cell: int) -> None:
        self._cells = cells
        self._cell = cell

    def set(self, value: float) -> None:
        """Replace the value."""
        self._cells[self._cell] = value

    def add(self, delta: float) -> None:
        """Add `delta`, negative to subtract."""
        self._cells[self._cell] += delta


class Histogram:
    """A distribution over the catalogue's buckets; the cells hold plain counts, cumulated by the reader."""

    __slots__ = ("_bounds", "_cells", "_first", "_sum")

    def __init__(self, cells: memoryview[float], first: int, bounds: Sequence[float]) -> None:
        self._cells = cells
        self._first = first
        self._sum = first + len(bounds) + 1
        self._bounds = bounds

    def observe(self, value: float) -> None:
        """Count `value`, in the metric's unit; a value on a bound belongs to the bucket below it."""
        self._cells[self._first + bisect_left(self._bounds, value)] += 1.0
        self._cells[self._sum] += value


class PeakGauge:
    """A gauge (≥ 0) whose highest value is kept, exactly, for each of the last 60 seconds and for life.

    A second's maximum includes the value held when the second began: a gauge set to 7 and left alone has a peak of 7
    for as long as it stays there.
    """

    __slots__ = ("_cells", "_first", "_life", "_second_ends", "_second_max", "_value")

    def __init__(self, cells: memoryview[float], first: int) -> None:
        self._cells = cells
        self._first = first
        self._value = cells[first + _NOW]
        self._life = cells[first + _LIFE]
        second = int(cells[first + _SECOND])
        self._second_max = cells[first + _RING + second % PEAK_SECONDS]
        self._second_ends = second + 1

    def set(self, value: float, now_s: float) -> None:
        """Replace the value at `now_s` on the monotonic clock; a time before the latest one counts as the latest."""
        if now_s >= self._second_ends:
            self._begin_second(int(now_s))
        self._value = value
        cells = self._cells
        first = self._first
        cells[first + _NOW] = value
        if value > self._second_max:
            self._second_max = value
            cells[first + _RING + (self._second_ends - 1) % PEAK_SECONDS] = value
            if value > self._life:
                self._life = value
                cells[first + _LIFE] = value

    def add(self, delta: float, now_s: float) -> None:
        """Add `delta` to the value at `now_s`."""
        self.set(self._value + delta, now_s)

    def restart(self, *, last_seen_s: float, now_s: float) -> None:
        """Take over from a process that was last seen alive at `last_seen_s`: its value ends there, its peaks stay."""
        if max(last_seen_s, self._second_ends - 1) > now_s:
            # The clock was set back by a reboot: the ring's seconds mean nothing any more, the peak for life does.
            for cell in range(self._first + _SECOND, self._first + PEAK_CELLS):
                self._cells[cell] = 0.0
            self._cells[self._first + _NOW] = self._value = 0.0
            self._second_max, self._second_ends = 0.0, 1
        self.set(0.0, min(last_seen_s, now_s))

    def _begin_second(self, second: int) -> None:
        held = self._value
        for passed in range(max(self._second_ends, second - PEAK_SECONDS + 1), second + 1):
            self._cells[self._first + _RING + passed % PEAK_SECONDS] = held
        self._cells[self._first + _SECOND] = second
        self._second_max = held
        self._second_ends = second + 1


def peak_for_life(cells: Sequence[float], first: int) -> float:
    """The highest value ever, out of a peak's cells."""
    return cells[first + _LIFE]


def maxima_of_seconds(cells: Sequence[float], first: int, *, now_s: float, held_until_s: float) -> list[float]:
    """The maxima of the 60 seconds that end with the one of `now_s`, oldest first, out of a peak's cells.

    Args:
        cells: the values of a slab.
        first: the peak's first cell.
        now_s: the end of the window, on the monotonic clock.
        held_until_s: until when the process is known to have kept its latest value: `now_s` while it lives.
    """
    written = int(cells[first + _SECOND])
    held_until = int(held_until_s)
    end = int(now_s)
    maxima = []
    for second in range(end - PEAK_SECONDS + 1, end + 1):
        if second <= written:
            in_ring = second > written - PEAK_SECONDS
            maxima.append(cells[first + _RING + second % PEAK_SECONDS] if in_ring else 0.0)
        else:
            maxima.append(cells[first + _NOW] if second <= held_until else 0.0)
    return maxima
