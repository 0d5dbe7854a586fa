"""One phase: clients at work, measured. Enters: a node, a plan. Leaves: a `Phase`. Next: `figures.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass

from simnode.experiments.client_handle import ClientHandle, running_client
from simnode.experiments.client_protocol import Connect, GetState, Order, PutCuts, Sample
from simnode.experiments.errors import ExperimentFailed
from simnode.experiments.figures import memory_of, speed_of, timeline_of
from simnode.experiments.measuring import Recorder
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
    def is_streaming(self) -> bool:
        """Whether clients ask for chunks: not before there was a streaming protocol."""
        return self.mode != "single"

    def order(self, client: int) -> Order:
        """What one of the clients does."""
        params = f"{self.encoding.value}/{self.payload.size}/{client}"
        repetitions = WARM_UP_OPERATIONS + self.payload.repetitions
        if self.operation is Operation.PUT:
            cuts = [(str(cut.path), cut.offset, cut.nbytes) for cut in self.cuts]
            return PutCuts(params=params, cuts=cuts, repetitions=repetitions)
        stored = self.cuts[(repetitions - 1) % len(self.cuts)]  # the last put
        return GetState(
            params=params,
            blake3=stored.blake3,
            piece_by_piece=self.operation is Operation.RECV_STREAM,
            repetitions=repetitions,
        )


async def run_phase(
    plan: PhasePlan, node: NodeAddress, kept: AsyncExitStack, on_operation: Callable[[], None]
) -> Phase:
    """Runs a phase with clients of its own, each on a handler of its own that nobody used before.

    Args:
        plan: of the phase.
        node: in the plan's mode.
        kept: keeps the clients connected, so that the next phase's get other handlers.
        on_operation: called when an operation is done.

    Raises:
        ExperimentFailed: a process failed.
    """
    with ExitStack() as opened:
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
        began_s, cpu_began = recorder.now(), _cpu_seconds(groups)
        samples = await asyncio.gather(
            *(_carry_out(client, plan.order(index), on_operation) for index, client in enumerate(clients))
        )
        duration_s, cpu_ended = recorder.now() - began_s, _cpu_seconds(groups)
        await recorder.looked()
        rows = recorder.since(began_s)
        return Phase(
            mode=plan.mode,
            encoding=plan.encoding,
            operation=plan.operation,
            payload_bytes=plan.payload.size,
            clients=plan.clients,
            duration_s=duration_s,
            speed=speed_of(
                [sample.seconds for of_client in samples for sample in of_client[WARM_UP_OPERATIONS:]],
                plan.payload.size,
            ),
            memory=memory_of(rows, recorder.names, idle),
            backlog_peak_bytes=sum(slab.backlog_peak_bytes for slab in at_work),
            materialized_peak_bytes=sum(slab.materialized_peak_bytes for slab in at_work),
            content_mismatches=sum(not sample.matches for of_client in samples for sample in of_client),
            cpu_seconds={group: cpu_ended[group] - cpu_began[group] for group in cpu_ended},
            ratios={},
            timeline=timeline_of(rows, recorder.names, idle, duration_s),
        )


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
