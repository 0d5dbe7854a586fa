"""A whole experiment. Enters: a scenario. Leaves: results and the story of the run. Next: `phase.py`.

For each mode a node of its own, so that no mode inherits another's memory.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from simnode.experiments.figures import with_ratios
from simnode.experiments.machine import CpuMeter, ModeRun, Run, this_machine, versions
from simnode.experiments.node_process import NodePlan, running_node
from simnode.experiments.payloads import Cut, choose_cuts
from simnode.experiments.phase import PhasePlan, run_phase
from simnode.experiments.results import PayloadFile, Phase, Results
from simnode.experiments.scenario import Mode, Scenario
from simnode.experiments.thresholds import judge


class Observer(Protocol):
    """Is told how an experiment proceeds."""

    def node_starts(self, mode: Mode) -> None:
        """A node is being started."""

    def phase_starts(self, plan: PhasePlan) -> None:
        """Clients are being started."""

    def operation_done(self) -> None:
        """A put or a get of the phase."""

    def phase_ends(self, phase: Phase) -> None:
        """It was measured; it has no ratios yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is to be run.

    Attributes:
        scenario: what to do.
        payload_paths: files to cut payloads from.
        node_command: starts a node's process (`node_process.running_node`).
        command: what the user typed, for the record.
    """

    scenario: Scenario
    payload_paths: Sequence[Path]
    node_command: Sequence[str]
    command: Sequence[str]


async def run_experiment(experiment: Experiment, observer: Observer) -> tuple[Results, Run]:
    """Runs every phase of every mode.

    Raises:
        PayloadError: no file is long enough (the user's fault).
        ExperimentFailed: a process failed.
    """
    started_at, began_s = datetime.datetime.now(datetime.UTC), time.monotonic()
    scenario = experiment.scenario
    cuts: dict[int, Sequence[Cut]] = {
        payload.size: await asyncio.to_thread(choose_cuts, payload.size, experiment.payload_paths, scenario.seed)
        for payload in scenario.payloads
    }
    phases: list[Phase] = []
    modes = []
    for mode in scenario.modes:
        found, mode_run = await _run_mode(experiment, mode, cuts, observer)
        phases += found
        modes.append(mode_run)
    compared = with_ratios(phases)
    used = {cut.path for of_size in cuts.values() for cut in of_size}
    results = Results(
        schema_version=1,
        seed=scenario.seed,
        scenario=scenario,
        payload_files=tuple(PayloadFile(name=path.name, bytes=path.stat().st_size) for path in sorted(used)),
        phases=compared,
        verdicts=tuple(judge(threshold, compared) for threshold in scenario.thresholds),
    )
    run = Run(
        schema_version=1,
        command=tuple(experiment.command),
        started_at=started_at.isoformat(timespec="seconds"),
        duration_s=time.monotonic() - began_s,
        modes=tuple(modes),
        machine=this_machine(),
        versions=versions(),
    )
    return results, run


async def _run_mode(
    experiment: Experiment, mode: Mode, cuts: Mapping[int, Sequence[Cut]], observer: Observer
) -> tuple[list[Phase], ModeRun]:
    scenario = experiment.scenario
    plan = NodePlan(
        response_mode=mode,
        handlers=scenario.handlers,
        memory_budget_bytes=scenario.node.memory_budget,
        free_segments_bytes=scenario.node.free_segments,
    )
    observer.node_starts(mode)
    began_s = time.monotonic()
    async with AsyncExitStack() as kept:
        node = await kept.enter_async_context(running_node(experiment.node_command, plan))
        up_s, meter = time.monotonic(), CpuMeter()
        phases = []
        for phase_plan in _plans(scenario, mode, cuts):
            observer.phase_starts(phase_plan)
            phase = await run_phase(phase_plan, node, kept, observer.operation_done)
            observer.phase_ends(phase)
            phases.append(phase)
        others, done_s = meter.share_of_others(), time.monotonic()
    mode_run = ModeRun(
        mode=mode,
        node_start_s=up_s - began_s,
        phases_s=done_s - up_s,
        node_stop_s=time.monotonic() - done_s,
        cpu_share_of_others=others,
    )
    return phases, mode_run


def _plans(scenario: Scenario, mode: Mode, cuts: Mapping[int, Sequence[Cut]]) -> list[PhasePlan]:
    return [
        PhasePlan(
            mode=mode,
            encoding=encoding,
            operation=operation,
            payload=payload,
            cuts=cuts[payload.size],
            clients=scenario.clients,
            memory_hz=scenario.sampling.memory_hz,
        )
        for encoding in scenario.encodings
        for payload in scenario.payloads
        for operation in scenario.operations
    ]
