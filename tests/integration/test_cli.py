"""The commands as a user types them, against a node of `simnode serve`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from simnode.client import connect
from simnode.protocol.limits import MIB
from simnode.testing import RunningNode
from tests.support.live_node import children_of, is_running, stop, wait_until

SIMNODE = (sys.executable, "-m", "simnode")
UNKNOWN = "1" * 32


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    """3 MiB that compress badly: a dozen chunks, the last one short."""
    path = tmp_path / "payload"
    path.write_bytes(bytes(range(251)) * (3 * MIB // 251))
    return path


def simnode(*arguments: str | Path, node: RunningNode | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({} if node is None else {"SIMNODE_URL": node.url})
    return subprocess.run([*SIMNODE, *arguments], env=environment, capture_output=True, text=True, timeout=60)


def answer(*arguments: str | Path, node: RunningNode) -> Any:
    """What a command says with --json."""
    result = simnode(*arguments, "--json", node=node)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def put(file: Path, node: RunningNode) -> str:
    """Stores a file under parameters made of its name, and returns the key."""
    result = simnode("put", file, "--params", str(file).encode().hex(), node=node)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("options", [(), ("--encoding", "msgpack"), ("--encoding", "flatbuffers", "--no-streaming")])
def test_what_was_put_is_got(simnode_node, payload, tmp_path, options):
    params = ("--params", str(payload).encode().hex())
    key = answer("put", payload, *params, *options, node=simnode_node)["key"]

    got = answer("get", key, "-o", tmp_path / "got", *options, node=simnode_node)

    assert got == {"key": key, "bytes": payload.stat().st_size, "file": str(tmp_path / "got")}
    assert (tmp_path / "got").read_bytes() == payload.read_bytes()


def test_a_node_lists_and_describes_its_contracts(simnode_node, payload):
    key = put(payload, simnode_node)

    listed = {contract["key"]: contract for contract in answer("ls", node=simnode_node)}
    facts = answer("inspect", key, node=simnode_node)

    assert listed[key] == {"key": key, "bytes": payload.stat().st_size, "subscribers": 0}
    assert (facts["key"], facts["state_bytes"], facts["code_bytes"]) == (key, payload.stat().st_size, 8)
    assert bytes.fromhex(facts["params"]) == str(payload).encode()
    assert key in simnode("ls", node=simnode_node).stdout


def test_a_subscriber_hears_of_an_update(simnode_node, payload, tmp_path):
    key = put(payload, simnode_node)
    (tmp_path / "new").write_bytes(b"new")
    command = [*SIMNODE, "subscribe", key, "--count", "1", "--json", "--url", simnode_node.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as subscriber:
        assert subscriber.stdout is not None
        assert json.loads(subscriber.stdout.readline()) == {"subscribed": key}

        summary = answer("update", key, tmp_path / "new", node=simnode_node)["summary"]

        # the summary of the built-in contract is the BLAKE3 of its state
        expected = {"key": key, "kind": "state", "bytes": 3, "blake3": summary}
        assert json.loads(subscriber.stdout.readline()) == expected
        assert subscriber.wait(10) == 0


def test_what_fails_is_said_in_one_line_with_exit_code_1(simnode_node, tmp_path):
    port = urlsplit(simnode_node.url).port
    cases = {
        "not known to the node": simnode("get", UNKNOWN, "-o", tmp_path / "x", node=simnode_node),
        "ws://127.0.0.1:1": simnode("ls", "--url", "ws://127.0.0.1:1"),
        "flatbuffers": simnode("ls", "--encoding", "flatbuffers", node=simnode_node),
        f"port {port} of 127.0.0.1 is in use": simnode("serve", "--port", str(port)),
    }

    for reason, result in cases.items():
        assert (result.returncode, result.stdout) == (1, "")
        assert reason in result.stderr
        assert result.stderr.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_the_doctor_sees_a_port_in_use(simnode_node):
    port = urlsplit(simnode_node.url).port

    result = simnode("doctor", "--port", str(port), "--json")

    report = json.loads(result.stdout)
    statuses = {check["name"]: check["status"] for check in report["checks"]}
    assert statuses[f"port {port}"] == "warn"
    assert report["ok"] is (result.returncode == 0) is ("fail" not in statuses.values())


@contextmanager
def served(*options: str | Path) -> Iterator[tuple[subprocess.Popen[str], RunningNode]]:
    command = [*SIMNODE, "serve", "--port", "0", "--metrics-port", "0", "--json", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, RunningNode(**json.loads(process.stdout.readline())["ready"])
        finally:
            process.kill()


async def test_sigterm_under_load_leaves_nothing_behind(tmp_path):
    with served("--data-dir", tmp_path / "data") as (process, node):
        left = await _stop_under_load(process, node, tmp_path / "data")

    assert left == []
    # contracts stay; what only a running node needs does not
    assert (tmp_path / "data" / "index").is_dir()


async def _stop_under_load(process: subprocess.Popen[str], node: RunningNode, data_dir: Path) -> list[str]:
    """What is left after 10 s."""
    second = await asyncio.to_thread(simnode, "serve", "--port", "0", "--metrics-port", "0", "--data-dir", data_dir)
    assert second.returncode == 1
    assert f"{data_dir} is in use by another node" in second.stderr

    processes = children_of(process.pid)
    directories = [Path(node.run_dir), (Path(node.run_dir) / "ray").readlink()]
    assert set(node.pids.values()) <= processes
    assert all(directory.is_dir() for directory in directories)
    under_way = [asyncio.Event() for _ in range(4)]
    load = [asyncio.create_task(_put_until_the_end(node.url, event)) for event in under_way]
    await asyncio.gather(*(event.wait() for event in under_way))

    process.send_signal(signal.SIGTERM)

    assert await asyncio.to_thread(process.wait, 10) == 0
    await asyncio.gather(*load, return_exceptions=True)  # how they end is other tests' business
    left = [f"process {pid}" for pid in processes if is_running(pid)]
    return left + [f"directory {directory}" for directory in directories if directory.exists()]


async def _put_until_the_end(url: str, under_way: asyncio.Event) -> None:
    async with connect(url) as client:
        while True:
            await client.put(code=b"code", params=str(id(under_way)).encode(), state=bytes(4 * MIB))
            under_way.set()


def test_a_second_signal_ends_a_node_that_cannot_drain_and_the_doctor_sweeps_up():
    with served("--handlers", "1") as (process, node):
        processes = children_of(process.pid)
        stop(node.pids["connection_handler-0"])
        front_door = Path(node.run_dir) / "front_door.sock"
        directories = [Path(node.run_dir), (Path(node.run_dir) / "ray").readlink()]

        process.send_signal(signal.SIGTERM)
        wait_until("the front door to be drained", lambda: not front_door.exists(), timeout_s=5)
        process.send_signal(signal.SIGINT)

        assert process.wait(5) == -signal.SIGINT
        wait_until("every process to end", lambda: not any(map(is_running, processes)), timeout_s=5)

    simnode("doctor", "--sweep")
    assert [directory for directory in directories if directory.exists()] == []
