"""What a person sees of an experiment. Enters: its progress and results. Leaves: bars and tables. Next: `report.py`.

Bars go to standard error and the tables to standard output, so that either can be sent elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from simnode.experiments.machine import Run
from simnode.experiments.phase import PhasePlan
from simnode.experiments.report import cautions, format_mib, format_number, format_ratio, sections
from simnode.experiments.results import CLIENT, HANDLER, Phase, Results, Verdict
from simnode.experiments.scenario import Figure, Mode, Scenario, format_size

COLUMNS = (
    *("mode", "n", "MB/s", "p50\nms", "p99\nms", "max\nms"),
    *("handler\nMiB", "÷\nsingle", "÷\ncollected", "other roles\nMiB", "client\nMiB", "backlog\nMiB", "in heap\nMiB"),
)


class ProgressBars:
    """Shows how far an experiment is, for as long as the block lasts; an `experiment.Observer`.

    Args:
        scenario: that is run.
        console: to draw on; one that is no terminal gets a line for each phase instead of bars.
    """

    def __init__(self, scenario: Scenario, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._console = console
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._all = self._progress.add_task("all phases", total=len(scenario.modes) * scenario.phases_of_a_mode)
        self._current: TaskID | None = None

    def node_starts(self, mode: Mode) -> None:
        """Says that a node is being started."""
        self._show(f"{mode}: starting a node", None)

    def phase_starts(self, plan: PhasePlan) -> None:
        """Begins the bar of a phase."""
        self._show(f"{plan.mode}: {format_size(plan.payload.size)} {plan.operation}", plan.operations)

    def operation_done(self) -> None:
        """Moves the bar of the phase."""
        assert self._current is not None
        self._progress.advance(self._current)

    def phase_ends(self, phase: Phase) -> None:
        """Moves the bar of all phases."""
        self._progress.advance(self._all)
        if not self._console.is_terminal:
            self._console.print(
                f"{phase.mode}: {format_size(phase.payload_bytes)} {phase.operation}, "
                f"{format_number(phase.speed.megabytes_per_s)} MB/s, "
                f"handler +{format_mib(phase.memory.peak_over_idle_bytes[HANDLER])} MiB",
                soft_wrap=True,
            )

    def _show(self, what: str, total: int | None) -> None:
        if self._current is not None:
            self._progress.remove_task(self._current)
        self._current = self._progress.add_task(what, total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()


def print_results(results: Results, run: Run, console: Console) -> None:
    """The figures of every phase, the thresholds, and what to be careful about."""
    table = _table(results)
    if not console.is_terminal:
        console.width = max(console.width, console.measure(table).maximum)  # piped, nothing is cut off
    console.print(table)
    for caution in cautions(results, run):
        console.print(Text(f"! {caution}", style="yellow"))
    for verdict in results.verdicts:
        console.print(_line_of(verdict))


def _table(results: Results) -> Table:
    shows_p99 = any(phase.speed.latency_p99_ms is not None for phase in results.phases)
    kept = [at for at, name in enumerate(COLUMNS) if shows_p99 or not name.startswith("p99")]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=results.scenario.title, title_justify="left")
    for at in kept:
        table.add_column(COLUMNS[at], justify="left" if at == 0 else "right", no_wrap=True)
    for heading, phases in sections(results):
        table.add_row(Text(heading, style="bold"))
        for at, phase in enumerate(phases):
            cells = _cells(phase)
            table.add_row(*(cells[column] for column in kept), end_section=at == len(phases) - 1)
    return table


def _cells(phase: Phase) -> Sequence[str]:
    peaks, speed = phase.memory.peak_over_idle_bytes, phase.speed
    return (
        f"  {phase.mode}",
        str(speed.samples),
        format_number(speed.megabytes_per_s),
        format_number(speed.latency_p50_ms),
        format_number(speed.latency_p99_ms),
        format_number(speed.latency_max_ms),
        format_mib(peaks[HANDLER]),
        *(format_ratio(ratio) for ratio in _ratios(phase, ("single", "collected"))),
        format_mib(phase.other_roles_peak_bytes),
        format_mib(peaks[CLIENT]),
        format_mib(phase.backlog_peak_bytes),
        format_mib(phase.materialized_peak_bytes),
    )


def _ratios(phase: Phase, modes: Iterable[Mode]) -> list[float | None]:
    return [phase.ratios.get(mode, {}).get(Figure.HANDLER_PEAK_BYTES) for mode in modes]


def _line_of(verdict: Verdict) -> Text:
    bounds = [
        f"{word} {format_number(bound)}"
        for word, bound in (("at least", verdict.at_least), ("at most", verdict.at_most))
        if bound is not None
    ]
    measured = f"{verdict.figure} {format_number(verdict.worst)}, {' and '.join(bounds)} ({verdict.where})"
    if verdict.passed:
        return Text(f"✓ {verdict.name}: {measured}", style="green")
    return Text(f"✗ FAILED: {verdict.name}: {measured}", style="bold red")
