"""Whether a small request waits for a large answer: row `fairness`. Next: `update.py`."""

from __future__ import annotations

from functools import partial

from simnode.protocol.limits import MIB
from tests.bench.bench import Bench, Sample
from tests.bench.driving import rust_driver
from tests.bench.processes import OBVIOUS_PYTHON, OBVIOUS_RAY, ONE_HANDLER, REFERENCE, Server
from tests.bench.rows import FAIRNESS

STATE_BYTES = 50 * MIB
INTERVAL_MS = 2
LEAST_SECONDS = 0.6
"""Enough for a hundred small GETs, without which there is no 99th percentile."""


def fairness(bench: Bench) -> None:
    """Small GETs beside a stream of large ones."""

    def measure(which: str, server: Server) -> Sample:
        report = rust_driver(
            *("raw-fairness", "--url", server.url_with(), "--size", STATE_BYTES, "--interval-ms", INTERVAL_MS),
            *("--seconds", max(LEAST_SECONDS, bench.effort.seconds)),
            *(["--other-connection"] if which == "other" else []),
        )
        latency = report["small_get_latency"]
        slow_us = latency["p99_us"] if latency["p99_us"] is not None else latency["max_us"]
        figures = {
            f"{which} connection, p99": slow_us / 1e3,
            f"{which} connection, speed": 100 * report["share_of_baseline"],
            f"{which} connection, MB/s alone": report["baseline_mb_per_s"],
        }
        return Sample(figures)

    for which in ("same", "other"):
        names = (ONE_HANDLER, REFERENCE, OBVIOUS_PYTHON, OBVIOUS_RAY)
        bench.alternate(FAIRNESS, f"{which} connection", names, partial(measure, which))
