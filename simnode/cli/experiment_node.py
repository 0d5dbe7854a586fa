"""An experiment's node, as a process. Enters: a plan on standard input. Leaves: a node. Next: `actors/node.py`.

`python -m simnode.cli.experiment_node`, started by `simnode run` only: a plan can choose response
modes that no user of a node wants.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from typing import TextIO

from actors.node import Node, NodeBroken, NodeStartFailed
from simnode.cli.own_output import own_output
from simnode.experiments.child_process import lines_from_parent
from simnode.experiments.node_process import NodeAddress, NodePlan
from simnode.live.logs import formatter

logger = logging.getLogger(__name__)


async def _main(output: TextIO) -> None:
    lines = lines_from_parent()
    plan = NodePlan.from_line(await anext(lines))
    node = asyncio.create_task(_run_node(plan, output))
    end = asyncio.create_task(anext(lines, None))
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        asyncio.get_running_loop().add_signal_handler(signum, end.cancel)
    # whichever comes first: the node may fail, and the experiment may end while the node still starts
    await asyncio.wait((node, end), return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    node.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await node


async def _run_node(plan: NodePlan, output: TextIO) -> None:
    try:
        async with Node(plan.settings) as node:
            address = NodeAddress(url=f"ws://127.0.0.1:{node.port}", run_dir=node.settings.run_dir)
            output.write(address.to_line().decode())
            output.flush()
            await node.wait_broken()  # until it is cancelled
    except NodeStartFailed as error:
        logger.error("the node did not start: %s", error)
    except NodeBroken as error:
        logger.error("%s; the node was ended", error)


if __name__ == "__main__":
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter("supervisor", as_json=False))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    with own_output() as stream:
        asyncio.run(_main(stream))
