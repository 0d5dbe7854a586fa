"""Large states, one after the other: rows `client`, `raw` and `cpu`. Next: `memory.py`."""

from __future__ import annotations

from functools import partial
from typing import Any

from simnode.protocol.limits import MIB
from tests.bench.bench import Bench, Sample
from tests.bench.driving import rust_driver
from tests.bench.measure import cpu_seconds
from tests.bench.processes import OBVIOUS_PYTHON, OBVIOUS_RAY, ONE_HANDLER, REFERENCE, WHOLE_NODE, Server
from tests.bench.rows import CLIENT, CPU, RAW

GIB = 1024 * MIB
SIZES_MIB = (1, 8, 50)
OPERATIONS = ("PUT", "GET")


def client(bench: Bench) -> None:
    """The reference's own client."""

    def measure(operation: str, mib: int, server: Server) -> Sample:
        report = rust_driver(
            *("bench", "--url", server.url_with(), "--streaming", "--op", operation.lower()),
            *("--size", mib * MIB, "--count", bench.effort.scaled(bench.effort.transfers[mib], server.name)),
        )
        return _speed(f"{operation} {mib} MiB", report)

    for mib in SIZES_MIB:
        for operation in OPERATIONS:
            names = (WHOLE_NODE, REFERENCE, OBVIOUS_PYTHON, OBVIOUS_RAY)
            bench.alternate(CLIENT, f"{operation} {mib} MiB", names, partial(measure, operation, mib))


def raw(bench: Bench) -> None:
    """A driver that is not the limit."""

    def measure(operation: str, mib: int, server: Server) -> Sample:
        count = bench.effort.scaled(bench.effort.transfers[mib], server.name)
        return _speed(f"{operation} {mib} MiB", _raw_transfers(server, operation, mib, count))

    for mib in SIZES_MIB:
        for operation in OPERATIONS:
            names = (ONE_HANDLER, WHOLE_NODE, REFERENCE, OBVIOUS_PYTHON, OBVIOUS_RAY)
            bench.alternate(RAW, f"{operation} {mib} MiB", names, partial(measure, operation, mib))


def cpu(bench: Bench) -> None:
    """What the server pays: a long run less a short one is the transfers alone."""
    mib = 50

    def measure(operation: str, server: Server) -> Sample:
        count = bench.effort.scaled(bench.effort.counted_transfers, server.name)
        # the first is thrown away: it pays for the pages that the heap did not have yet
        _, short_s, long_s = (_cpu_of(server, operation, mib, many) for many in (1, 1, 1 + count))
        return Sample({f"{operation} {mib} MiB": (long_s - short_s) / (count * mib * MIB / GIB)})

    for operation in OPERATIONS:
        names = (WHOLE_NODE, REFERENCE, OBVIOUS_PYTHON, OBVIOUS_RAY)
        bench.alternate(CPU, f"{operation} {mib} MiB", names, partial(measure, operation))


def _cpu_of(server: Server, operation: str, mib: int, count: int) -> float:
    pids = server.pids()
    before_s = cpu_seconds(pids)
    _raw_transfers(server, operation, mib, count)
    return cpu_seconds(pids) - before_s


def _raw_transfers(server: Server, operation: str, mib: int, count: int) -> dict[str, Any]:
    return rust_driver(
        *(f"raw-{operation.lower()}", "--url", server.url_with(streaming=True)),
        *("--size", mib * MIB, "--count", count),
    )


def _speed(figure: str, report: dict[str, Any]) -> Sample:
    return Sample({figure: report["median_mb_per_s"]}, driver=report["driver_cpu_s"] / sum(report["seconds"]))
