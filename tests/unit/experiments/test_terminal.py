from __future__ import annotations

import io

import pytest
from rich.console import Console

from simnode.experiments.terminal import COLUMNS, ProgressBars, print_results


def printed(results, run, *, width: int, is_terminal: bool) -> str:
    file = io.StringIO()
    print_results(results, run, Console(file=file, width=width, force_terminal=is_terminal, color_system=None))
    return file.getvalue()


def test_piped_the_table_is_as_wide_as_it_needs(results, run):
    text = printed(results, run, width=40, is_terminal=False)

    for heading in COLUMNS.values():
        assert heading.split("\n")[0] in text or heading == "p99\nms"
    assert "…" not in text


def test_a_narrow_terminal_gets_the_columns_that_matter_uncut(results, run):
    table = printed(results, run, width=80, is_terminal=True).partition("✓")[0]

    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 80
    assert "handler" in table
    assert "client" in table


def test_the_widest_ranges_of_the_puts_fit_a_narrow_terminal(results, run):
    slow, fast = (
        phase.model_copy(update={"speed": phase.speed.model_copy(update={"megabytes_per_s": speed})})
        for phase, speed in zip(results.phases[::3], (987.0, 1654.0), strict=True)
    )
    wide = results.model_copy(update={"phases": (slow, fast, *results.phases)})
    table = printed(wide, run, width=80, is_terminal=True).partition("A mode")[0]

    assert "105–1,654" in table
    assert max(map(len, table.splitlines())) <= 80


def test_there_is_no_p99_column_when_nothing_has_one(results, run):
    assert "p99" not in printed(results, run, width=200, is_terminal=True)


def test_a_failed_threshold_is_named(results, run):
    failed = (results.verdicts[1].model_copy(update={"passed": False}),)

    text = printed(results.model_copy(update={"verdicts": failed}), run, width=200, is_terminal=False)

    assert "FAILED: mapped is small: handler_peak_bytes ÷ that of single 0.25, at most 0.5 (mapped, 1 MiB" in text


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_reaches_its_end(scenario, make_phase, is_terminal: bool):
    file = io.StringIO()
    with ProgressBars(scenario, Console(file=file, width=100, force_terminal=is_terminal)) as bars:
        for mode in scenario.modes:
            bars.node_starts(mode)
        for _ in range(scenario.phases_of_a_mode):
            for mode in scenario.modes:
                bars.phase_ends(make_phase(mode))

    text = file.getvalue()
    assert "6/6" in text if is_terminal else text.count("handler +") == 6


def test_puts_are_one_row_and_a_note_says_why(results, run):
    text = printed(results, run, width=200, is_terminal=True)

    assert text.count("any mode") == 1
    assert "1.00–4.00" in text
    assert "puts are the control" in text
