"""An experiment's node, as a process. Enters: a plan on standard input. Leaves: a node. Next: `actors/node.py`.

`python -m simnode.cli.experiment_node`, started by `simnode run` only: a plan can choose response
modes that no user of a node wants.
"""

from __future__ import annotations

import asyncio
import logging
import sys

from actors.node import Node
from simnode.experiments.node_process import NodeAddress, NodePlan
from simnode.live.logs import formatter


async def _main() -> None:
    plan = NodePlan.from_line(sys.stdin.buffer.readline())
    async with Node(plan.settings) as node:
        address = NodeAddress(url=f"ws://127.0.0.1:{node.port}", run_dir=node.settings.run_dir)
        sys.stdout.buffer.write(address.to_line())
        sys.stdout.buffer.flush()
        await asyncio.to_thread(sys.stdin.buffer.read)  # until the experiment closes it, or is gone


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter("supervisor", as_json=False))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    asyncio.run(_main())
