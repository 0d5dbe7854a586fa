"""The benchmark's rows and what becomes of them: `tests/bench/{rows,results,report,chart}.py`."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from rich.console import Console

from tests.bench import rows
from tests.bench.chart import draw
from tests.bench.effort import FULL, QUICK
from tests.bench.processes import OBVIOUS_PYTHON, OBVIOUS_RAY, ONE_HANDLER, REFERENCE, WHOLE_NODE
from tests.bench.report import COLUMNS, as_json, remarks, table
from tests.bench.results import Results
from tests.bench.rows import ROWS, Row, Verdict, at_least, at_least_times, at_most, at_most_times, ratio
from tests.bench.works import WORKS


def results_of(row: Row, simnode: float, reference: float) -> Results:
    """Every goal's figure measured, the same for all."""
    results = Results()
    for goal in row.goals:
        for server, value in ((row.subject, simnode), (REFERENCE, reference)):
            results.of(row).add(server, {goal.figure: value}, others=0.25, driver=None)
    return results


@pytest.mark.parametrize(
    ("goal", "simnode", "reference", "verdict"),
    [
        (at_least_times(4.0, "PUT", "MB/s"), 400.0, 100.0, Verdict.MET),
        (at_least_times(4.0, "PUT", "MB/s"), 399.0, 100.0, Verdict.MISSED),
        (at_most_times(0.25, "CPU", "s/GiB"), 0.5, 2.0, Verdict.MET),
        (at_most_times(0.25, "CPU", "s/GiB"), 0.51, 2.0, Verdict.MISSED),
        (at_most(4.0, "memory", "MiB"), 4.0, 190.0, Verdict.MET),
        (at_most(4.0, "memory", "MiB"), 4.1, 190.0, Verdict.MISSED),
        (at_least(80.0, "speed", "%"), 79.9, None, Verdict.MISSED),
    ],
)
def test_a_bound_is_of_the_figure_or_of_its_ratio_and_reaching_it_is_enough(
    goal: rows.Goal, simnode: float, reference: float | None, verdict: Verdict
) -> None:
    assert goal.verdict(simnode, reference) is verdict


@pytest.mark.parametrize(("simnode", "reference"), [(None, 1.0), (1.0, None), (1.0, 0.0)])
def test_without_both_figures_a_ratio_is_not_measured(simnode: float | None, reference: float | None) -> None:
    assert ratio(simnode, reference) is None
    assert at_least_times(1.0, "PUT", "MB/s").verdict(simnode, reference) is Verdict.UNKNOWN


def test_a_row_is_missed_when_one_goal_is_and_not_met_before_all_are_measured() -> None:
    goals = rows.CPU.goals
    good = {(goal.figure, rows.CPU.subject): 0.1 for goal in goals} | {(goal.figure, REFERENCE): 1.0 for goal in goals}
    assert rows.CPU.verdict(good) is Verdict.MET
    assert rows.CPU.verdict({**good, (goals[0].figure, rows.CPU.subject): 9.0}) is Verdict.MISSED
    assert rows.CPU.verdict({key: value for key, value in good.items() if key[1] != REFERENCE}) is Verdict.UNKNOWN


def test_every_row_has_a_work_and_figures_of_its_own() -> None:
    assert {row.key for row, _ in WORKS} == {row.key for row in ROWS}
    assert len(ROWS) == 11
    for row in ROWS:
        assert len({goal.figure for goal in row.goals}) == len(row.goals)
        assert any(row.subject in servers for servers in COLUMNS.values())


def test_what_no_verdict_rests_on_is_measured_in_the_first_round_only() -> None:
    assert all(FULL.takes_part(server, 0, is_judged=False) for server in (WHOLE_NODE, OBVIOUS_PYTHON, OBVIOUS_RAY))
    assert not FULL.takes_part(OBVIOUS_PYTHON, 1, is_judged=False)
    assert FULL.takes_part(ONE_HANDLER, FULL.rounds - 1, is_judged=True)
    assert not QUICK.takes_part(OBVIOUS_RAY, 0, is_judged=False)


def test_the_table_has_every_row_and_figure_measured_or_not() -> None:
    console = Console(width=240)
    with console.capture() as captured:
        console.print(table(ROWS, Results()))
    shown = captured.get()
    for row in ROWS:
        assert row.work.split()[0] in shown
        for goal in row.goals:
            assert goal.figure in shown
    assert shown.count(Verdict.UNKNOWN.value) == sum(len(row.goals) for row in ROWS)


def test_a_missed_row_shows_its_figure_and_why() -> None:
    row = rows.RATE
    results = results_of(row, simnode=1000.0, reference=100_000.0)
    results.of(row).problems["GET", OBVIOUS_PYTHON] = "it hung up"
    console = Console(width=240)
    with console.capture() as captured:
        console.print(table([row], results))
    shown = captured.get()
    assert "•1,000 ‹25%›" in shown
    assert "0.01 ×" in shown
    assert shown.count("missed") == len(row.goals)
    assert any("obvious Python, GET: it hung up" in remark for remark in remarks([row], results))


def test_the_json_holds_each_sample_and_verdict() -> None:
    row = rows.RATE
    results = results_of(row, simnode=60_000.0, reference=100_000.0)
    facts = json.loads(json.dumps(as_json([row], results, is_quick=True, seconds=1.0)))
    (shown,) = facts["rows"]
    assert (shown["work"], shown["reach"], shown["verdict"]) == (row.work, row.reach, "met")
    assert shown["goals"][0]["judged"] == pytest.approx(0.6)
    assert {figure["server"] for figure in shown["figures"]} == {ONE_HANDLER, REFERENCE}
    assert shown["figures"][0]["samples"] == [60_000.0]


def test_the_chart_is_well_formed_with_a_bar_for_each_figure() -> None:
    drawn = ElementTree.fromstring(draw(results_of(rows.RAW, simnode=4.0, reference=1.0)))
    bars = [element for element in drawn.iter("{http://www.w3.org/2000/svg}rect") if element.get("rx") is not None]
    assert len(bars) == 2 * 2  # PUT and GET of 50 MiB, simnode and the reference style
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths[0] == pytest.approx(4 * widths[1], rel=0.01)


def test_the_chart_has_a_line_where_the_bound_is() -> None:
    """4 times the reference style's figure, and simnode's is 8 times that: the line is half way along its bar."""
    drawn = ElementTree.fromstring(draw(results_of(rows.RAW, simnode=8.0, reference=1.0)))
    bar = next(e for e in drawn.iter("{http://www.w3.org/2000/svg}rect") if e.get("class") == "simnode")
    line = next(drawn.iter("{http://www.w3.org/2000/svg}line"))
    assert float(line.attrib["x1"]) == pytest.approx(float(bar.attrib["x"]) + float(bar.attrib["width"]) / 2, rel=0.01)


def test_a_bar_that_would_dwarf_the_others_is_broken_off_and_keeps_its_figure() -> None:
    results = results_of(rows.CPU, simnode=1.0, reference=2.0)
    results.of(rows.CPU).add(OBVIOUS_RAY, {"PUT 50 MiB": 100.0}, others=0.0, driver=None)
    drawn = ElementTree.fromstring(draw(results))
    bars = [e for e in drawn.iter("{http://www.w3.org/2000/svg}rect") if e.get("rx") is not None]
    simnode, reference, ray = (float(bar.attrib["width"]) for bar in bars[:3])
    assert simnode == pytest.approx(reference / 2, rel=0.01)
    assert ray == reference
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}path"))) == 1
    assert "100" in [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
