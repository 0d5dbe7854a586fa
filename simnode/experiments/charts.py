"""Where everything in the pictures stands. Enters: results. Leaves: coordinates. Next: `templates/charts.svg.j2`.

A picture is drawn for its viewBox, in units of a pixel; the template turns it into SVG and does no
arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from simnode.experiments.results import CLIENT, HANDLER, Phase, Results, Timeline
from simnode.experiments.scenario import Figure, Mode, Operation, format_size
from simnode.experiments.tables import mark
from simnode.metrics.model import Role
from simnode.protocol.limits import MIB

NAMES = {
    HANDLER: "connection handler",
    Role.REASSEMBLY_SERVICE.value: "reassembly service",
    Role.CONTRACT_STORE.value: "contract store",
    Role.FRONT_DOOR.value: "front door",
    Role.METRICS_EXPORTER.value: "metrics exporter",
    Role.SUPERVISOR.value: "supervisor",
    CLIENT: "client",
}
"""What a group is called, in the order of legends and tables."""

WIDTH = 1080
LINES_HEIGHT = 190
LEFT, RIGHT, TOP, BOTTOM = 56, 8, 24, 26
GAP = 6
"""Between two phases."""

BAR_WIDTH, BAR_HEIGHT = 350, 15
BAR_LEFT, BAR_RIGHT = 68, 130
"""Room for the names of the modes, and for the values behind the bars."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A value on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The part of a picture that one phase has."""

    x: float
    width: float
    title: str
    duration: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A quantity over all phases; `path` is SVG path data, `key` chooses the colour."""

    key: str
    name: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePicture:
    """One mode's phases side by side, each as wide as the others."""

    title: str
    height: float
    baseline: float
    ticks: tuple[Tick, ...]
    bands: tuple[Band, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A value; `label` is behind the bar, `name` before it."""

    key: str
    name: str
    y: float
    width: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BarPicture:
    """One size's values, mode by mode."""

    title: str
    height: float
    bars: tuple[Bar, ...]


def memory_pictures(results: Results) -> list[LinePicture]:
    """RssAnon over idle of every role and of the client, over time; one picture for each mode."""

    def of(timeline: Timeline) -> Mapping[str, Sequence[int]]:
        return {group: timeline.over_idle_bytes[group] for group in NAMES if group in timeline.over_idle_bytes}

    return list(_line_pictures(results, of, NAMES))


def backlog_pictures(results: Results) -> list[LinePicture]:
    """Outbound backlog over time, and what of it is in the heap; one picture for each mode."""
    names = {"backlog": "outbound backlog", "materialized": "of it in the heap"}

    def of(timeline: Timeline) -> Mapping[str, Sequence[int]]:
        return {"backlog": timeline.backlog_bytes, "materialized": timeline.materialized_bytes}

    return list(_line_pictures(results, of, names))


def handler_bars(results: Results) -> list[BarPicture]:
    """The handler's peak in each mode, with its ratio to `single`; a picture for each size."""
    gets = [phase for phase in results.phases if phase.operation is not Operation.PUT]
    return list(_bar_pictures(_highest_of_modes(gets, Figure.HANDLER_PEAK_BYTES), Figure.HANDLER_PEAK_BYTES, False))


def client_bars(results: Results) -> list[BarPicture]:
    """The client's peak in each mode, `recv` and `recv_stream` apart; a picture for each size."""
    gets = [phase for phase in results.phases if phase.operation is not Operation.PUT]
    return list(_bar_pictures(gets, Figure.CLIENT_PEAK_BYTES, True))


def legend(pictures: Sequence[LinePicture]) -> list[Line]:
    """The lines that the pictures have, each once."""
    found = {line.key: line for picture in pictures for line in picture.lines}
    return list(found.values())


def nice_ticks(highest: float, count: int = 4) -> list[float]:
    """Round values from 0 to `highest` or just above it, about `count` steps of 1, 2, 2.5 or 5 times a power of ten."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / count
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    return [round(index * step, 10) for index in range(math.ceil(highest / step - 1e-9) + 1)]


# ---- lines -------------------------------------------------------------------------------------


def _line_pictures(
    results: Results, of: Callable[[Timeline], Mapping[str, Sequence[int]]], names: Mapping[str, str]
) -> Iterator[LinePicture]:
    phases = results.phases
    highest = max((value for phase in phases for series in of(phase.timeline).values() for value in series), default=0)
    ticks = nice_ticks(highest / MIB)
    height = LINES_HEIGHT - TOP - BOTTOM

    def y_of(mib: float) -> float:
        return TOP + height * (1 - mib / ticks[-1])

    for title, own in _by_mode(results):
        width = (WIDTH - LEFT - RIGHT - GAP * (len(own) - 1)) / len(own)
        bands = [
            Band(
                x=LEFT + at * (width + GAP),
                width=width,
                title=f"{format_size(phase.payload_bytes)} {phase.operation}",
                duration=f"{phase.duration_s:.1f} s",
            )
            for at, phase in enumerate(own)
        ]
        groups = list(of(own[0].timeline))
        yield LinePicture(
            title=title,
            height=LINES_HEIGHT,
            baseline=y_of(0),
            ticks=tuple(Tick(at=y_of(tick), label=f"{tick:g}") for tick in ticks),
            bands=tuple(bands),
            lines=tuple(
                Line(
                    key=group,
                    name=names[group],
                    path=" ".join(
                        _path([y_of(value / MIB) for value in of(phase.timeline)[group]], band)
                        for phase, band in zip(own, bands, strict=True)
                    ),
                )
                for group in groups
            ),
        )


def _path(heights: Sequence[float], band: Band) -> str:
    step = band.width / max(1, len(heights) - 1)
    points = [f"{band.x + at * step:.1f},{y:.1f}" for at, y in enumerate(heights)]
    return "M" + "L".join(points)


def _by_mode(results: Results) -> Iterator[tuple[str, list[Phase]]]:
    scenario = results.scenario
    for mode in scenario.modes:
        for encoding in scenario.encodings:
            own = [phase for phase in results.phases if (phase.mode, phase.encoding) == (mode, encoding)]
            yield (f"{mode}, {encoding.value}" if len(scenario.encodings) > 1 else mode), own


# ---- bars --------------------------------------------------------------------------------------


def _highest_of_modes(phases: Sequence[Phase], figure: Figure) -> list[Phase]:
    """Of the phases that differ in their operation only, the one with the highest value."""
    highest: dict[tuple[int, str, Mode], Phase] = {}
    for phase in phases:
        key = (phase.payload_bytes, phase.encoding.value, phase.mode)
        if key not in highest or phase.figure(figure) > highest[key].figure(figure):
            highest[key] = phase
    return list(highest.values())


def _bar_pictures(phases: Sequence[Phase], figure: Figure, names_operation: bool) -> Iterator[BarPicture]:
    encodings = {phase.encoding for phase in phases}
    for size, encoding in dict.fromkeys((phase.payload_bytes, phase.encoding) for phase in phases):
        own = [phase for phase in phases if (phase.payload_bytes, phase.encoding) == (size, encoding)]
        highest = max(phase.figure(figure) for phase in own) or 1
        bars: list[Bar] = []
        y = 4.0
        for before, phase in zip([None, *own], own, strict=False):
            is_same_mode = before is not None and before.mode == phase.mode
            y += 0 if before is None else BAR_HEIGHT + (1 if is_same_mode else 8)
            bars.append(
                Bar(
                    key=phase.operation.value if names_operation else phase.mode,
                    name="" if is_same_mode else phase.mode,
                    y=y,
                    width=max(1.0, (BAR_WIDTH - BAR_LEFT - BAR_RIGHT) * phase.figure(figure) / highest),
                    label=_bar_label(phase, figure, names_operation),
                )
            )
        title = format_size(size) + (f", {encoding.value}" if len(encodings) > 1 else "")
        yield BarPicture(title=title, height=y + BAR_HEIGHT + 4, bars=tuple(bars))


def _bar_label(phase: Phase, figure: Figure, names_operation: bool) -> str:
    value = f"{phase.figure(figure) / MIB:.1f} MiB"
    if names_operation:
        return value
    ratio = phase.ratios.get("single", {}).get(figure)
    return value if ratio is None else f"{value} ({mark(phase, 'single', figure)}{ratio:.2f} ×)"
