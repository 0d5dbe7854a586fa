"""A running node for somebody's test suite. Enters: pytest. Leaves: the fixture `simnode_node`. Next: `cli/serve.py`.

In a test::

    async def test_my_client(simnode_node):
        async with simnode.connect(simnode_node.url, encoding="native") as client:
            ...

The fixture is found by itself once simnode is installed (entry point `pytest11`). One node serves
the whole test session; it is real: Ray actors, sockets, shared memory.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

import pytest

from simnode.import_path import environment_for_children

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0

TAIL_CHARACTERS = 4000
"""Of the node's standard error, in the message that it did not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNode:
    """A node that answers.

    Attributes:
        url: of its client API, without parameters.
        metrics_url: of its Prometheus endpoint.
        pid: of its supervisor.
        pids: of each process, by slot (`contract_store-0`), as they were at the start.
        run_dir: where its sockets and slabs are.
    """

    url: str
    metrics_url: str
    pid: int
    pids: dict[str, int]
    run_dir: str


@contextmanager
def running_node(*options: str) -> Iterator[RunningNode]:
    """A node in processes of its own, for as long as the block lasts.

    Args:
        options: of `simnode serve`, beyond the ports, which are any that are free.

    Raises:
        RuntimeError: it did not start in time; its standard error is in the message.
    """
    command: Sequence[str] = (
        # with its standard input: the node ends when this process does, however that happens
        *(sys.executable, "-m", "simnode.cli.tied"),
        *("serve", "--port", "0", "--metrics-port", "0", "--json"),
        *options,
    )
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment_for_children(),
            start_new_session=True,  # a Ctrl-C is for pytest, which then leaves this block
        )
        try:
            yield _read_ready(process, log)
        finally:
            _end(process)
            log.seek(0)
            sys.stderr.write(log.read())


def _read_ready(process: subprocess.Popen[bytes], log: TextIO) -> RunningNode:
    """Reads until the line that says where the node is; lines of others go to standard error.

    Raises:
        RuntimeError: the node ended, or START_TIMEOUT_S went by.
    """
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    deadline = time.monotonic() + START_TIMEOUT_S
    unread = b""
    while (left_s := deadline - time.monotonic()) > 0:
        if not select.select([process.stdout], [], [], left_s)[0]:
            break
        read = os.read(process.stdout.fileno(), 65536)
        if not read:
            raise RuntimeError(f"simnode serve ended with {process.wait()} before it was ready:\n{_tail(log)}")
        *lines, unread = (unread + read).split(b"\n")
        for line in lines:
            if (facts := _facts_in(line)) is not None:
                return RunningNode(**facts)
            sys.stderr.write(line.decode(errors="replace") + "\n")
    raise RuntimeError(f"simnode serve was not ready within {START_TIMEOUT_S:.0f} s:\n{_tail(log)}")


def _facts_in(line: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message.get("ready") if isinstance(message, dict) else None


def _tail(log: TextIO) -> str:
    log.seek(0)
    return log.read()[-TAIL_CHARACTERS:]


def _end(process: subprocess.Popen[bytes]) -> None:
    """One SIGTERM, and time to drain.

    Raises:
        subprocess.TimeoutExpired: the node did not end in time, and was killed.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    finally:
        process.stdin.close()
        process.stdout.close()


@pytest.fixture(scope="session")
def simnode_node() -> Iterator[RunningNode]:
    """A node for the whole session: `.url` for clients, `.metrics_url` for Prometheus."""
    with running_node() as node:
        yield node
