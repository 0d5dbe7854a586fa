from __future__ import annotations

import os
import subprocess
import sys

from simnode.metrics.memory import MemorySampler, read_pss_bytes, read_rss_anon_bytes
from simnode.metrics.model import Role
from simnode.metrics.process import read_process_stat
from tests.support.slabs import Clock

NEVER_A_PID = 2**22 + 1
"""Above the kernel's own limit on pids."""


def sampler(clock: Clock, memory: dict[int, int | None], pids: dict[Role, list[int]]) -> MemorySampler:
    return MemorySampler(memory.__getitem__, processes=lambda: pids, interval_s=0.05, clock=clock, name="test")


def test_own_heap_shows_in_rss_anon() -> None:
    before = read_rss_anon_bytes(os.getpid())
    ballast = bytearray(os.urandom(16) * (4 << 20))
    after = read_rss_anon_bytes(os.getpid())
    assert before is not None
    assert after is not None
    assert len(ballast) * 0.9 < after - before < len(ballast) * 1.5


def test_pss_is_read_in_bytes() -> None:
    pss = read_pss_bytes(os.getpid())
    assert pss is not None
    assert pss > 1 << 20


def test_vanished_process_has_no_memory_and_no_stat() -> None:
    assert read_rss_anon_bytes(NEVER_A_PID) is None
    assert read_pss_bytes(NEVER_A_PID) is None
    assert read_process_stat(NEVER_A_PID) is None


def test_zombie_is_no_process() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert read_rss_anon_bytes(child.pid) is None
        assert read_process_stat(child.pid) is None


def test_role_has_the_sum_of_its_processes(clock: Clock) -> None:
    looks = sampler(clock, {1: 10, 2: 20, 3: 5}, {Role.CONNECTION_HANDLER: [1, 2], Role.CONTRACT_STORE: [3]})
    looks.sample()
    readings = looks.readings(clock.now_s)
    assert readings[Role.CONNECTION_HANDLER].now == 30
    assert readings[Role.CONTRACT_STORE].now == 5


def test_peak_between_two_scrapes_is_kept_for_sixty_seconds_and_for_life(clock: Clock) -> None:
    memory: dict[int, int | None] = {1: 10}
    looks = sampler(clock, memory, {Role.CONTRACT_STORE: [1]})
    for value in (10, 500, 20):
        memory[1] = value
        looks.sample()
        clock.now_s += 0.05
    reading = looks.readings(clock.now_s)[Role.CONTRACT_STORE]
    assert (reading.now, reading.peak_60s, reading.peak_life) == (20, 500, 500)
    reading = looks.readings(clock.now_s + 60)[Role.CONTRACT_STORE]
    assert (reading.now, reading.peak_60s, reading.peak_life) == (20, 20, 500)


def test_process_that_died_since_it_was_listed_counts_no_more(clock: Clock) -> None:
    memory: dict[int, int | None] = {1: 10, 2: 20}
    looks = sampler(clock, memory, {Role.CONTRACT_STORE: [1, 2]})
    looks.sample()
    memory[1] = None
    looks.sample()
    assert looks.readings(clock.now_s)[Role.CONTRACT_STORE].now == 20


def test_pause_fills_the_interval(clock: Clock) -> None:
    assert sampler(clock, {}, {}).sample() == 0.05


def test_look_that_takes_long_is_followed_by_a_pause_four_times_as_long(clock: Clock) -> None:
    def slowly(_pid: int) -> int:
        clock.now_s += 0.25
        return 1

    looks = MemorySampler(
        slowly, processes=lambda: {Role.CONTRACT_STORE: [1]}, interval_s=0.05, clock=clock, name="test"
    )
    assert looks.sample() == 0.25 * 4


def test_thread_looks_until_it_is_closed(clock: Clock) -> None:
    looks = sampler(clock, {}, {})
    looks.start()
    looks.close()
    assert looks.samples >= 1
