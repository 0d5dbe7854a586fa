"""A client process, seen from the experiment. Enters: orders. Leaves: samples as they come. Next: `slab_watch.py`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from simnode.experiments.child_process import ChildProcess, child_process
from simnode.experiments.client_protocol import Done, Failed, Order, Sample, read_report, to_line
from simnode.experiments.errors import ExperimentFailed

COMMAND = (sys.executable, "-m", "simnode.experiments.client_process")
END_TIMEOUT_S = 10.0


class ClientHandle:
    """A client process.

    Args:
        process: running `client_process`.
    """

    def __init__(self, process: ChildProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    async def order(self, order: Order) -> AsyncIterator[Sample]:
        """Has an order carried out; yields each sample as it comes.

        Raises:
            ExperimentFailed: the client could not, or died.
        """
        what = type(order).__name__
        self._process.write(to_line(order))
        while line := await self._process.read():
            match read_report(line):
                case Sample() as sample:
                    yield sample
                case Done():
                    return
                case Failed(reason=reason):
                    raise ExperimentFailed(f"{what} failed in a client: {reason}")
        raise ExperimentFailed(f"a client died of {what}; its standard error may say why")


@asynccontextmanager
async def running_client() -> AsyncIterator[ClientHandle]:
    """A client process for as long as the block lasts, not connected yet."""
    async with child_process(COMMAND, end_timeout_s=END_TIMEOUT_S) as process:
        yield ClientHandle(process)
