"""Many processes' values as one node's. Enters: slab snapshots. Leaves: values by labels. Next: `collector.py`.

How processes add up (`Per` says over which labels): counters and histograms over every process that ever had a slot,
dead ones included, so that they never go back; gauges over the living; peaks not at all, because neither the sum nor
the maximum of the processes' peaks is the peak of the node. What is, within a second, `node_peak_60s` finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from simnode.metrics.cells import maxima_of_seconds, peak_for_life
from simnode.metrics.layout import cells_of, layout_of
from simnode.metrics.model import Kind, Metric, Per
from simnode.metrics.reader import SlabSnapshot

Labels = tuple[str, ...]
"""Label values in the order of `Metric.label_names`."""

Values = dict[Labels, float]


@dataclass(slots=True)
class Peaks:
    """The three values that a peak is exported as."""

    now: Values = field(default_factory=dict)
    last_60s: Values = field(default_factory=dict)
    life: Values = field(default_factory=dict)


@dataclass(slots=True)
class Distribution:
    """A histogram's plain (not cumulated) counts, one for each bucket and one for +Inf, and its sum."""

    counts: list[float]
    total: float = 0.0


def sums(metric: Metric, slabs: Iterable[SlabSnapshot]) -> Values:
    """A counter or a gauge, added up."""
    # A counter must exist before it first counts, or its first increase is invisible to rate().
    starts_at_zero = metric.kind is Kind.COUNTER and metric.per is Per.NODE
    values: Values = dict.fromkeys(metric.combinations, 0.0) if starts_at_zero else {}
    for slab in _having(metric, slabs):
        if metric.kind is Kind.GAUGE and slab.process is None:
            continue
        for labels, cell in _cells(metric, slab).items():
            key = process_labels(metric, slab) + labels
            values[key] = values.get(key, 0.0) + slab.cells[cell]
    return values


def histograms(metric: Metric, slabs: Iterable[SlabSnapshot]) -> dict[Labels, Distribution]:
    """A histogram, added up."""
    count_cells = cells_of(metric) - 1
    distributions = {labels: Distribution([0.0] * count_cells) for labels in metric.combinations}
    for slab in _having(metric, slabs):
        for labels, cell in _cells(metric, slab).items():
            distribution = distributions[labels]
            counts = slab.cells[cell : cell + count_cells]
            distribution.counts = [a + b for a, b in zip(distribution.counts, counts, strict=True)]
            distribution.total += slab.cells[cell + count_cells]
    return distributions


def peaks(metric: Metric, slabs: Iterable[SlabSnapshot], now_s: float) -> Peaks:
    """A peak of each process; of a dead one the peaks, but no value now."""
    found = Peaks()
    for slab in _having(metric, slabs):
        for labels, cell in _cells(metric, slab).items():
            key = process_labels(metric, slab) + labels
            found.now[key] = slab.cells[cell] if slab.process else 0.0
            found.last_60s[key] = max(_seconds(slab, cell, now_s))
            found.life[key] = peak_for_life(slab.cells, cell)
    return found


def node_peak_60s(metric: Metric, slabs: Iterable[SlabSnapshot], now_s: float) -> Values:
    """The node's highest value in 60 s: the highest, over the seconds, of the sum of the processes' maxima in each."""
    values: Values = dict.fromkeys(metric.combinations, 0.0)
    having = list(_having(metric, slabs))
    for labels in values:
        columns = zip(*(_seconds(slab, _cells(metric, slab)[labels], now_s) for slab in having), strict=True)
        values[labels] = max(map(sum, columns), default=0.0)
    return values


def process_labels(metric: Metric, slab: SlabSnapshot) -> Labels:
    """The label values that `metric.per` puts before the metric's own."""
    match metric.per:
        case Per.NODE:
            return ()
        case Per.ROLE:
            return (slab.role,)
        case Per.PROCESS:
            return (slab.role, str(slab.slot))


def _having(metric: Metric, slabs: Iterable[SlabSnapshot]) -> Iterable[SlabSnapshot]:
    return (slab for slab in slabs if slab.role in metric.roles)


def _cells(metric: Metric, slab: SlabSnapshot) -> Mapping[Labels, int]:
    return layout_of(slab.role).block(metric.name, metric.kind).cells


def _seconds(slab: SlabSnapshot, cell: int, now_s: float) -> Sequence[float]:
    return maxima_of_seconds(slab.cells, cell, now_s=now_s, held_until_s=slab.held_until_s(now_s))
