"""One node whose processes are killed, test after test; each test leaves it whole.

`without_supervisor` stops the supervisor, so that what a test kills stays dead until the block ends.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from simnode.protocol.limits import MIB
from simnode.protocol.messages.requests import Put
from simnode.protocol.messages.responses import PutResponse
from tests.support.live_node import LiveNode, live_node, stop, wait_until
from tests.support.wire import FrameClient, put_of

STUCK_AFTER_S = 4.0
SLOTS = (
    "front_door-0",
    "connection_handler-0",
    "connection_handler-1",
    "reassembly_service-0",
    "contract_store-0",
    "metrics_exporter-0",
)
RESTART_TIMEOUT_S = 20.0


@pytest.fixture(scope="session")
def shared_node() -> Iterator[LiveNode]:
    with live_node(handlers=2, stuck_after_s=STUCK_AFTER_S) as running:
        yield running


@pytest.fixture
def node(shared_node: LiveNode) -> Iterator[LiveNode]:
    """The node, whole; and whole again afterwards."""
    wait_whole(shared_node)
    yield shared_node
    wait_whole(shared_node)


def wait_whole(node: LiveNode) -> None:
    """Waits until every slot has a process that does its work."""
    wait_until("every slot has a process", lambda: all(map(node.pid_of, SLOTS)), timeout_s=RESTART_TIMEOUT_S)
    with a_client_on_each_handler(node) as clients:
        for client in clients.values():
            wait_for_writes(client)


def wait_for_writes(client: FrameClient) -> None:
    """Waits until a small and a large PUT work."""
    for state in (b"small", bytes(MIB)):
        request = put_of(state, params=b"whole?")
        wait_until("writes work again", partial(is_stored, client, request), timeout_s=RESTART_TIMEOUT_S)


def is_stored(client: FrameClient, request: Put) -> bool:
    """PUTs; whether that worked."""
    return client.ask(request) == PutResponse(key=request.contract.key)


_numbers = itertools.count()


@pytest.fixture
def unique() -> Callable[[], bytes]:
    """Contract parameters that no other test uses."""
    return lambda: b"chaos-%d" % next(_numbers)


@contextmanager
def without_supervisor(node: LiveNode) -> Iterator[None]:
    """Nothing that dies is started again before the end of the block."""
    stop(node.pid)
    try:
        yield
    finally:
        os.kill(node.pid, signal.SIGCONT)


def kill(node: LiveNode, slot: str) -> int:
    """SIGKILL; returns the pid when the process is gone."""
    pid = node.kill(slot)
    wait_until(f"{slot} is gone", lambda: node.pid_of(slot) != pid, timeout_s=5)
    return pid


def handler_of(node: LiveNode, client: FrameClient) -> str:
    """The slot of the handler that has this client's connection; it must have been served already."""
    ours = client.sock.getsockname()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *_, inode = line.split()[:10]
        if (int(local.split(":")[1], 16), int(remote.split(":")[1], 16)) == (node.port, ours):
            break
    else:
        raise AssertionError("the connection is gone")
    for slot in SLOTS:
        if slot.startswith("connection_handler"):
            for descriptor in Path(f"/proc/{node.pid_of(slot)}/fd").iterdir():
                if descriptor.readlink() == Path(f"socket:[{inode}]"):
                    return slot
    raise AssertionError("no handler has the connection")


@contextmanager
def a_client_on_each_handler(node: LiveNode, query: str = "") -> Iterator[dict[str, FrameClient]]:
    """A connection on every handler, by slot."""
    opened: list[FrameClient] = []
    found: dict[str, FrameClient] = {}
    try:
        while len(found) < 2:
            assert len(opened) < 20, "the front door prefers one handler"
            client = FrameClient(node.url + query)
            opened.append(client)
            found.setdefault(handler_of(node, client), client)
        yield found
    finally:
        for client in opened:
            client.sock.close()
