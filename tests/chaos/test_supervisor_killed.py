"""The end of a node: SIGTERM under load leaves nothing behind, and SIGKILL leaves what the next node sweeps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simnode.protocol.limits import MIB
from simnode.protocol.messages.responses import GetResponse, PutResponse
from tests.chaos.conftest import SLOTS
from tests.support.live_node import LiveNode, children_of, is_running, live_node, wait_until
from tests.support.vectors import counting_bytes
from tests.support.wire import ConnectionEnded, FrameClient, get_of, put_of

STOP_TIMEOUT_S = 10.0
GOING_AWAY = 1001


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    """On disk, for both nodes."""
    return str(tmp_path_factory.mktemp("data"))


STORED = [put_of(counting_bytes(nbytes), params=b"%d" % nbytes) for nbytes in (0, 10, 100_000, 8 * MIB)]


@pytest.fixture(scope="module")
def killed(data_dir: str) -> Iterator[tuple[Path, Path, set[int]]]:
    """The run directory, Ray's directory and our processes of a node whose supervisor got SIGKILL.

    Ray's own agents are left out: they linger for a minute, looking for a control store that is gone.
    """
    with live_node(data_dir=data_dir, durable=True) as doomed:
        with FrameClient(doomed.url) as client:
            for request in STORED:
                assert client.ask(request) == PutResponse(key=request.contract.key)
        processes = set(map(doomed.pid_of, SLOTS))
        ray_dir = (doomed.run_dir / "ray").resolve()
        assert ray_dir.is_dir()
        os.kill(doomed.pid, signal.SIGKILL)
        doomed.process.wait()
        yield doomed.run_dir, ray_dir, processes


@pytest.fixture(scope="module")
def successor(killed: tuple[Path, Path, set[int]], data_dir: str) -> Iterator[LiveNode]:
    wait_until("the processes end", lambda: not any(map(is_running, killed[2])), timeout_s=30)
    with live_node(data_dir=data_dir, durable=True) as running:
        yield running


def test_processes_of_a_killed_supervisor_end_by_themselves(killed: tuple[Path, Path, set[int]]) -> None:
    wait_until("the processes end", lambda: not any(map(is_running, killed[2])), timeout_s=30)


def test_next_node_sweeps_what_a_killed_one_left(killed: tuple[Path, Path, set[int]], successor: LiveNode) -> None:
    run_dir, ray_dir, _ = killed
    assert not run_dir.exists()
    assert not ray_dir.exists()
    assert successor.run_dir.exists()


def test_everything_that_was_answered_is_there_in_the_next_node(successor: LiveNode) -> None:
    with FrameClient(successor.url) as client:
        for request in STORED:
            answer = client.ask(get_of(request.contract.key, code=True))
            assert answer == GetResponse(key=request.contract.key, contract=request.contract, state=request.state)


def test_sigterm_under_load_ends_everything_within_ten_seconds(successor: LiveNode) -> None:
    node = successor
    over = threading.Event()
    busy = threading.Barrier(5)

    def load(number: int, *, reads: bool) -> None:
        request = put_of(counting_bytes(4 * MIB), params=b"load-%d" % number)
        with contextlib.suppress(ConnectionEnded, OSError), FrameClient(f"{node.url}?streaming=true") as client:
            client.ask(request)
            busy.wait()
            while not over.is_set():
                client.send_anyway(get_of(request.contract.key) if reads else request)
                if reads:
                    assert isinstance(client.answer(), GetResponse)
            time.sleep(0)

    threads = [threading.Thread(target=load, args=(number,), kwargs={"reads": number % 2 == 0}) for number in range(4)]
    for thread in threads:
        thread.start()
    busy.wait(30)
    stalled = FrameClient(f"{node.url}?streaming=true", receive_buffer_bytes=4096)
    stalled.send(get_of(put_of(b"", params=b"load-0").contract.key))
    idle = FrameClient(node.url)
    processes = children_of(node.pid)
    ray_dir = (node.run_dir / "ray").resolve()
    began = time.monotonic()
    code = node.terminate()
    took = time.monotonic() - began
    assert idle.closed().code == GOING_AWAY
    over.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    for client in (stalled, idle):
        client.sock.close()
    assert code == 0
    assert took < STOP_TIMEOUT_S
    assert not node.run_dir.exists()
    assert not ray_dir.exists()
    assert not {pid for pid in processes if is_running(pid)}
    with pytest.raises(ConnectionRefusedError):
        FrameClient(node.url)
