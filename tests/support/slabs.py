"""Stats slabs for tests: a clock to set, a process to bury, a node in which everything has happened."""

from __future__ import annotations

import struct
from pathlib import Path

from simnode.metrics.layout import layout_of
from simnode.metrics.model import Kind, Role
from simnode.metrics.slab import WORD_START_TICKS, StatsSlab


class Clock:
    """The monotonic clock, at the second the test says."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def give_pid_away(path: Path) -> None:
    """Make a slab look as if its process had ended and the pid belonged to another one since."""
    with path.open("r+b") as file:
        file.seek(WORD_START_TICKS * 8)
        file.write(struct.pack("<Q", 1))


class BusyNode:
    """A slab of every role, all of them this process's, in which every metric has a value."""

    def __init__(self, run_dir: Path, now_s: float) -> None:
        self.slabs = [StatsSlab.open(run_dir, role, 0, now_s=now_s) for role in Role]
        self.happen(now_s)

    def happen(self, now_s: float) -> None:
        """Count everything once more, in every combination of labels."""
        for role, slab in zip(Role, self.slabs, strict=True):
            slab.heartbeat(now_s)
            for block in layout_of(role).blocks:
                metric = block.metric
                for values in metric.combinations:
                    labels = {label.name: value for label, value in zip(metric.labels, values, strict=True)}
                    match metric.kind:
                        case Kind.COUNTER:
                            slab.counter(metric.name, **labels).inc(3)
                        case Kind.GAUGE:
                            slab.gauge(metric.name, **labels).set(5)
                        case Kind.PEAK:
                            slab.peak(metric.name, **labels).set(7, now_s)
                        case Kind.HISTOGRAM:
                            slab.histogram(metric.name, **labels).observe(metric.buckets[2])
                        case Kind.INFO:
                            raise AssertionError("info metrics have no cells")

    def close(self) -> None:
        for slab in self.slabs:
            slab.close()
