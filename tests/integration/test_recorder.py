"""The recorder against real processes: memory that is really taken is seen, and a death is not overlooked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from simnode.experiments.errors import ExperimentFailed
from simnode.experiments.figures import memory_of
from simnode.experiments.measuring import Recorder
from simnode.protocol.limits import MIB

TAKER = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    taken = bytearray(b"x") * int(line)
    print("taken", flush=True)
    sys.stdin.readline()
    del taken
    print("let go", flush=True)
"""


class Taker:
    """A process that takes as much memory as it is told to."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            (sys.executable, "-c", TAKER), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def say(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture
def taker() -> Iterator[Taker]:
    process = Taker()
    yield process
    process.end()


async def test_a_peak_is_what_was_taken_at_most_and_is_over_idle(taker: Taker):
    with Recorder({"taker": [taker.process.pid]}, [], hertz=100) as recorder:
        idle = await recorder.idle()
        began_s = recorder.now()
        taker.say(str(64 * MIB))
        await recorder.looked()
        taker.say("")
        await recorder.looked()

        memory = memory_of(recorder.since(began_s), recorder.names, idle)

    assert idle.is_steady
    assert 63 * MIB < memory.peak_over_idle_bytes["taker"] < 66 * MIB
    assert recorder.rows[-1].rss_anon[0] - idle.rss_anon["taker"] < 2 * MIB, "it was let go"


async def test_a_group_is_the_sum_of_its_processes(taker: Taker):
    with Recorder({"both": [taker.process.pid, os.getpid()], "one": [taker.process.pid]}, [], hertz=100) as recorder:
        await recorder.looked()

    both, one = recorder.rows[-1].rss_anon
    assert both > one > 0


async def test_in_a_pause_nothing_is_looked_at_and_no_time_passes(taker: Taker):
    with Recorder({"taker": [taker.process.pid]}, [], hertz=100) as recorder:
        idle = await recorder.idle()
        await recorder.pause()
        paused_s, looks = recorder.now(), len(recorder.rows)
        taker.say(str(64 * MIB))
        taker.say("")
        assert recorder.now() == paused_s
        recorder.resume()
        await recorder.looked()

    assert len(recorder.rows) > looks
    assert recorder.rows[looks].at_s >= paused_s
    assert memory_of(recorder.rows, recorder.names, idle).peak_over_idle_bytes["taker"] < 8 * MIB, "nobody looked"


async def test_a_process_that_dies_ends_the_experiment(taker: Taker):
    with Recorder({"taker": [taker.process.pid]}, [], hertz=100) as recorder:
        await recorder.looked()
        taker.end()
        with pytest.raises(ExperimentFailed, match="a process of taker ended"):
            await recorder.looked()


def test_a_process_that_is_dead_already_is_named(taker: Taker):
    taker.end()

    with pytest.raises(ExperimentFailed, match="a process of taker ended before"):
        Recorder({"taker": [taker.process.pid]}, [], hertz=100)
