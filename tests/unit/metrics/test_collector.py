from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from simnode.metrics.catalogue import EXPORTED_NAMES
from simnode.metrics.memory import MemorySampler
from simnode.metrics.model import Role
from simnode.metrics.slab import StatsSlab, slab_path
from tests.support.slabs import Clock, give_pid_away

Scrape = Callable[..., float | None]
HANDLER = Role.CONNECTION_HANDLER
PUT = {"kind": "put", "encoding": "native", "outcome": "ok"}


def handler(run_dir: Path, slot: int, now_s: float = 1000.0) -> StatsSlab:
    return StatsSlab.open(run_dir, HANDLER, slot, now_s=now_s)


def bury(run_dir: Path, slab: StatsSlab, slot: int) -> None:
    """End the process of a slab, as far as a reader can tell."""
    slab.close()
    give_pid_away(slab_path(run_dir, HANDLER, slot))


def test_counters_are_summed_over_the_handlers(tmp_path: Path, scrape: Scrape) -> None:
    for slot in range(3):
        handler(tmp_path, slot).counter("simnode_requests_total", **PUT).inc(slot + 1)
    assert scrape("simnode_requests_total", **PUT) == 6


def test_counter_exists_before_it_first_counts(scrape: Scrape) -> None:
    """rate() cannot see a first increase that comes with the series itself."""
    assert scrape("simnode_requests_total", kind="undecodable", encoding="msgpack", outcome="error") == 0


def test_counter_does_not_go_back_when_a_process_dies(tmp_path: Path, scrape: Scrape) -> None:
    slab = handler(tmp_path, 0)
    slab.counter("simnode_requests_total", **PUT).inc(5)
    bury(tmp_path, slab, 0)
    assert scrape("simnode_requests_total", **PUT) == 5


def test_gauges_are_summed_over_the_living(tmp_path: Path, scrape: Scrape) -> None:
    for slot in range(3):
        slab = handler(tmp_path, slot)
        slab.gauge("simnode_connections_open").set(slot + 1)
    bury(tmp_path, slab, 2)
    assert scrape("simnode_connections_open") == 3


def test_gauge_that_no_living_process_has_is_absent(tmp_path: Path, scrape: Scrape) -> None:
    """A budget of 0 bytes would be a lie; "unknown" is the truth while the service is down."""
    handler(tmp_path, 0)
    assert scrape("simnode_memory_budget_bytes") is None


def test_histogram_is_cumulative_and_summed_over_the_handlers(tmp_path: Path, scrape: Scrape) -> None:
    labels = {"kind": "get", "encoding": "flatbuffers"}
    for slot, seconds in enumerate((0.000_2, 0.004, 90.0)):
        handler(tmp_path, slot).histogram("simnode_request_duration_seconds", **labels).observe(seconds)
    name = "simnode_request_duration_seconds"
    assert scrape(f"{name}_bucket", le="0.00025", **labels) == 1
    assert scrape(f"{name}_bucket", le="0.0025", **labels) == 1
    assert scrape(f"{name}_bucket", le="60.0", **labels) == 2
    assert scrape(f"{name}_bucket", le="+Inf", **labels) == 3
    assert scrape(f"{name}_count", **labels) == 3
    assert scrape(f"{name}_sum", **labels) == pytest.approx(90.0042)


def test_peaks_are_per_process(tmp_path: Path, clock: Clock, scrape: Scrape) -> None:
    for slot, size in enumerate((300, 500)):
        backlog = handler(tmp_path, slot).peak("simnode_backlog_bytes", direction="outbound")
        backlog.set(size, 1000.0)
        backlog.set(slot, 1000.2)
    process = {"role": "connection_handler", "slot": "1", "direction": "outbound"}
    assert scrape("simnode_backlog_bytes", **process) == 1
    assert scrape("simnode_backlog_peak_60s_bytes", **process) == 500
    assert scrape("simnode_backlog_peak_life_bytes", **process) == 500
    clock.now_s = 1060.0
    assert scrape("simnode_backlog_peak_60s_bytes", **process) == 1
    assert scrape("simnode_backlog_peak_life_bytes", **process) == 500


def test_peak_of_the_node_adds_what_was_there_in_the_same_second(tmp_path: Path, clock: Clock, scrape: Scrape) -> None:
    """300 now and 500 five seconds later is a node's peak of 500, not of 800."""
    for slot, (size, at_s) in enumerate(((300, 1000.0), (500, 1005.0), (40, 1005.9))):
        backlog = handler(tmp_path, slot).peak("simnode_backlog_bytes", direction="inbound")
        backlog.set(size, at_s)
        backlog.set(0, at_s)
    clock.now_s = 1006.0
    assert scrape("simnode_node_backlog_peak_60s_bytes", direction="inbound") == 540
    assert scrape("simnode_node_backlog_peak_60s_bytes", direction="outbound") == 0


