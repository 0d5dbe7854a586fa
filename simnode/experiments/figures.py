"""Numbers out of samples and looks. Enters: seconds, rows. Leaves: results, ratios. Next: `thresholds.py`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import median

from simnode.experiments.control import control_of
from simnode.experiments.measuring import Idle, Row
from simnode.experiments.results import CLIENT, Memory, Phase, Speed, Timeline
from simnode.experiments.scenario import Figure, Mode, Operation

P99_SAMPLES = 100
"""With fewer samples there is no p99."""

TIMELINE_POINTS = 80

COMPARED_MODES: tuple[Mode, ...] = ("single", "collected")
"""The modes that every figure is divided by."""

COMPARED_FIGURES = tuple(figure for figure in Figure if figure is not Figure.CONTENT_MISMATCHES)


def speed_of(seconds: Sequence[float], payload_bytes: int) -> Speed:
    """The speed of operations on payloads of one size, of which there is one at least."""
    p50_s = median(seconds)
    return Speed(
        samples=len(seconds),
        megabytes_per_s=payload_bytes / p50_s / 1e6,
        latency_p50_ms=p50_s * 1e3,
        latency_max_ms=max(seconds) * 1e3,
        latency_p99_ms=percentile(seconds, 99) * 1e3 if len(seconds) >= P99_SAMPLES else None,
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that `percent` of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def memory_of(rows: Sequence[Row], names: Sequence[str], idle: Idle) -> Memory:
    """The memory of a phase.

    Args:
        rows: of the phase, one at least.
        names: the groups, in the rows' order.
        idle: before the phase.
    """
    is_role = [name != CLIENT for name in names]
    node_idle = sum(nbytes for name, nbytes in idle.rss_anon.items() if name != CLIENT)
    node_peak = max(sum(nbytes for nbytes, counts in zip(row.rss_anon, is_role, strict=True) if counts) for row in rows)
    peaks = (max(column) for column in zip(*(row.rss_anon for row in rows), strict=True))
    return Memory(
        idle_bytes=idle.rss_anon,
        is_steady=idle.is_steady,
        peak_over_idle_bytes={
            name: max(0, peak - idle.rss_anon[name]) for name, peak in zip(names, peaks, strict=True)
        },
        node_peak_over_idle_bytes=max(0, node_peak - node_idle),
        looks=len(rows),
    )


def timeline_of(rows: Sequence[Row], names: Sequence[str], idle: Idle, duration_s: float) -> Timeline:
    """The rows of a phase, few enough to be drawn; no peak is lost."""
    began_s = rows[0].at_s
    points = min(TIMELINE_POINTS, len(rows))
    step_s = max(duration_s, rows[-1].at_s - began_s) / points or 1.0
    spans: list[list[Row]] = [[] for _ in range(points)]
    for row in rows:
        spans[min(points - 1, int((row.at_s - began_s) / step_s))].append(row)
    for at in range(1, points):
        spans[at] = spans[at] or spans[at - 1][-1:]  # nobody looked: as it was
    groups = {
        name: [max(0, max(row.rss_anon[column] for row in span) - idle.rss_anon[name]) for span in spans]
        for column, name in enumerate(names)
    }
    return Timeline(
        step_s=step_s,
        over_idle_bytes=groups,
        backlog_bytes=[max(row.backlog for row in span) for span in spans],
        materialized_bytes=[max(row.materialized for row in span) for span in spans],
    )


def with_ratios(phases: Iterable[Phase]) -> tuple[Phase, ...]:
    """The phases, each but puts with its ratios to the same phase in each of `COMPARED_MODES` that was run."""
    phases = tuple(phases)
    return tuple(phase if phase.operation is Operation.PUT else _compared(phase, phases) for phase in phases)


def _compared(phase: Phase, phases: tuple[Phase, ...]) -> Phase:
    others = {mode: other for mode in COMPARED_MODES if (other := counterpart(phase, mode, phases)) is not None}
    control = control_of(phase, phases)
    alike = {
        mode: tuple(figure for figure in COMPARED_FIGURES if control.explains(figure, phase, other))
        for mode, other in others.items()
        if control is not None and mode != phase.mode
    }
    ratios = {mode: _ratios(phase, other) for mode, other in others.items()}
    return phase.model_copy(update={"ratios": ratios, "alike": alike})


def counterpart(phase: Phase, mode: Mode, phases: Iterable[Phase]) -> Phase | None:
    """The phase that differs from `phase` in its mode only."""
    what = (mode, phase.encoding, phase.operation, phase.payload_bytes)
    return next(
        (other for other in phases if (other.mode, other.encoding, other.operation, other.payload_bytes) == what), None
    )


def ratio(figure: float, other: float) -> float | None:
    """One divided by the other; None where that says nothing."""
    return figure / other if other else None


def _ratios(phase: Phase, other: Phase) -> dict[Figure, float | None]:
    return {figure: ratio(phase.figure(figure), other.figure(figure)) for figure in COMPARED_FIGURES}
