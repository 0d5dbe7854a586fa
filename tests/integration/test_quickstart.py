"""`simnode run` for real, small: nodes, clients, payloads; what quickstart claims, on 1 MiB."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simnode.experiments.artefacts import REPORT_FILE, RESULTS_FILE, RUN_FILE
from simnode.experiments.machine import Run
from simnode.experiments.results import CLIENT, HANDLER, Phase, Results
from simnode.experiments.scenario import Mode, Operation
from simnode.protocol.limits import MIB

pytestmark = pytest.mark.timeout(300)  # three nodes start; on a busy machine that takes its time

SCENARIO = """\
schema = 1
name = "tiny"
title = "Tiny"
seed = 1
modes = ["collected", "lazy", "mapped"]

[[payloads]]
size = "1 MiB"
repetitions = 20

[[thresholds]]
name = "what comes back is what was put"
kind = "limit"
figure = "content_mismatches"
at_most = 0

[[thresholds]]
name = "the impossible"
kind = "limit"
figure = "backlog_peak_bytes"
operations = ["recv"]
at_most = 1
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One run for all tests here."""
    directory = tmp_path_factory.mktemp("run")
    (directory / "tiny.toml").write_text(SCENARIO)
    (directory / "payload.bin").write_bytes(os.urandom(3 * MIB))
    finished = subprocess.run(
        (sys.executable, "-m", "simnode", "run", "tiny.toml", "--out", "out", "--payload", "payload.bin"),
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    return finished, directory / "out"


@pytest.fixture(scope="module")
def results(finished: tuple[subprocess.CompletedProcess[str], Path]) -> Results:
    process, out = finished
    assert (out / RESULTS_FILE).exists(), process.stderr
    return Results.model_validate_json((out / RESULTS_FILE).read_text())


def phase(results: Results, mode: Mode, operation: Operation) -> Phase:
    return next(found for found in results.phases if (found.mode, found.operation) == (mode, operation))


def test_everything_that_came_back_was_verified(results: Results):
    assert len(results.phases) == 9
    assert [found.content_mismatches for found in results.phases] == [0] * 9
    assert [found.speed.samples for found in results.phases] == [20] * 9


@pytest.mark.parametrize("operation", [Operation.RECV, Operation.RECV_STREAM])
def test_each_mode_holds_in_the_heap_what_it_says(results: Results, operation: Operation):
    mapped, lazy, collected = (
        phase(results, mode, operation).materialized_peak_bytes for mode in ("mapped", "lazy", "collected")
    )

    assert mapped == 0
    assert MIB <= lazy < 1.01 * MIB
    assert 2 * lazy <= collected < 2.01 * lazy


def test_the_memory_of_the_handlers_is_seen_to_differ(results: Results):
    mapped, collected = (
        phase(results, mode, Operation.RECV).memory.peak_over_idle_bytes[HANDLER] for mode in ("mapped", "collected")
    )

    assert mapped < MIB < collected


def test_every_role_and_the_client_are_measured(results: Results):
    assert set(results.phases[0].memory.peak_over_idle_bytes) == {
        *("front_door", HANDLER, "reassembly_service", "contract_store", "metrics_exporter", "supervisor"),
        CLIENT,
    }


def test_a_threshold_that_fails_decides_over_the_exit_code_and_is_named(
    finished: tuple[subprocess.CompletedProcess[str], Path],
):
    process, _ = finished

    assert process.returncode == 1
    assert "1 of 2 thresholds failed: the impossible" in process.stderr
    assert "FAILED: the impossible" in process.stdout
    assert "✓ what comes back is what was put" in process.stdout


def test_the_artefacts_are_there_and_the_report_needs_nothing_else(
    finished: tuple[subprocess.CompletedProcess[str], Path],
):
    process, out = finished
    run = Run.model_validate_json((out / RUN_FILE).read_text())
    report = (out / REPORT_FILE).read_text()

    assert run.command[:3] == ("simnode", "run", "tiny.toml")
    assert [mode.mode for mode in run.modes] == ["collected", "lazy", "mapped"]
    assert "http" not in report
    assert len(report) < MIB
    assert str(out.name) in process.stdout


def test_no_process_of_the_experiment_is_left(finished: tuple[subprocess.CompletedProcess[str], Path]):
    """Whatever it started works in its directory, or was started by something that does."""
    _, out = finished
    left = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path(f"/proc/{pid}/cwd").resolve() == out.parent:
                left.append(pid)
        except OSError:
            continue  # another user's, or just ended
    assert left == []
