"""A process that has no file descriptor left: clients wait, nobody is lost, and nothing spins."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simnode.protocol.messages.requests import Get
from simnode.protocol.messages.responses import NotFound
from tests.chaos.conftest import a_client_on_each_handler
from tests.support.live_node import LiveNode
from tests.support.wire import FrameClient

NOWHERE = bytes(32)
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def serves(client: FrameClient) -> bool:
    return client.ask(Get(key=NOWHERE)) == NotFound(instance_id=NOWHERE)


@contextmanager
def no_descriptor_left(pid: int) -> Iterator[None]:
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = [int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    first_free = next((number for number in range(soft) if number not in taken), soft)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_free, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@pytest.mark.parametrize("slots", [("front_door-0",), ("connection_handler-0", "connection_handler-1")])
def test_client_waits_until_there_are_descriptors_again(node: LiveNode, slots: tuple[str, ...]) -> None:
    pids = [node.pid_of(slot) for slot in slots]
    served = threading.Event()

    def connect() -> None:
        with FrameClient(node.url) as client:
            assert serves(client)
        served.set()

    with a_client_on_each_handler(node) as clients:
        waiting = threading.Thread(target=connect)
        before = sum(map(cpu_s, pids))
        with no_descriptor_left(pids[0]), no_descriptor_left(pids[-1]):
            waiting.start()
            assert not served.wait(1.5), "what is tested is that nothing happens"
            assert all(serves(client) for client in clients.values())
        assert sum(map(cpu_s, pids)) - before < 0.7
        assert served.wait(10)
        waiting.join()
        assert all(serves(client) for client in clients.values())
    assert [node.pid_of(slot) for slot in slots] == pids
