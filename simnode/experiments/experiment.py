"""A whole experiment. Enters: a scenario. Leaves: results and the story of the run. Next: `phase.py`.

For each mode a node of its own, so that no mode inherits another's memory. All of them are up at the
same time: what is to be compared is done in turns, an operation or some of each mode after the other.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from simnode.experiments.figures import with_ratios
from simnode.experiments.machine import CpuMeter, ModeRun, Run, this_machine, versions
from simnode.experiments.node_process import NodeAddress, NodePlan, running_node
from simnode.experiments.payloads import Cut, choose_cuts
from simnode.experiments.phase import PhasePlan, begin_phase
from simnode.experiments.results import PayloadFile, Phase, Results
from simnode.experiments.scenario import Mode, Operation, Payload, Scenario
from simnode.experiments.thresholds import judge
from simnode.protocol.codec.base import Encoding


class Observer(Protocol):
    """Is told how an experiment proceeds."""

    def node_starts(self, mode: Mode) -> None:
        """A node is being started."""

    def step_starts(self, plans: Sequence[PhasePlan]) -> None:
        """Clients are being started, for the same phase in every mode."""

    def operation_done(self) -> None:
        """A put or a get of one of the phases."""

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
    modes: list[_RunningMode] = []
    async with AsyncExitStack() as stopped:
        for mode in scenario.modes:
            observer.node_starts(mode)
            modes.append(await _start(experiment, mode, stopped))
        meter = CpuMeter()
        for step in _steps(scenario):
            phases += await _take_step(step, modes, cuts, observer)
        others = meter.share_of_others()
        for running in modes:
            await running.stop()
    phases.sort(key=lambda phase: scenario.modes.index(phase.mode))
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
        cpu_share_of_others=others,
        modes=tuple(running.story() for running in modes),
        machine=this_machine(),
        versions=versions(),
    )
    return results, run


class _RunningMode:
    """A node that is up."""

    def __init__(self, mode: Mode, node: NodeAddress, kept: AsyncExitStack, node_start_s: float) -> None:
        self.mode = mode
        self.node = node
        #: the node and every client that it had
        self.kept = kept
        self.phases_s = 0.0
        self._node_start_s = node_start_s
        self._node_stop_s = 0.0

    async def stop(self) -> None:
        """Ends the clients and the node."""
        began_s = time.monotonic()
        await self.kept.aclose()
        self._node_stop_s = time.monotonic() - began_s

    def story(self) -> ModeRun:
        """How long it took."""
        return ModeRun(
            mode=self.mode,
            node_start_s=self._node_start_s,
            phases_s=self.phases_s,
            node_stop_s=self._node_stop_s,
        )


async def _start(experiment: Experiment, mode: Mode, stopped: AsyncExitStack) -> _RunningMode:
    scenario = experiment.scenario
    plan = NodePlan(
        response_mode=mode,
        handlers=scenario.handlers,
        memory_budget_bytes=scenario.node.memory_budget,
        free_segments_bytes=scenario.node.free_segments,
    )
    began_s = time.monotonic()
    kept = await stopped.enter_async_context(AsyncExitStack())
    node = await kept.enter_async_context(running_node(experiment.node_command, plan))
    return _RunningMode(mode, node, kept, time.monotonic() - began_s)


@dataclass(frozen=True, slots=True)
class _Step:
    """What every mode does, before the next step."""

    encoding: Encoding
    payload: Payload
    operation: Operation
    clients: int
    memory_hz: int

    def plan(self, mode: Mode, cuts: Sequence[Cut]) -> PhasePlan:
        """The phase of one mode."""
        return PhasePlan(
            mode=mode,
            encoding=self.encoding,
            operation=self.operation,
            payload=self.payload,
            cuts=cuts,
            clients=self.clients,
            memory_hz=self.memory_hz,
        )


def _steps(scenario: Scenario) -> Iterator[_Step]:
    for encoding in scenario.encodings:
        for payload in scenario.payloads:
            for operation in scenario.operations:
                yield _Step(encoding, payload, operation, scenario.clients, scenario.sampling.memory_hz)


async def _take_step(
    step: _Step, modes: Sequence[_RunningMode], cuts: Mapping[int, Sequence[Cut]], observer: Observer
) -> list[Phase]:
    """The same phase in every mode, in turns (A B C D A B C D and so on)."""
    plans = [step.plan(running.mode, cuts[step.payload.size]) for running in modes]
    with ExitStack() as opened:
        observer.step_starts(plans)
        phases = []
        for running, plan in zip(modes, plans, strict=True):
            phases.append(await begin_phase(plan, running.node, running.kept, opened))
        for turn in plans[0].turns:
            for running, phase in zip(modes, phases, strict=True):
                began_s = time.monotonic()
                await phase.take_turn(turn, observer.operation_done)
                running.phases_s += time.monotonic() - began_s
        results = [phase.result() for phase in phases]
    for result in results:
        observer.phase_ends(result)
    return results
