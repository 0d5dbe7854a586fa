"""The benchmark: `python -m tests.bench`. Enters: options. Leaves: a table, JSON, a chart. Next: `rows.py`.

simnode beside a server in the reference's style and two obvious ones, in one run, on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from tests.bench.bench import Bench
from tests.bench.chart import draw
from tests.bench.effort import FULL, QUICK
from tests.bench.processes import Cores, Unavailable
from tests.bench.report import as_json, remarks, table
from tests.bench.rows import ROWS, Row
from tests.bench.works import WORKS

TABLE_WIDTH = 240
EXIT_TERMINATED = 143
OPEN_FILES = 8192
"""Servers inherit it: 2,000 connections, and what a node has open besides."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    keys = [row.key for row in ROWS]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="simnode and its peers, side by side")
    parser.add_argument("--quick", action="store_true", help="one round, and only the peer that sets the targets")
    parser.add_argument("--rounds", type=int, help="measurements of each figure, of which the median is shown")
    parser.add_argument("--rows", nargs="+", choices=keys, default=keys, metavar="ROW", help=f"of {', '.join(keys)}")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="directory for the results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    rows = [row for row in ROWS if row.key in options.rows]
    options.out.mkdir(parents=True, exist_ok=True)
    _raise_file_limit()
    started = time.monotonic()
    try:
        cores = Cores.choose()
    except Unavailable as reason:
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    os.sched_setaffinity(0, {cores.driver})
    progress = Console(stderr=True, log_path=False)
    effort = QUICK if options.quick else FULL
    effort = replace(effort, rounds=options.rounds or effort.rounds)
    bench = Bench(effort, cores, options.out.absolute(), progress.log)
    # so that what was measured is shown, and the servers end, however this ends
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    try:
        for row, work in WORKS:
            if row in rows:
                work(bench)
    finally:
        bench.close()
        _write(rows, bench, options, time.monotonic() - started)
    return 0


def _write(rows: list[Row], bench: Bench, options: argparse.Namespace, seconds: float) -> None:
    console = Console()
    if console.width < TABLE_WIDTH:
        console = Console(width=TABLE_WIDTH)
    console.print(table(rows, bench.results))
    for remark in remarks(rows, bench.results):
        console.print(remark, style="dim", highlight=False, markup=False)
    facts = as_json(rows, bench.results, is_quick=options.quick, seconds=seconds)
    (options.out / "results.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (options.out / "chart.svg").write_text(draw(bench.results), encoding="utf-8")
    console.print(f"{seconds:.0f} s; {options.out / 'results.json'}, {options.out / 'chart.svg'}", highlight=False)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
