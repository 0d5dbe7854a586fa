"""Processes that live as long as a block. Enters: a command. Leaves: lines in and out. Next: `client_handle.py`.

A child ends by itself when its standard input does, so none outlives the experiment, however that ends.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from simnode.import_path import environment_for_children


class ChildProcess:
    """A process that talks in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def write(self, line: bytes) -> None:
        """Gives it a line."""
        self._stdin.write(line)

    async def read(self) -> bytes:
        """Its next line; empty when there will be none."""
        return await self._stdout.readline()

    async def end(self, timeout_s: float) -> None:
        """Has it end by itself, or kills it after `timeout_s` seconds."""
        self._stdin.close()
        try:
            async with asyncio.timeout(timeout_s):
                await self._stdout.read()  # what it still says: a full pipe would keep it from ending
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def child_process(command: Sequence[str], *, end_timeout_s: float) -> AsyncIterator[ChildProcess]:
    """A process for as long as the block lasts; it then has `end_timeout_s` seconds to end by itself."""
    pipe = asyncio.subprocess.PIPE
    # in a session of its own: a Ctrl-C is for the experiment, which ends the others in order
    child = ChildProcess(
        await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, start_new_session=True, env=environment_for_children()
        )
    )
    try:
        yield child
    finally:
        await child.end(end_timeout_s)


async def lines_from_parent() -> AsyncIterator[bytes]:
    """In a child: what it is told, a line at a time, until the parent closes the pipe or is gone."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        async for line in reader:
            yield line
    finally:
        transport.close()
