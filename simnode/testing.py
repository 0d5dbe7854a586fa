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
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


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
        RuntimeError: it did not start; its output is in the message.
    """
    command: Sequence[str] = (
        *(sys.executable, "-m", "simnode", "serve", "--port", "0", "--metrics-port", "0", "--json"),
        *options,
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"simnode serve ended with {process.wait(START_TIMEOUT_S)} before it was ready")
        yield RunningNode(**json.loads(line)["ready"])
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()


@pytest.fixture(scope="session")
def simnode_node() -> Iterator[RunningNode]:
    """A node for the whole session: `.url` for clients, `.metrics_url` for Prometheus."""
    with running_node() as node:
        yield node
