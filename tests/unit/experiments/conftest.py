"""Results of a small experiment, made up: two modes that send 1 MiB, as a whole and in pieces."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simnode.experiments.figures import with_ratios
from simnode.experiments.machine import Machine, ModeRun, Run
from simnode.experiments.results import CLIENT, HANDLER, Memory, PayloadFile, Phase, Results, Speed, Timeline
from simnode.experiments.scenario import Mode, Operation, Scenario
from simnode.experiments.thresholds import judge
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import MIB

SCENARIO = {
    "schema": 1,
    "name": "small",
    "title": "Small & <made up>",
    "seed": 7,
    "modes": ["single", "mapped"],
    "payloads": [{"size": "1 MiB", "repetitions": 3}],
    "thresholds": [
        {"name": "content", "kind": "limit", "figure": "content_mismatches", "at_most": 0},
        {
            "name": "mapped is small",
            "kind": "ratio",
            "figure": "handler_peak_bytes",
            "mode": "mapped",
            "to": "single",
            "at_most": 0.5,
        },
    ],
}

PEAKS: dict[Mode, int] = {"single": 4 * MIB, "mapped": MIB}

MakePhase = Callable[..., Phase]


@pytest.fixture
def scenario() -> Scenario:
    return Scenario.model_validate(SCENARIO)


@pytest.fixture
def make_phase() -> MakePhase:
    def make(mode: Mode = "single", operation: Operation = Operation.RECV, **changes: object) -> Phase:
        peaks = {HANDLER: PEAKS.get(mode, 2 * MIB), "contract_store": 4096, CLIENT: 3 * MIB}
        phase = Phase(
            mode=mode,
            encoding=Encoding.NATIVE,
            operation=operation,
            payload_bytes=MIB,
            clients=1,
            duration_s=1.0,
            speed=Speed(
                samples=3, megabytes_per_s=105.0, latency_p50_ms=10.0, latency_max_ms=12.0, latency_p99_ms=None
            ),
            memory=Memory(
                idle_bytes=dict.fromkeys(peaks, 50 * MIB),
                is_steady=True,
                peak_over_idle_bytes=peaks,
                node_peak_over_idle_bytes=peaks[HANDLER] + 4096,
                looks=2,
            ),
            backlog_peak_bytes=MIB,
            materialized_peak_bytes=0 if mode == "mapped" else MIB,
            content_mismatches=0,
            cpu_seconds={CLIENT: 0.2, HANDLER: 0.1},
            ratios={},
            alike={},
            timeline=Timeline(
                step_s=0.5,
                over_idle_bytes={group: [0, peak] for group, peak in peaks.items()},
                backlog_bytes=[MIB, 0],
                materialized_bytes=[0, 0],
            ),
        )
        return phase.model_copy(update=changes)

    return make


@pytest.fixture
def results(scenario: Scenario, make_phase: MakePhase) -> Results:
    phases = with_ratios(make_phase(mode, operation) for mode in scenario.modes for operation in scenario.operations)
    return Results(
        schema_version=1,
        seed=scenario.seed,
        scenario=scenario,
        payload_files=(PayloadFile(name="libbig.so", bytes=64 * MIB),),
        phases=phases,
        verdicts=tuple(judge(threshold, phases) for threshold in scenario.thresholds),
    )


@pytest.fixture
def run() -> Run:
    return Run(
        schema_version=1,
        command=("simnode", "run", "small"),
        started_at="2026-01-01T00:00:00+00:00",
        duration_s=60.0,
        cpu_share_of_others=0.01,
        modes=tuple(ModeRun(mode=mode, node_start_s=5.0, phases_s=9.0, node_stop_s=1.0) for mode in PEAKS),
        machine=Machine(cpu="A processor", cores=2, memory_bytes=8 * 1024 * MIB, kernel="6.1"),
        versions={"python": "3.11", "simnode": "0.1.0"},
    )
