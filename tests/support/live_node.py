"""A node in processes of its own, set in ways that `simnode serve` has no options for (short times, low caps).

As a module: `live_node(...)` runs a node for the length of a block. As a program: the node itself,
with its settings as JSON in the first argument; it prints one line of JSON when it is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
POLL_S = 0.02


class Timeout(AssertionError):
    """What a test waited for did not come true."""


def wait_until(what: str, is_true: Callable[[], bool], *, timeout_s: float) -> float:
    """Waits for a condition that nothing announces; returns how long it took, in seconds.

    Raises:
        Timeout: it was not true within `timeout_s`; `what` is in the message.
    """
    began = time.monotonic()
    while not is_true():
        if time.monotonic() - began > timeout_s:
            raise Timeout(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)
    return time.monotonic() - began


def stop(pid: int) -> None:
    """SIGSTOP; returns when it works: one thread has to notice first, while others go on serving."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(f"{pid} stands still", lambda: is_stopped(pid), timeout_s=5)


def is_stopped(pid: int) -> bool:
    """Whether every thread of the process is stopped by a signal."""
    try:
        states = {path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")}
    except (FileNotFoundError, ProcessLookupError):  # a thread ended meanwhile, so they are not all stopped
        return False
    return states == {"T"}


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children_of(pid: int) -> set[int]:
    """Every running process below `pid`."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    frontier = {pid}
    while frontier:
        frontier = {child for child, parent in parents.items() if parent in frontier} - found
        found |= frontier
    return {child for child in found if is_running(child)}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveNode:
    """A node that answers."""

    url: str
    port: int
    metrics_url: str
    run_dir: Path
    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """Of the supervisor."""
        return self.process.pid

    def pid_of(self, slot: str) -> int:
        """The process that has a slot (`contract_store-0`) now; 0 while none is up."""
        from simnode.metrics.model import Role
        from simnode.metrics.reader import read_slot
        from simnode.metrics.slab import slab_path

        role, _, number = slot.rpartition("-")
        record = read_slot(slab_path(self.run_dir, Role(role), int(number)))
        if record.process is None or not is_running(record.process.pid):
            return 0
        return record.process.pid

    def kill(self, slot: str, signum: int = signal.SIGKILL) -> int:
        """Sends a signal to the process in a slot; returns its pid. After SIGSTOP none of its threads runs any more."""
        pid = self.pid_of(slot)
        assert pid, f"nobody is in {slot}"
        if signum == signal.SIGSTOP:
            stop(pid)
        else:
            os.kill(pid, signum)
        return pid

    def wait_for_another(self, slot: str, pid: int, *, timeout_s: float = 20.0) -> int:
        """Waits until another process than `pid` has the slot; returns its pid."""
        wait_until(f"a new process in {slot}", lambda: self.pid_of(slot) not in (0, pid), timeout_s=timeout_s)
        return self.pid_of(slot)

    def segments(self) -> dict[str, int]:
        """The segment files and their lengths in bytes."""
        found = {}
        for path in (self.run_dir / "data" / "segments").glob("*.seg"):
            with contextlib.suppress(FileNotFoundError):
                found[path.name] = path.stat().st_size
        return found

    def metric(self, name: str, label: str = "") -> float:
        """The sum over all of a metric's series, or over those with a label (`state="in_use"`)."""
        with urlopen(self.metrics_url, timeout=5) as reply:
            lines = reply.read().decode().splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{")) and label in line]
        values = [float(line.rpartition(" ")[2]) for line in found]
        assert values, f"no such metric: {name}"
        return sum(values)

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)


@contextmanager
def live_node(*, log: Path | None = None, **settings: Any) -> Iterator[LiveNode]:
    """A node for as long as the block lasts.

    Args:
        log: where its standard error goes; None: to ours.
        settings: attributes of `NodeSettings`; `limits`, `caps` and `shares` as mappings, `data_dir` as text.

    Raises:
        RuntimeError: it did not start; its output went to standard error.
    """
    command = [sys.executable, str(Path(__file__)), json.dumps(settings)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with contextlib.ExitStack() as stack:
        stderr = None if log is None else stack.enter_context(log.open("ab"))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT, env=environment, start_new_session=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the node ended with {process.wait(START_TIMEOUT_S)} before it was ready")
            ready = json.loads(line)
            yield LiveNode(
                url=f"ws://127.0.0.1:{ready['port']}/v1/contract/command",
                port=ready["port"],
                metrics_url=f"http://127.0.0.1:{ready['metrics_port']}/metrics",
                run_dir=Path(ready["run_dir"]),
                process=process,
            )
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    raise
            if process.stdout is not None:
                process.stdout.close()


async def _serve(given: dict[str, Any]) -> None:
    from actors.node import Node
    from simnode.live.settings import NodeSettings
    from simnode.node.ledger import Shares
    from simnode.node.subscriptions import SubscriptionCaps
    from simnode.protocol.limits import Limits

    def settings(run_dir: Path) -> NodeSettings:
        own: dict[str, Any] = {"data_dir": run_dir / "data", "port": 0, "metrics_port": 0}
        return NodeSettings(run_dir=run_dir, **own | given)

    for name, kind in (("limits", Limits), ("caps", SubscriptionCaps), ("shares", Shares)):
        if name in given:
            given[name] = kind(**given[name])
    if "data_dir" in given:
        given["data_dir"] = Path(given["data_dir"])
    for name in ("tokens", "allowed_hosts"):
        if name in given:
            given[name] = frozenset(given[name])
    stop = asyncio.Event()
    async with Node(settings) as node:
        for signum in (signal.SIGTERM, signal.SIGINT):  # after Ray has set its own
            asyncio.get_running_loop().add_signal_handler(signum, stop.set)
        ready = {"port": node.port, "metrics_port": node.metrics_port, "run_dir": str(node.settings.run_dir)}
        print(json.dumps(ready), flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.argv[1])))
