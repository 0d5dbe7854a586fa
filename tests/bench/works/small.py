"""Small operations: rows `latency`, `rate` and `durable`. Next: `fairness.py`."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.bench.bench import Bench, Sample
from tests.bench.driving import rust_driver
from tests.bench.processes import (
    DURABLE,
    OBVIOUS_PYTHON,
    OBVIOUS_RAY,
    ONE_HANDLER,
    REFERENCE,
    WHOLE_NODE,
    Server,
    start_node,
)
from tests.bench.rows import DURABLE_PUT, LATENCY, RATE

OPERATIONS = ("GET", "PUT")
EVERYBODY = (ONE_HANDLER, WHOLE_NODE, REFERENCE, OBVIOUS_PYTHON, OBVIOUS_RAY)
MANY_CONNECTIONS = 64


def latency(bench: Bench) -> None:
    """One connection."""

    def measure(operation: str, server: Server) -> Sample:
        report = _operations(bench, server, operation, connections=1)
        return Sample({f"{operation} p50": report["latency"]["p50_us"]}, driver=_driver_share(report))

    for operation in OPERATIONS:
        bench.alternate(LATENCY, operation, EVERYBODY, partial(measure, operation))


def rate(bench: Bench) -> None:
    """Many connections."""

    def measure(operation: str, server: Server) -> Sample:
        report = _operations(bench, server, operation, connections=MANY_CONNECTIONS)
        return Sample({operation: report["ops_per_s"]}, driver=_driver_share(report))

    for operation in OPERATIONS:
        bench.alternate(RATE, operation, EVERYBODY, partial(measure, operation))


def durable(bench: Bench) -> None:
    """A node that is asked to keep what it is given: one connection against many, in pairs."""
    row = DURABLE_PUT

    def measure(server: Server) -> Sample:
        one, many = (
            _operations(bench, server, "PUT", connections=count)["ops_per_s"] for count in (1, MANY_CONNECTIONS)
        )
        return Sample({"one connection, op/s": one, "64 connections, op/s": many, "64 connections ÷ one": many / one})

    with tempfile.TemporaryDirectory(dir=bench.disk, prefix="durable-") as directory:
        bench.results.of(row).note(f"file system: {filesystem_of(Path(directory))}")
        bench.starters[DURABLE] = partial(
            start_node, "--store", "disk", "--data-dir", str(Path(directory) / "data"), handlers=1
        )
        bench.alternate(row, "PUT", [DURABLE], measure)
        bench.end(DURABLE)


def filesystem_of(path: Path) -> str:
    """The type of the file system that holds `path`."""
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[place] for place in (path, *path.parents) if place in mounts), "unknown")


def _operations(bench: Bench, server: Server, operation: str, *, connections: int) -> dict[str, Any]:
    return rust_driver(
        *("bench-small", "--url", server.url_with(), "--op", operation.lower()),
        *("--connections", connections, "--seconds", bench.effort.seconds),
    )


def _driver_share(report: dict[str, Any]) -> float:
    share: float = report["driver_cpu_s"] / report["seconds"]
    return share
