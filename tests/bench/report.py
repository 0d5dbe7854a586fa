"""The results for people and programs. Enters: results. Leaves: a table, JSON. Next: `chart.py`."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from simnode.metrics.cgroups import usable_cpus
from tests.bench.measure import median
from tests.bench.processes import (
    DURABLE,
    OBVIOUS_PYTHON,
    OBVIOUS_RAY,
    ONE_HANDLER,
    REFERENCE,
    WHOLE_NODE,
)
from tests.bench.results import Results, RowResults, Series
from tests.bench.rows import Goal, Row, Verdict

COLUMNS = {
    "simnode,\none handler": (ONE_HANDLER, DURABLE),
    "simnode,\nwhole node": (WHOLE_NODE,),
    "reference style\n(Rust)": (REFERENCE,),
    "obvious\nPython": (OBVIOUS_PYTHON,),
    "obvious\nRay": (OBVIOUS_RAY,),
}
"""The table's columns: whose figures stand in each. No row has two of one column."""

STYLES = {Verdict.MET: "green", Verdict.MISSED: "bold red", Verdict.UNKNOWN: "yellow"}
ABSENT = "–"


def table(rows: Sequence[Row], results: Results) -> Table:
    """One line for each row of the issue, in it one line for each figure."""
    shown = Table(box=box.HEAVY_HEAD, show_lines=True, title="simnode and its peers", title_justify="left")
    shown.add_column("work, and what to reach", min_width=34, max_width=44)
    shown.add_column("figure", no_wrap=True)
    for column in COLUMNS:
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("ratio", justify="right", no_wrap=True)
    shown.add_column("target", no_wrap=True)
    shown.add_column("", no_wrap=True)
    for row in rows:
        shown.add_row(*_cells(row, results.of(row)))
    shown.caption = (
        "Medians; ‹ › the share of the machine that others used meanwhile; † the driver's core was busy: it may be the "
        "limit. Ratio: the judged simnode's figure to the reference style's. Judged: the column marked •; the figures "
        "that no verdict rests on are of one round."
    )
    shown.caption_justify = "left"
    return shown


def _cells(row: Row, results: RowResults) -> list[Text]:
    goals = {goal.figure: goal for goal in row.goals}
    figures = [*goals, *dict.fromkeys(figure for figure, _ in results.series if figure not in goals)]
    medians = results.medians()
    words = Text(row.work)
    words.append(f"\n→ {row.reach}", style="italic")
    columns = {column: Text() for column in COLUMNS}
    names, ratios, targets, verdicts = Text(), Text(), Text(), Text()
    for number, figure in enumerate(figures):
        goal = goals.get(figure)
        end = "\n" if number + 1 < len(figures) else ""
        unit = f", {goal.unit}" if goal and goal.unit not in ("", "×") else ""
        names.append(figure + unit + end, style="" if goal else "dim")
        for column, servers in COLUMNS.items():
            mark = "•" if goal and row.subject in servers else ""
            shown = [series for server in servers if (series := results.series.get((figure, server)))]
            columns[column].append_text(_cell(shown, mark))
            columns[column].append(end)
        simnode, reference = medians.get((figure, row.subject)), medians.get((figure, REFERENCE))
        quotient = None if simnode is None or not reference else simnode / reference
        ratios.append((ABSENT if quotient is None else f"{quotient:.2f} ×") + end)
        targets.append((goal.target if goal else "") + end)
        verdict = goal.verdict(simnode, reference) if goal else None
        verdicts.append((verdict.value if verdict else "") + end, style=STYLES[verdict] if verdict else "")
    return [words, names, *columns.values(), ratios, targets, verdicts]


def _cell(shown: list[Series], mark: str) -> Text:
    if not shown:
        return Text(ABSENT, style="dim")
    (series,) = shown
    cell = Text(mark + number(median(series.values)) + ("†" if series.is_driver_bound else ""))
    cell.append(f" ‹{100 * median(series.others):.0f}%›", style="dim")
    return cell


def number(value: float) -> str:
    """Three digits that mean something."""
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if magnitude >= 10 else f"{value:.2f}"


def remarks(rows: Sequence[Row], results: Results) -> list[str]:
    """How each row was measured, what stood in the way, and why it is missed."""
    said = []
    for row in rows:
        its = results.of(row)
        problems = [f"{server}, {what}: {problem}" for (what, server), problem in its.problems.items()]
        said.append(f"{row.key}: {' '.join([row.how, *its.notes, *problems])}")
        if row.finding and row.verdict(its.medians()) is Verdict.MISSED:
            said.append(f"{row.key}, missed: {row.finding}")
    return said


def as_json(rows: Sequence[Row], results: Results, *, is_quick: bool, seconds: float) -> dict[str, Any]:
    """Everything, samples included."""
    return {
        "machine": {
            "cpus": usable_cpus(),
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
        },
        "quick": is_quick,
        "seconds": round(seconds, 1),
        "rows": [_row_as_json(row, results.of(row)) for row in rows],
    }


def _row_as_json(row: Row, results: RowResults) -> dict[str, Any]:
    medians = results.medians()
    return {
        "key": row.key,
        "work": row.work,
        "reach": row.reach,
        "subject": row.subject,
        "verdict": row.verdict(medians).value,
        "how": row.how,
        "finding": row.finding,
        "notes": results.notes,
        "problems": [
            {"server": server, "measuring": what, "reason": reason}
            for (what, server), reason in results.problems.items()
        ],
        "goals": [_goal_as_json(goal, row, medians) for goal in row.goals],
        "figures": [
            {
                "figure": figure,
                "server": server,
                "median": median(series.values),
                "samples": series.values,
                "others_cpu_share": series.others,
                "driver_cpu_share": series.drivers,
            }
            for (figure, server), series in results.series.items()
        ],
    }


def _goal_as_json(goal: Goal, row: Row, medians: dict[tuple[str, str], float]) -> dict[str, Any]:
    simnode, reference = medians.get((goal.figure, row.subject)), medians.get((goal.figure, REFERENCE))
    return {
        "figure": goal.figure,
        "unit": goal.unit,
        "target": goal.target,
        "simnode": simnode,
        "reference": reference,
        "judged": goal.judged_value(simnode, reference),
        "verdict": goal.verdict(simnode, reference).value,
    }
