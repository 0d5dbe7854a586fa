"""The files that an experiment leaves. Enters: results and the run. Leaves: a directory. Next: `terminal.py`."""

from __future__ import annotations

from pathlib import Path

from simnode.experiments.machine import Run
from simnode.experiments.report import render_report
from simnode.experiments.results import Results
from simnode.storage.output_file import OutputFile

RESULTS_FILE = "results.json"
RUN_FILE = "run.json"
REPORT_FILE = "report.html"


def default_directory(scenario_name: str) -> Path:
    """Where the files of a scenario go unless somebody says otherwise."""
    return Path(f"simnode-run-{scenario_name}")


def check_artefacts(directory: Path) -> None:
    """Makes the directory, and sure that the three files can be written, before there is anything to write.

    Raises:
        OSError: they cannot.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name in (RESULTS_FILE, RUN_FILE, REPORT_FILE):
        OutputFile(directory / name).discard()


def write_artefacts(results: Results, run: Run, directory: Path) -> list[Path]:
    """Writes the three files, each as a whole in place of that of an earlier run, and returns their paths.

    Raises:
        OSError: they cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    texts = {
        RESULTS_FILE: results.to_json() + "\n",
        RUN_FILE: run.to_json() + "\n",
        REPORT_FILE: render_report(results, run),
    }
    for name, text in texts.items():
        with OutputFile(directory / name) as file:
            file.begin().write(text.encode())
            file.commit()
    return [directory / name for name in texts]
