"""Memory over idle: rows `memory`, `frame` and `idle`. Next: `small.py`.

Idle is a server's anonymous memory before anything was measured in this row, so that what one
round leaves behind counts in the next. Servers that start at once are started anew for each round.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from simnode.protocol.limits import KIB, MIB
from tests.bench.bench import SOON_STARTED, Bench, Sample
from tests.bench.driving import python_dialog, python_driver, rust_driver
from tests.bench.measure import LEAST_SAMPLES_PER_S, AnonymousPeak, anonymous_bytes
from tests.bench.processes import OBVIOUS_PYTHON, OBVIOUS_RAY, ONE_HANDLER, REFERENCE, WHOLE_NODE, Server
from tests.bench.rows import FRAME, IDLE, MEMORY, Row

CONNECTIONS, CONTRACTS_EACH, STATE_BYTES = 4, 2, 50 * MIB
FRAME_BYTES = 100_000_000
IDLE_CONNECTIONS = 2000
WARM_UP_S = 0.2
STAT_BLOCK_BYTES = 512


def frame(bench: Bench) -> None:
    """One large frame: what it takes, and what it does to others."""

    def send(server: Server) -> dict[str, float]:
        rust_driver("raw-frame", "--url", server.url_with(), "--size", FRAME_BYTES)
        return {}

    def stall(server: Server) -> Sample:
        report = python_driver("large_frame", "--url", server.url, "--frame-bytes", FRAME_BYTES)
        return Sample({"longest stall": report["stall_ms"], "usual GET, ms": report["baseline_ms"]})

    names = (ONE_HANDLER, REFERENCE, OBVIOUS_PYTHON, OBVIOUS_RAY)
    _alternate_peaks(bench, FRAME, names, send)
    bench.alternate(FRAME, "longest stall", names, stall)


def memory(bench: Bench) -> None:
    """Several clients with large states at once."""
    stored_bytes = CONNECTIONS * CONTRACTS_EACH * STATE_BYTES
    seeds = itertools.count(1)  # contracts of its own for each round: to put the same again would replace

    def transfer(server: Server) -> dict[str, float]:
        before_bytes = _segment_bytes(server)
        rust_driver(
            *("concurrent-uploads", CONNECTIONS, "--contracts", CONTRACTS_EACH, "--size", STATE_BYTES),
            *("--url", server.url_with(streaming=True), "--seed", next(seeds)),
        )
        if server.run_dir is None:
            return {}
        return {"segments ÷ bytes stored": (_segment_bytes(server) - before_bytes) / stored_bytes}

    _alternate_peaks(bench, MEMORY, (WHOLE_NODE, REFERENCE, OBVIOUS_PYTHON, OBVIOUS_RAY), transfer)


def idle(bench: Bench) -> None:
    """Connections that do nothing."""

    def measure(server: Server) -> Sample:
        with python_dialog("idle", "--url", server.url, "--connections", IDLE_CONNECTIONS) as driver:
            driver.wait_for("ready")
            before_bytes = anonymous_bytes(server.pids())
            driver.go_on()
            driver.wait_for("open")
            grown_bytes = anonymous_bytes(server.pids()) - before_bytes
        return Sample({"anonymous memory each": grown_bytes / IDLE_CONNECTIONS / KIB})

    names = (ONE_HANDLER, REFERENCE, OBVIOUS_PYTHON, OBVIOUS_RAY)
    bench.alternate(IDLE, "connections", names, measure, afresh=True)


def _alternate_peaks(
    bench: Bench, row: Row, names: tuple[str, ...], work: Callable[[Server], dict[str, float]]
) -> None:
    """The peak of anonymous memory during `work`, over idle; further figures are what `work` returns."""
    idle_bytes: dict[str, int] = {}

    def measure(server: Server) -> Sample:
        name = server.name
        if name in SOON_STARTED or name not in idle_bytes:
            _warm_up(server)
            idle_bytes[name] = anonymous_bytes(server.pids())
        with AnonymousPeak(server.pids()) as peak:
            figures = work(server)
        if peak.samples_per_s < LEAST_SAMPLES_PER_S:
            bench.results.of(row).note(f"{name}: memory was sampled only {peak.samples_per_s:.0f} times a second")
        return Sample({"anonymous memory": (peak.peak_bytes - idle_bytes[name]) / MIB, **figures})

    bench.alternate(row, "anonymous memory", names, measure, afresh=True)


def _warm_up(server: Server) -> None:
    """What a server loads when it is first asked for anything is not what its payloads cost."""
    for operation in ("put", "get"):
        rust_driver("bench-small", "--url", server.url_with(), "--op", operation, "--seconds", WARM_UP_S)


def _segment_bytes(server: Server) -> int:
    """What the file system holds for the node's segments; 0 for a server that has none."""
    if server.run_dir is None:
        return 0
    return sum(file.stat().st_blocks * STAT_BLOCK_BYTES for file in (server.run_dir / "data" / "segments").iterdir())
