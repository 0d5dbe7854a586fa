"""What a person sees of an experiment. Enters: its progress and results. Leaves: bars and tables. Next: `report.py`.

Bars go to standard error and the tables to standard output, so that either can be sent elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from simnode.experiments.machine import Run
from simnode.experiments.phase import PhasePlan
from simnode.experiments.report import cautions
from simnode.experiments.results import HANDLER, Phase, Results, Verdict
from simnode.experiments.scenario import Mode, Scenario, format_size
from simnode.experiments.tables import CONTROL_NOTE, format_mib, format_number, sections

COLUMNS = {
    "mode": "mode",
    "n": "n",
    "speed": "MB/s",
    "p50": "p50\nms",
    "p99": "p99\nms",
    "max": "max\nms",
    "handler": "handler\nMiB",
    "to_single": "÷\nsingle",
    "to_collected": "÷ col-\nlected",
    "others": "other\nroles",
    "client": "client\nMiB",
    "backlog": "backlog\nMiB",
    "heap": "in heap\nMiB",
}

REFRESH_HZ = 4
"""Drawing takes time from what is measured."""

WIDEST = 400
"""Columns of characters that no table needs."""

DISPENSABLE = ("p99", "n", "max", "others", "p50", "to_collected", "backlog")
"""Columns that a narrow terminal goes without, the first first; the report has them all."""


class ProgressBars:
    """Shows how far an experiment is, for as long as the block lasts; an `experiment.Observer`.

    Args:
        scenario: that is run.
        console: to draw on; one that is no terminal gets a line for each phase instead of bars.
    """

    def __init__(self, scenario: Scenario, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._console = console
        self._progress = Progress(
            *columns,
            console=console,
            transient=True,
            disable=not console.is_terminal,
            refresh_per_second=REFRESH_HZ,
        )
        self._all = self._progress.add_task("all phases", total=len(scenario.modes) * scenario.phases_of_a_mode)
        self._current: TaskID | None = None

    def node_starts(self, mode: Mode) -> None:
        """Says that a node is being started."""
        self._show(f"{mode}: starting a node", None)

    def step_starts(self, plans: Sequence[PhasePlan]) -> None:
        """Begins the bar of the same phase in every mode."""
        of_all = sum(plan.operations for plan in plans)
        self._show(f"{format_size(plans[0].payload.size)} {plans[0].operation}, in turns", of_all)

    def operation_done(self) -> None:
        """Moves the bar of the phases that are under way."""
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
    width = console.width
    console.print(_fitting_table(results, console))
    console.width = width
    if len(results.scenario.modes) > 1:
        console.print(Text(CONTROL_NOTE, style="dim"))
    for caution in cautions(results, run):
        console.print(Text(f"! {caution}", style="yellow"))
    for verdict in results.verdicts:
        console.print(_line_of(verdict))


def _fitting_table(results: Results, console: Console) -> Table:
    """The table in the width of the terminal; piped, it is as wide as it needs."""
    columns = dict(COLUMNS)
    if all(phase.speed.latency_p99_ms is None for phase in results.phases):
        del columns["p99"]
    available = console.width
    console.width = WIDEST
    for left_out in (None, *DISPENSABLE):
        columns.pop(left_out or "", None)
        table = _table(results, columns)
        needed = console.measure(table).maximum
        if needed <= available or not console.is_terminal:
            break
    console.width = max(available, needed)
    return table


def _table(results: Results, columns: Mapping[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=results.scenario.title, title_justify="left")
    for name, heading in columns.items():
        table.add_column(heading, justify="left" if name == "mode" else "right", no_wrap=True)
    for section in sections(results):
        table.add_row(Text(section.heading, style="bold"))
        for at, row in enumerate(section.rows):
            cells = row | {"mode": f"  {row['mode']}"}
            table.add_row(*(cells[name] for name in columns), end_section=at == len(section.rows) - 1)
    return table


def _line_of(verdict: Verdict) -> Text:
    bounds = [
        f"{word} {format_number(bound)}"
        for word, bound in (("at least", verdict.at_least), ("at most", verdict.at_most))
        if bound is not None
    ]
    figure = verdict.figure.value if verdict.to is None else f"{verdict.figure} ÷ that of {verdict.to}"
    measured = f"{figure} {format_number(verdict.worst)}, {' and '.join(bounds)} ({verdict.where})"
    if verdict.passed:
        return Text(f"✓ {verdict.name}: {measured}", style="green")
    return Text(f"✗ FAILED: {verdict.name}: {measured}", style="bold red")
