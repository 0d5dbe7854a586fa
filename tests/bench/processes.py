"""Servers on one core, drivers on another. Enters: what to run. Leaves: running servers. Next: `driving.py`.

A server that is not measured is stopped (SIGSTOP) meanwhile, all its processes, so that its idle
work costs the measured one nothing: an idle Ray cluster alone is some percent of a core.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from simnode.testing import running_node
from tests.bench.measure import descendants
from tests.tools import tools_dir

ROOT = Path(__file__).resolve().parents[2]
REFERENCE_PEER = ROOT / "tests/bench/reference_peer"
RUST_CLIENT = ROOT / "tests/interop/rust_client"

STOP_TIMEOUT_S = 20.0

LONG_PAUSE_S = 8.0
"""A supervisor that slept for longer may take the others for dead before they have run again."""
HEARTBEAT_S = 1.0
"""They have given a sign of life by then."""
SETTLE_S = 0.1
"""Timers that were all overdue have run by then."""
BUILD_TIMEOUT_S = 900.0


class Unavailable(Exception):
    """A server or driver that cannot be had on this machine; says why."""


# ---- cores -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where."""

    server: int
    driver: int

    @classmethod
    def choose(cls) -> Cores:
        """The first two that this process may use.

        Raises:
            Unavailable: there is one only.
        """
        usable = sorted(os.sched_getaffinity(0))  # noqa: TID251  (which, not how many)
        if len(usable) < 2:
            raise Unavailable("server and driver need a core each, and this process may use one only")
        return cls(usable[0], usable[1])


def pin(pids: list[int], core: int) -> None:
    """Moves every thread of these processes to one core. Threads that they start later inherit it."""
    for pid in pids:
        moved: set[str] = set()
        while threads := set(_threads(pid)) - moved:  # again: a thread not yet moved may have started another
            for thread in threads:
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread), {core})
            moved |= threads


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return []


# ---- servers ---------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Server:
    """A running server.

    Attributes:
        url: of its client API, without parameters.
        root: pid of the process that started all others of it.
        metrics_url: of its Prometheus endpoint; empty: it has none.
        run_dir: of its shared segments; None: it has none.
        handlers: processes that talk to clients.
        name: in the table.
        paused_at_s: on the monotonic clock; None: it runs.
    """

    url: str
    root: int
    metrics_url: str = ""
    run_dir: Path | None = None
    handlers: int = 1
    name: str = ""
    paused_at_s: float | None = None

    def pids(self) -> list[int]:
        """Every process of it, those of Ray included."""
        return descendants(self.root)

    def url_with(self, *, encoding: str = "native", streaming: bool = False) -> str:
        """Its address as clients write it."""
        return f"{self.url}?encodingProtocol={encoding}" + ("&streaming=true" if streaming else "")

    def pause(self) -> None:
        """Stops all its processes where they are."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)
        self.paused_at_s = time.monotonic()

    def resume(self) -> None:
        """Lets them go on; a supervisor last, when the others have given it a sign of life."""
        if self.paused_at_s is None:
            return
        *others, root = reversed(self.pids())
        for pid in others:
            os.kill(pid, signal.SIGCONT)
        if others and time.monotonic() - self.paused_at_s > LONG_PAUSE_S:
            time.sleep(HEARTBEAT_S)
        os.kill(root, signal.SIGCONT)
        time.sleep(SETTLE_S)
        self.paused_at_s = None


ONE_HANDLER: Final = "simnode, one handler"
WHOLE_NODE: Final = "simnode, whole node"
DURABLE: Final = "simnode, on disk"
REFERENCE: Final = "reference style (Rust)"
OBVIOUS_PYTHON: Final = "obvious Python"
OBVIOUS_RAY: Final = "obvious Ray"

MAX_CONNECTIONS = 4000


@contextmanager
def start_node(*options: str, handlers: int) -> Iterator[Server]:
    """`simnode serve` with these options."""
    processes = ("--handlers", str(handlers), "--connections-per-handler", str(MAX_CONNECTIONS))
    with running_node(*processes, *options) as node:
        yield Server(
            url=node.url,
            root=node.pid,
            metrics_url=node.metrics_url,
            run_dir=Path(node.run_dir),
            handlers=handlers,
        )


@contextmanager
def start_command(*command: str | Path) -> Iterator[Server]:
    """A program that prints `ready URL`, and ends on SIGTERM.

    Raises:
        Unavailable: it ended before it was ready.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("ready "):
            raise Unavailable(f"{' '.join(map(str, command))} did not start; its own words are above")
        yield Server(url=line.split()[1], root=process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@cache
def build(project: Path) -> Path:
    """The binary of a Cargo project of this repository, built if need be.

    Raises:
        Unavailable: there is no cargo, or no binary comes of it.
    """
    cargo = shutil.which("cargo")
    if cargo is None:
        raise Unavailable("cargo is not installed")
    target = tools_dir() / "cargo-target"
    command = (cargo, "build", "--quiet", "--release", "--manifest-path", project / "Cargo.toml")
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    built = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
    )
    if built.returncode != 0:
        raise Unavailable(f"{project.name} does not build: {' '.join(built.stderr.split())[-200:]}")
    return target / "release" / project.name


Starter = Callable[[], contextlib.AbstractContextManager[Server]]

STARTERS: Final[dict[str, Starter]] = {
    ONE_HANDLER: lambda: start_node(handlers=1),
    WHOLE_NODE: lambda: start_node(handlers=2),
    REFERENCE: lambda: start_command(build(REFERENCE_PEER)),
    OBVIOUS_PYTHON: lambda: start_command(sys.executable, "-m", "tests.bench.peers.obvious_python"),
    OBVIOUS_RAY: lambda: start_command(sys.executable, "-m", "tests.bench.peers.obvious_ray"),
}
