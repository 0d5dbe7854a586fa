"""Scripts: what the exporter finds out about processes, against what the test finds out by itself."""

from __future__ import annotations

import os
import platform
import signal
import time
from collections.abc import Callable
from importlib.metadata import version

import simnode
from simnode.metrics.memory import read_pss_bytes, read_rss_anon_bytes
from simnode.metrics.model import Role
from simnode.metrics.process import read_process_stat
from simnode.metrics.reader import read_slot
from simnode.metrics.slab import slab_path
from tests.support.live_node import stop, wait_until
from tests.support.metric_session import MetricSession, scrape, series

LOOKED_FOR_S = 1.0
STOPPED_S = 1.5
TICK_S = 0.5
RESTARTABLE = ("front_door", "connection_handler", "reassembly_service", "contract_store", "metrics_exporter")


def pids(session: MetricSession) -> dict[str, int]:
    """By role."""
    return {role.value: session.node.pid_of(f"{role.value}-0") for role in Role}


def versions_are_those_that_run(session: MetricSession) -> None:
    labels = {"version": simnode.__version__, "python": platform.python_version(), "ray": version("ray")}
    session.check("simnode_build_info", 1, **labels)
    session.check("simnode_memory_budget_bytes", session.value("simnode_memory_budget_bytes"))


def cpu_and_memory_are_those_of_the_processes(session: MetricSession) -> None:
    for role, pid in pids(session).items():
        before = read_process_stat(pid)
        of_process = {"role": role, "slot": "0"}
        session.check("simnode_process_up", 1, **of_process)
        session.check("simnode_process_heartbeat_age_seconds", 0, 5, **of_process)
        cpu_seconds = session.value("simnode_process_cpu_seconds_total", **of_process)
        after = read_process_stat(pid)
        assert before is not None
        assert after is not None
        assert 0 < before.cpu_seconds <= cpu_seconds <= after.cpu_seconds
        session.check("simnode_process_cpu_seconds_total", cpu_seconds, cpu_seconds + 60, **of_process)
        for name, read in (("rss_anon", read_rss_anon_bytes), ("pss", read_pss_bytes)):
            nbytes = read(pid)
            assert nbytes is not None
            now = session.check(f"simnode_memory_{name}_bytes", nbytes * 0.7, nbytes * 1.4, role=role)
            at_60s = session.check(f"simnode_memory_{name}_peak_60s_bytes", now, now * 4, role=role)
            session.check(f"simnode_memory_{name}_peak_life_bytes", at_60s, at_60s * 4, role=role)


def memory_is_looked_at_as_often_as_it_says(session: MetricSession) -> None:
    began, before = time.monotonic(), scrape(session.node.metrics_url)
    wait_until("some time has passed", lambda: time.monotonic() - began > LOOKED_FOR_S, timeout_s=5)
    after = scrape(session.node.metrics_url)
    took_s = time.monotonic() - began
    key = series("simnode_memory_samples_total", measure="rss_anon")
    assert 1 <= after[key] - before[key] <= took_s / 0.05 + 1
    session.moved.add(key)
    session.check("simnode_memory_samples_total", 1, 1000, measure="pss")


def a_process_that_stands_still_lags(session: MetricSession) -> None:
    stopped = pids(session)
    for pid in stopped.values():
        stop(pid)

    def age_s(role: str) -> float:
        return time.monotonic() - read_slot(slab_path(session.node.run_dir, Role(role), 0)).heartbeat_s

    wait_until("all have stood still", lambda: min(map(age_s, stopped)) > STOPPED_S, timeout_s=10)
    oldest = max(map(age_s, stopped))
    for role, pid in stopped.items():
        if role != "contract_store":
            os.kill(pid, signal.SIGCONT)
    session.check("simnode_process_heartbeat_age_seconds", STOPPED_S, 30, role="contract_store", slot="0")
    os.kill(stopped["contract_store"], signal.SIGCONT)
    for role in stopped:
        for name in ("simnode_event_loop_lag_peak_60s_seconds", "simnode_event_loop_lag_peak_life_seconds"):
            session.check(name, STOPPED_S - TICK_S - 0.1, oldest + 30, role=role, slot="0")
        session.check("simnode_event_loop_lag_seconds", 1e-9, oldest + 30, role=role, slot="0")


def another_versions_slab_is_said_to_be_unreadable(session: MetricSession) -> None:
    strange = session.node.run_dir / "slabs" / "front_door-9.slab"
    strange.write_bytes(b"of another version" * 100)
    session.expect("simnode_slabs_unreadable")
    session.settle()
    strange.unlink()
    session.expect("simnode_slabs_unreadable", -1)


def what_was_counted_outlives_the_processes(session: MetricSession) -> None:
    """Every role is killed; the gauges of the store and of the pool are right again as soon as they are back."""
    with session.client() as client:
        session.put(client, bytes(100_000))
        client.is_served()
    session.settle()
    session.check("simnode_memory_budget_bytes", session.value("simnode_memory_budget_bytes"))
    ended = {role: session.node.kill(f"{role}-0") for role in RESTARTABLE}
    for role, pid in ended.items():
        session.node.wait_for_another(f"{role}-0", pid)
        session.expect("simnode_actor_restarts_total", role=role)
    wait_until("the exporter serves again", lambda: _answers(session), timeout_s=20)


def _answers(session: MetricSession) -> bool:
    try:
        return bool(scrape(session.node.metrics_url))
    except OSError:
        return False


SCRIPTS: tuple[Callable[[MetricSession], None], ...] = (
    versions_are_those_that_run,
    cpu_and_memory_are_those_of_the_processes,
    memory_is_looked_at_as_often_as_it_says,
    a_process_that_stands_still_lags,
    another_versions_slab_is_said_to_be_unreadable,
    what_was_counted_outlives_the_processes,
)
