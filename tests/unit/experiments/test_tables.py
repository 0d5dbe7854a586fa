from __future__ import annotations

from simnode.experiments.figures import with_ratios
from simnode.experiments.results import HANDLER
from simnode.experiments.tables import RATIOS, format_mib, format_number, format_ratio, sections
from simnode.protocol.limits import MIB


def test_what_is_compared_stands_together_and_puts_are_one_row(results):
    assert [(section.heading, [row["mode"] for row in section.rows]) for section in sections(results)] == [
        ("1 MiB put", ["any mode"]),
        ("1 MiB recv", ["single", "mapped"]),
        ("1 MiB recv_stream", ["single", "mapped"]),
    ]


def test_the_row_of_the_puts_has_their_lowest_and_highest_and_no_ratio(results):
    (put,) = sections(results)[0].rows

    assert put["handler"] == "1.00–4.00"
    assert put["p50"] == "10", "all of them alike"
    assert put["p99"] == "–"
    assert {put[name] for name in RATIOS} == {""}


def test_with_one_mode_there_is_no_control_and_the_put_is_a_row_like_others(results):
    alone = results.model_copy(update={"phases": tuple(p for p in results.phases if p.mode == "mapped")})

    assert [row["mode"] for section in sections(alone) for row in section.rows] == ["mapped"] * 3


def test_every_role_and_every_ratio_is_a_cell(results):
    row = sections(results)[1].rows[1]

    assert (row[HANDLER], row["contract_store"], row["client"]) == ("1.00", "0.00", "3.00")
    assert (row["to_collected"], row["p50_to_single"]) == ("–", "≈1.00")


def test_a_ratio_that_chance_explains_is_marked(results, make_phase):
    """The made-up puts differ by 3 MiB, as the gets do."""
    mapped = sections(results)[1].rows[1]
    assert mapped["to_single"] == "≈0.25"

    puts = [make_phase(mode, "put", memory=make_phase().memory) for mode in ("single", "mapped")]
    phases = with_ratios([*puts, *(phase for phase in results.phases if phase.operation != "put")])
    mapped = sections(results.model_copy(update={"phases": phases}))[1].rows[1]
    assert mapped["to_single"] == "0.25", "now the puts are alike"


def test_numbers_have_three_digits_that_count():
    assert [format_number(value) for value in (0.0123, 9.876, 98.76, 123.4, 1_234_567, 0, None)] == [
        *("0.0123", "9.88", "98.8", "123", "1,234,567", "0", "–"),
    ]
    assert (format_mib(MIB * 1.5), format_ratio(0.5), format_ratio(None)) == ("1.50", "0.50", "–")
