"""A process that dies by SIGKILL leaves its slab to the exporter and its slot to its successor."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from simnode.metrics.layout import layout_of
from simnode.metrics.model import Kind, Role
from simnode.metrics.reader import SlabSnapshot, read_slab
from simnode.metrics.slab import SlabInUseError, StatsSlab, slab_path

HANDLER = Role.CONNECTION_HANDLER

COUNT_AND_HANG = """
import sys, time
from pathlib import Path
from simnode.metrics.model import Role
from simnode.metrics.slab import StatsSlab

now_s = time.monotonic()
slab = StatsSlab.open(Path(sys.argv[1]), Role.CONNECTION_HANDLER, 0, now_s=now_s)
slab.counter("simnode_connections_opened_total").inc(7)
slab.peak("simnode_backlog_bytes", direction="inbound").set(500, now_s)
print("counted", flush=True)
sys.stdin.read()
"""


def opened(slab: SlabSnapshot) -> float:
    return slab.cells[layout_of(HANDLER).block("simnode_connections_opened_total", Kind.COUNTER).cell({})]


def test_slab_outlives_sigkill_and_the_next_process_counts_on(tmp_path: Path) -> None:
    path = slab_path(tmp_path, HANDLER, 0)
    with subprocess.Popen(
        [sys.executable, "-c", COUNT_AND_HANG, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "counted\n"
        living = read_slab(path)
        assert living.process is not None
        assert living.process.pid == child.pid
        with pytest.raises(SlabInUseError):
            StatsSlab.open(tmp_path, HANDLER, 0, now_s=time.monotonic())
        child.kill()

    dead = read_slab(path)
    assert dead.process is None
    assert opened(dead) == 7
    with StatsSlab.open(tmp_path, HANDLER, 0, now_s=time.monotonic()) as successor:
        successor.counter("simnode_connections_opened_total").inc()
        assert opened(read_slab(path)) == 8
        assert read_slab(path).incarnation == 2
