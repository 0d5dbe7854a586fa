from __future__ import annotations

from pathlib import Path

import pytest

from simnode.experiments.scenario_files import ScenarioError, load_scenario, parse_scenario, shipped_names
from simnode.protocol.limits import MIB

TEXT = """\
schema = 1
name = "x"
title = "X"
seed = 1
modes = ["single", "mapped"]

[node]
memory_budget = "1 GiB"

[[payloads]]
size = "1 MiB"
repetitions = 2

[[payloads]]  # the second
size = "2 MiB"
repetitions = 2

[[thresholds]]
name = "t"
kind = "ratio"
figure = "node_peak_bytes"
mode = "mapped"
to = "single"
at_most = 1
"""


def complaint(text: str) -> str:
    with pytest.raises(ScenarioError) as raised:
        parse_scenario(text, "file.toml")
    return str(raised.value)


def test_every_shipped_scenario_is_sound():
    for name in shipped_names():
        assert load_scenario(name).name == name


def test_quickstart_has_the_sizes_and_modes_that_it_is_about():
    scenario = load_scenario("quickstart")

    assert [payload.size for payload in scenario.payloads] == [MIB, 8 * MIB, 40 * MIB]
    assert scenario.modes == ("single", "collected", "lazy", "mapped")
    assert scenario.thresholds


def test_a_path_works_too(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text(TEXT)

    assert load_scenario(str(file)).name == "x"


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ScenarioError, match=r"nix: no such file.* quickstart"):
        load_scenario("nix")


@pytest.mark.parametrize(
    ("old", "new", "complains"),
    [
        ("memory_budget", "memory_budgt", "file.toml:8: node.memory_budgt: Extra inputs are not permitted"),
        ('size = "2 MiB"', "size = 2", "file.toml:15: payloads[1].size: a size is a text with its unit"),
        ('"mapped"]', '"maped"]', "file.toml:5: modes[1]: Input should be 'single'"),
        ("seed = 1", "", "file.toml: seed: Field required"),
        ("repetitions = 2\n\n[[payloads]]", "\n[[payloads]]", "file.toml:10: payloads[0].repetitions: Field required"),
        ('to = "single"', 'to = "lazy"', "file.toml:23: thresholds[0].to: lazy is none of this scenario's modes"),
        ('"node_peak_bytes"', '"peak"', "file.toml:21: thresholds[0].figure: Input should be"),
        ('"ratio"', '"rato"', "thresholds[0]"),
        ("at_most = 1", "", "file.toml:18: thresholds[0]: a threshold has at_most"),
        ("seed = 1", "seed = 1\nseed = 2", "file.toml: Cannot overwrite a value (at line 5"),
    ],
)
def test_an_error_names_the_file_the_line_and_the_key(old: str, new: str, complains: str):
    assert old in TEXT

    assert complains in complaint(TEXT.replace(old, new, 1))


def test_every_error_is_told_at_once():
    lines = complaint(TEXT.replace("seed = 1", "seed = -1").replace('name = "x"', 'name = "X Y"')).splitlines()

    assert [line.split(": ")[:2] for line in lines] == [["file.toml:2", "name"], ["file.toml:4", "seed"]]


def test_what_only_follows_from_another_error_is_not_told():
    """A list whose items are all wrong is empty as well, which nobody wrote."""
    text = TEXT.replace('"1 MiB"', "1").replace('"2 MiB"', "2").partition("[[thresholds]]")[0]

    assert len(complaint(text).splitlines()) == 2


def test_a_byte_order_mark_is_no_part_of_a_scenario_and_another_encoding_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.toml").write_bytes(TEXT.encode("utf-8-sig"))
    (tmp_path / "wide.toml").write_bytes(TEXT.encode("utf-16"))

    assert load_scenario("~/x.toml") == load_scenario(str(tmp_path / "x.toml"))
    with pytest.raises(ScenarioError, match=r"wide.toml: this is UTF-16; save it as UTF-8"):
        load_scenario(str(tmp_path / "wide.toml"))
