from __future__ import annotations

import json
from pathlib import Path

import pytest

from simnode.experiments.artefacts import check_artefacts, default_directory, write_artefacts
from simnode.experiments.machine import Run
from simnode.experiments.results import Results


def test_a_run_leaves_results_story_and_report(results, run, tmp_path: Path):
    paths = write_artefacts(results, run, tmp_path / "out")

    assert [path.name for path in paths] == ["results.json", "run.json", "report.html"]
    assert Results.model_validate_json(paths[0].read_text()) == results
    assert Run.model_validate_json(paths[1].read_text()) == run
    assert json.loads(paths[1].read_text())["machine"]["cores"] == 2
    assert paths[2].read_text().startswith("<!doctype html>")


def test_a_scenario_has_a_directory_of_its_own():
    assert default_directory("quickstart") == Path("simnode-run-quickstart")


def test_files_of_an_earlier_run_keep_their_mode_and_their_links(results, run, tmp_path: Path):
    (tmp_path / "kept.json").write_text("old")
    (tmp_path / "results.json").symlink_to("kept.json")
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "report.html").chmod(0o600)

    write_artefacts(results, run, tmp_path)

    assert (tmp_path / "results.json").is_symlink()
    assert Results.model_validate_json((tmp_path / "kept.json").read_text()) == results
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_written_is_found_before_the_run(tmp_path: Path):
    """The experiment takes minutes; it should not end with 'Is a directory'."""
    (tmp_path / "out" / "report.html").mkdir(parents=True)

    with pytest.raises(IsADirectoryError, match=r"report\.html"):
        check_artefacts(tmp_path / "out")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]
