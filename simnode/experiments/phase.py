"""One phase: clients at work, measured. Enters: a node, a plan. Leaves: a `Phase`. Next: `figures.py`.

The same phase of the other modes is under way at the same time, and they work in turns: whatever
else the machine has to do meanwhile falls upon all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from itertools import pairwise

from simnode.experiments.client_handle import ClientHandle, running_client
from simnode.experiments.client_protocol import Connect, GetState, Order, PutCuts, Sample
from simnode.experiments.errors import ExperimentFailed
from simnode.experiments.figures import memory_of, speed_of, timeline_of
from simnode.experiments.measuring import Idle, Recorder
from simnode.experiments.node_process import NodeAddress
from simnode.experiments.payloads import Cut
from simnode.experiments.results import CLIENT, HANDLER, Phase
from simnode.experiments.scenario import Mode, Operation, Payload
from simnode.experiments.slab_watch import HandlerSlab
from simnode.metrics.model import Role
from simnode.metrics.process import read_process_stat
from simnode.metrics.reader import scan_slots
from simnode.protocol.codec.base import Encoding

WARM_UP_OPERATIONS = 1
"""Before the samples of latency; the memory that they take counts."""

TURNS = 12
"""A phase is carried out in so many parts, if it has as many operations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    """What a phase is about."""

    mode: Mode
    encoding: Encoding
    operation: Operation
    payload: Payload
    cuts: Sequence[Cut]
    clients: int
    memory_hz: int

    @property
    def name(self) -> str:
        """Tells it from the others of its node."""
        return f"{self.encoding.value}/{self.payload.size}/{self.operation}"

    @property
    def operations(self) -> int:
        """How many of them, of all clients."""
        return self.clients * (WARM_UP_OPERATIONS + self.payload.repetitions)

    @property
    def turns(self) -> list[range]:
        """The operations of one client, from 0, as they are carried out: some, then others' turn, and so on."""
        operations = WARM_UP_OPERATIONS + self.payload.repetitions
        turns = min(TURNS, operations)
        starts = [operations * turn // turns for turn in range(turns + 1)]
        return [range(start, stop) for start, stop in pairwise(starts)]

    @property
    def is_streaming(self) -> bool:
        """Whether clients ask for chunks: not before there was a streaming protocol."""
        return self.mode != "single"

    def order(self, client: int, turn: range) -> Order:
        """What one of the clients does in a turn."""
        params = f"{self.encoding.value}/{self.payload.size}/{client}"
        if self.operation is Operation.PUT:
            cuts = [(str(cut.path), cut.offset, cut.nbytes) for cut in self.cuts]
            first = turn.start % len(cuts)
            return PutCuts(params=params, cuts=cuts[first:] + cuts[:first], repetitions=len(turn))
        last = WARM_UP_OPERATIONS + self.payload.repetitions - 1
        return GetState(
            params=params,
            blake3=self.cuts[last % len(self.cuts)].blake3,  # put last
            piece_by_piece=self.operation is Operation.RECV_STREAM,
            repetitions=len(turn),
        )


class RunningPhase:
    """A phase with clients of its own, each on a handler of its own that nobody used before. Made by `begin_phase`.

    Args:
        plan: of the phase.
        clients: connected.
        slabs: of their handlers.
        groups: pids, by what they do.
        recorder: of those; nothing is looked at between turns.
        idle: their memory before the first operation.
    """

    def __init__(
        self,
        plan: PhasePlan,
        *,
        clients: Sequence[ClientHandle],
        slabs: Sequence[HandlerSlab],
        groups: Mapping[str, Sequence[int]],
        recorder: Recorder,
        idle: Idle,
    ) -> None:
        self.plan = plan
        self._clients = clients
        self._slabs = slabs
        self._groups = groups
        self._recorder = recorder
        self._idle = idle
        self._began_s = recorder.now()
        self._cpu_began = _cpu_seconds(groups)
        self._samples: list[list[Sample]] = [[] for _ in clients]
        self._duration_s = 0.0

    async def take_turn(self, turn: range, on_operation: Callable[[], None]) -> None:
        """Carries out some of the operations.

        Args:
            turn: one of the plan's.
            on_operation: called when an operation is done.

        Raises:
            ExperimentFailed: a process failed.
        """
        self._recorder.resume()
        began_s = self._recorder.now()
        found = await asyncio.gather(
            *(_carry_out(client, self.plan.order(at, turn), on_operation) for at, client in enumerate(self._clients))
        )
        self._duration_s += self._recorder.now() - began_s
        await self._recorder.pause()
        for samples, more in zip(self._samples, found, strict=True):
            samples += more

    def result(self) -> Phase:
        """What was measured in all turns."""
        plan, recorder = self.plan, self._recorder
        cpu_ended = _cpu_seconds(self._groups)
        rows = recorder.since(self._began_s)
        return Phase(
            mode=plan.mode,
            encoding=plan.encoding,
            operation=plan.operation,
            payload_bytes=plan.payload.size,
            clients=plan.clients,
            duration_s=self._duration_s,
            speed=speed_of(
                [sample.seconds for of_client in self._samples for sample in of_client[WARM_UP_OPERATIONS:]],
                plan.payload.size,
            ),
            memory=memory_of(rows, recorder.names, self._idle),
            backlog_peak_bytes=sum(slab.backlog_peak_bytes for slab in self._slabs),
            materialized_peak_bytes=sum(slab.materialized_peak_bytes for slab in self._slabs),
            content_mismatches=sum(not sample.matches for of_client in self._samples for sample in of_client),
            cpu_seconds={group: cpu_ended[group] - self._cpu_began[group] for group in cpu_ended},
            ratios={},
            alike={},
            timeline=timeline_of(rows, recorder.names, self._idle, self._duration_s),
        )


async def begin_phase(plan: PhasePlan, node: NodeAddress, kept: AsyncExitStack, opened: ExitStack) -> RunningPhase:
    """Connects the clients of a phase, and waits until they and the node are at rest.

    Args:
        plan: of the phase.
        node: in the plan's mode.
        kept: keeps the clients connected, so that the next phase's get other handlers.
        opened: gets what is open until the phase's end.

    Raises:
        ExperimentFailed: a process failed.
    """
    slabs = [
        opened.enter_context(HandlerSlab(node.run_dir, record.slot))
        for record in scan_slots(node.run_dir).found
        if record.role is Role.CONNECTION_HANDLER
    ]
    unused = [slab for slab in slabs if not slab.connections_opened]
    clients = [await _connected_client(plan, index, node, kept) for index in range(plan.clients)]
    at_work = [slab for slab in unused if slab.connections_opened]
    if len(at_work) != plan.clients:
        raise ExperimentFailed(f"{plan.clients} clients have {len(at_work)} handlers that nobody used before")
    groups = _groups(node, {slab.slot for slab in at_work}, [client.pid for client in clients])
    recorder = opened.enter_context(Recorder(groups, at_work, plan.memory_hz))
    idle = await recorder.idle()
    await recorder.pause()
    return RunningPhase(plan, clients=clients, slabs=at_work, groups=groups, recorder=recorder, idle=idle)


async def _connected_client(plan: PhasePlan, index: int, node: NodeAddress, kept: AsyncExitStack) -> ClientHandle:
    client = await kept.enter_async_context(running_client())
    connect = Connect(
        url=node.url,
        encoding=plan.encoding.value,
        streaming=plan.is_streaming,
        warm_up=f"warm-up/{plan.name}/{index}",
    )
    async for _ in client.order(connect):
        raise AssertionError("connecting has no samples")
    return client


async def _carry_out(client: ClientHandle, order: Order, on_operation: Callable[[], None]) -> list[Sample]:
    samples = []
    async for sample in client.order(order):
        samples.append(sample)
        on_operation()
    return samples


def _groups(node: NodeAddress, slots: set[int], client_pids: list[int]) -> dict[str, list[int]]:
    """The processes to look at: the handlers at work, every other role, the clients."""
    groups: dict[str, list[int]] = {}
    for record in scan_slots(node.run_dir).found:
        if record.process is None:
            raise ExperimentFailed(f"{record.role}-{record.slot} of the node is dead")
        if record.role is not Role.CONNECTION_HANDLER or record.slot in slots:
            groups.setdefault(record.role.value, []).append(record.process.pid)
    return {**groups, CLIENT: client_pids}


def _cpu_seconds(groups: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """CPU time of the clients and the handlers so far; a process that is gone has none, and the recorder tells."""
    stats = {group: [read_process_stat(pid) for pid in groups[group]] for group in (CLIENT, HANDLER)}
    return {group: sum(stat.cpu_seconds for stat in found if stat is not None) for group, found in stats.items()}