def test_peak_of_a_dead_process_survives_it_without_a_value_now(tmp_path: Path, clock: Clock, scrape: Scrape) -> None:
    slab = handler(tmp_path, 0)
    slab.peak("simnode_backlog_chunks", direction="inbound").set(70, 1000.0)
    bury(tmp_path, slab, 0)
    clock.now_s = 1030.0
    process = {"role": "connection_handler", "slot": "0", "direction": "inbound"}
    assert scrape("simnode_backlog_chunks", **process) == 0
    assert scrape("simnode_backlog_peak_60s_chunks", **process) == 70
    clock.now_s = 1090.0
    assert scrape("simnode_backlog_peak_60s_chunks", **process) == 0
    assert scrape("simnode_backlog_peak_life_chunks", **process) == 70


def test_process_is_up_while_its_heartbeat_is_young(tmp_path: Path, clock: Clock, scrape: Scrape) -> None:
    process = {"role": "connection_handler", "slot": "0"}
    slab = handler(tmp_path, 0)
    slab.heartbeat(1000.0)
    assert scrape("simnode_process_up", **process) == 1
    assert (scrape("simnode_process_cpu_seconds_total", **process) or 0) > 0
    clock.now_s = 1006.0
    assert scrape("simnode_process_up", **process) == 0
    assert scrape("simnode_process_heartbeat_age_seconds", **process) == 6
    slab.heartbeat(1006.0)
    bury(tmp_path, slab, 0)
    assert scrape("simnode_process_up", **process) == 0
    assert scrape("simnode_process_cpu_seconds_total", **process) is None


def test_restarts_are_counted_by_role(tmp_path: Path, scrape: Scrape) -> None:
    for slot in (0, 0, 0, 1, 1):
        handler(tmp_path, slot).close()
    StatsSlab.open(tmp_path, Role.CONTRACT_STORE, 0, now_s=1000.0).close()
    assert scrape("simnode_actor_restarts_total", role="connection_handler") == 3
    assert scrape("simnode_actor_restarts_total", role="contract_store") == 0


def test_memory_of_a_role_has_a_value_and_both_peaks(scrape: Scrape, rss_anon: MemorySampler) -> None:
    rss_anon.sample()
    assert scrape("simnode_memory_rss_anon_bytes", role="connection_handler") == 205_000
    assert scrape("simnode_memory_rss_anon_peak_60s_bytes", role="connection_handler") == 205_000
    assert scrape("simnode_memory_rss_anon_peak_life_bytes", role="contract_store") == 101_000
    assert scrape("simnode_memory_samples_total", measure="rss_anon") == 1
    assert scrape("simnode_memory_samples_total", measure="pss") == 0


def test_build_info_has_the_versions(scrape: Scrape) -> None:
    assert scrape("simnode_build_info", version="1.2.3", python="3.11.7", ray="2.60.0") == 1


def test_slab_of_another_version_does_not_stop_the_scrape(tmp_path: Path, scrape: Scrape) -> None:
    handler(tmp_path, 0)
    slab_path(tmp_path, HANDLER, 1).write_bytes(b"from the future")
    assert scrape("simnode_slabs_unreadable") == 1


def test_scrape_contains_the_whole_catalogue_and_nothing_else(
    tmp_path: Path, registry: CollectorRegistry, rss_anon: MemorySampler
) -> None:
    for role in Role:
        StatsSlab.open(tmp_path, role, 0, now_s=1000.0)
    rss_anon.sample()
    exported = {sample.name for family in registry.collect() for sample in family.samples}
    pss = {name for name in EXPORTED_NAMES if "_pss_" in name}  # that sampler has not looked yet
    assert exported == EXPORTED_NAMES - pss


def test_openmetrics_output_is_well_formed(tmp_path: Path, registry: CollectorRegistry) -> None:
    """Its parser is strict about units, suffixes and the order of families."""
    handler(tmp_path, 0)
    text = openmetrics.generate_latest(registry, version="1.0.0").decode()  # type: ignore[no-untyped-call]
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    assert {family.name for family in families} >= {"simnode_requests", "simnode_build"}


def test_name_that_the_registry_already_has_is_refused(registry: CollectorRegistry) -> None:
    with pytest.raises(ValueError, match="Duplicated"):
        Gauge("simnode_process_up", "Somebody else's.", registry=registry)
    assert b"simnode_process_up" in generate_latest(registry)
