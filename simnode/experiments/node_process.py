"""A node in a process of its own, for one mode. Enters: a plan. Leaves: where it is. Next: `client_protocol.py`.

The process is started by a command that the composition root hands in, because starting actors is
not for this layer. It gets the plan as a line on its standard input, says where the node is in a
line on its standard output, and ends when its standard input does. (Of its own, because Ray keeps
one access token for the life of a process, and because the experiment's memory is not the node's.)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from simnode.experiments.child_process import child_process
from simnode.experiments.errors import ExperimentFailed
from simnode.live.settings import NodeSettings
from simnode.node.ledger import Shares

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """What an experiment's node is set to. Sizes in bytes."""

    response_mode: str
    handlers: int
    memory_budget_bytes: int
    free_segments_bytes: int

    def settings(self, run_dir: Path) -> NodeSettings:
        """A node in memory, on any ports, with a handler process for each connection."""
        return NodeSettings(
            run_dir=run_dir,
            data_dir=run_dir / "data",
            port=0,
            metrics_port=0,
            handlers=self.handlers,
            connections_per_handler=1,
            memory_budget_bytes=self.memory_budget_bytes,
            free_segments_bytes=self.free_segments_bytes,
            response_mode=self.response_mode,
            # what a way to send costs is to be seen, not limited
            shares=Shares(connection_heap_bytes=self.memory_budget_bytes),
            address_share=1.0,
        )

    def to_line(self) -> bytes:
        """For the node's process."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> NodePlan:
        """What `to_line` wrote."""
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAddress:
    """Where a node is.

    Attributes:
        url: for clients.
        run_dir: where its slabs are.
    """

    url: str
    run_dir: Path

    def to_line(self) -> bytes:
        """For the experiment."""
        return json.dumps({"url": self.url, "run_dir": str(self.run_dir)}).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> NodeAddress:
        """What `to_line` wrote."""
        fields = json.loads(line)
        return cls(url=fields["url"], run_dir=Path(fields["run_dir"]))


@asynccontextmanager
async def running_node(command: Sequence[str], plan: NodePlan) -> AsyncIterator[NodeAddress]:
    """A node for as long as the block lasts.

    Args:
        command: what starts a node's process.
        plan: of the node.

    Raises:
        ExperimentFailed: it did not start.
    """
    async with child_process(command, end_timeout_s=STOP_TIMEOUT_S) as process:
        process.write(plan.to_line())
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await process.read()
        except TimeoutError as error:
            raise ExperimentFailed(f"the node did not start within {START_TIMEOUT_S:.0f} s") from error
        if not line:
            raise ExperimentFailed("the node did not start; its standard error says why")
        yield NodeAddress.from_line(line)
