from __future__ import annotations

import pytest
import typer

from simnode.cli.output import fail, format_size, print_facts, print_table


def test_a_failure_is_one_line_on_standard_error_however_many_the_reason_has(capsys):
    with pytest.raises(typer.Exit) as caught:
        fail("first\n  second")

    assert caught.value.exit_code == 1
    assert capsys.readouterr() == ("", "simnode: first second\n")


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (30_000_000, "28.6 MiB"), (1 << 60, "1048576.0 TiB")],
)
def test_sizes_are_in_binary_units(nbytes, text):
    assert format_size(nbytes) == text


def test_a_piped_table_folds_no_line(capsys):
    print_table(("KEY", "STATE"), [("k" * 300, "1 byte"), ("[red]", "2")])

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["k" * 300, "1", "byte"] in lines
    assert ["[red]", "2"] in lines


def test_a_piped_table_folds_no_line_in_colour_either(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")

    print_table(("KEY", "STATE"), [("k" * 300, "1 byte")])

    assert "k" * 300 in capsys.readouterr().out


def test_an_unknown_fact_is_a_question_mark(capsys):
    print_facts({"code_hash": "ab", "n": None, "empty": ""})

    assert capsys.readouterr().out == "code hash  ab\nn          ?\nempty\n"
