from __future__ import annotations

import json
from pathlib import Path

from simnode.experiments.artefacts import default_directory, write_artefacts
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
