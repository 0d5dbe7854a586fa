"""The figures as rows of text. Enters: results. Leaves: cells, for terminal and report alike. Next: `terminal.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from simnode.experiments.control import Control, control_of
from simnode.experiments.results import CLIENT, HANDLER, Phase, Results
from simnode.experiments.scenario import Figure, Mode, Operation, format_size
from simnode.protocol.limits import MIB

Value = Callable[[Phase], float | None]
Row = dict[str, str]
"""By the name of the column: a key of `VALUES` or `RATIOS`, `mode`, or the name of a role."""

CONTROL_NOTE: Final = (
    "A mode changes nothing about a put: puts are the control, one row with the lowest and the highest of all modes. "
    "≈ marks a ratio whose difference is no larger than that of the puts."
)


def format_mib(nbytes: float) -> str:
    """Two digits behind the point: a page is 0.004 MiB."""
    return f"{nbytes / MIB:.2f}"


def format_ratio(value: float | None) -> str:
    """`0.50`, or a dash for none."""
    return "–" if value is None else f"{value:.2f}"


def format_number(value: float | None) -> str:
    """Three significant digits where there are fewer than three before the point; a dash for none."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


VALUES: Final[dict[str, tuple[Value, Callable[[float], str]]]] = {
    "n": (lambda phase: phase.speed.samples, format_number),
    "speed": (lambda phase: phase.speed.megabytes_per_s, format_number),
    "p50": (lambda phase: phase.speed.latency_p50_ms, format_number),
    "p99": (lambda phase: phase.speed.latency_p99_ms, format_number),
    "max": (lambda phase: phase.speed.latency_max_ms, format_number),
    "handler": (lambda phase: phase.memory.peak_over_idle_bytes[HANDLER], format_mib),
    "client": (lambda phase: phase.memory.peak_over_idle_bytes[CLIENT], format_mib),
    "others": (lambda phase: phase.other_roles_peak_bytes, format_mib),
    "node": (lambda phase: phase.memory.node_peak_over_idle_bytes, format_mib),
    "backlog": (lambda phase: phase.backlog_peak_bytes, format_mib),
    "heap": (lambda phase: phase.materialized_peak_bytes, format_mib),
    "cpu_client": (lambda phase: phase.cpu_seconds[CLIENT], format_number),
    "cpu_handler": (lambda phase: phase.cpu_seconds[HANDLER], format_number),
}
"""Columns of measured values."""

RATIOS: Final[dict[str, tuple[Mode, Figure]]] = {
    "to_single": ("single", Figure.HANDLER_PEAK_BYTES),
    "to_collected": ("collected", Figure.HANDLER_PEAK_BYTES),
    "client_to_single": ("single", Figure.CLIENT_PEAK_BYTES),
    "client_to_collected": ("collected", Figure.CLIENT_PEAK_BYTES),
    "heap_to_single": ("single", Figure.MATERIALIZED_PEAK_BYTES),
    "heap_to_collected": ("collected", Figure.MATERIALIZED_PEAK_BYTES),
    "p50_to_single": ("single", Figure.LATENCY_P50_MS),
    "p50_to_collected": ("collected", Figure.LATENCY_P50_MS),
}
"""Columns of figures divided by those of another mode."""


@dataclass(frozen=True, slots=True)
class Section:
    """What stands together in a table: phases that differ in their mode only; puts are one row."""

    heading: str
    rows: tuple[Row, ...]


def sections(results: Results) -> list[Section]:
    """Every phase, under a heading for those to be compared."""
    many = len(results.scenario.encodings) > 1
    found: dict[str, list[Phase]] = {}
    for phase in sorted(
        results.phases, key=lambda phase: (phase.payload_bytes, list(Operation).index(phase.operation))
    ):
        encoding = f", {phase.encoding.value}" if many else ""
        found.setdefault(f"{format_size(phase.payload_bytes)} {phase.operation}{encoding}", []).append(phase)
    return [Section(heading, tuple(_rows(phases))) for heading, phases in found.items()]


def mark(phase: Phase, mode: Mode, figure: Figure) -> str:
    """`≈` before a ratio that chance explains, else nothing."""
    return "≈" if figure in phase.alike.get(mode, ()) else ""


def _rows(phases: list[Phase]) -> Iterable[Row]:
    control = control_of(phases[0], phases) if phases[0].operation is Operation.PUT else None
    return map(_row, phases) if control is None else [_control_row(control)]


def _row(phase: Phase) -> Row:
    row = {"mode": str(phase.mode)}
    for name, (value, form) in _values_of(phase).items():
        found = value(phase)
        row[name] = "–" if found is None else form(found)
    for name, (mode, figure) in RATIOS.items():
        ratio = format_ratio(phase.ratios.get(mode, {}).get(figure))
        row[name] = mark(phase, mode, figure) + ratio
    return row


def _control_row(control: Control) -> Row:
    row = {"mode": "any mode"}
    for name, (value, form) in _values_of(control.phases[0]).items():
        found = [some for phase in control.phases if (some := value(phase)) is not None]
        low, high = (form(min(found)), form(max(found))) if found else ("–", "–")
        row[name] = low if low == high else f"{low}–{high}"
    return row | dict.fromkeys(RATIOS, "")


def _values_of(phase: Phase) -> dict[str, tuple[Value, Callable[[float], str]]]:
    """`VALUES`, and the peak of each role."""
    roles: dict[str, tuple[Value, Callable[[float], str]]] = {
        role: (partial(_peak_of, role), format_mib) for role in phase.memory.peak_over_idle_bytes if role != CLIENT
    }
    return {**roles, **VALUES}


def _peak_of(role: str, phase: Phase) -> float:
    return phase.memory.peak_over_idle_bytes[role]
