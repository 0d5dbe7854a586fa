from __future__ import annotations

import pytest

from simnode.experiments.figures import (
    TIMELINE_POINTS,
    memory_of,
    percentile,
    ratio,
    speed_of,
    timeline_of,
    with_ratios,
)
from simnode.experiments.measuring import Idle, Row
from simnode.experiments.scenario import Figure
from simnode.protocol.limits import MIB

NAMES = ("connection_handler", "contract_store", "client")
IDLE = Idle({"connection_handler": 100, "contract_store": 50, "client": 10}, is_steady=True)


def row(at_s: float, handler: int = 100, store: int = 50, client: int = 10, backlog: int = 0) -> Row:
    return Row(at_s, (handler, store, client), backlog, 0)


def test_there_is_no_p99_of_99_samples_and_there_is_one_of_100():
    assert speed_of([0.001] * 99, MIB).latency_p99_ms is None
    assert speed_of([0.001] * 100, MIB).latency_p99_ms == 1.0


@pytest.mark.parametrize(("percent", "value"), [(1, 1), (50, 50), (99, 99), (100, 100)])
def test_a_percentile_is_the_nearest_rank(percent: int, value: int):
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_speed_is_payload_by_median_latency_in_millions_of_bytes():
    speed = speed_of([0.1, 0.2, 9.0], 40_000_000)

    assert (speed.samples, speed.latency_p50_ms, speed.latency_max_ms) == (3, 200.0, 9000.0)
    assert speed.megabytes_per_s == pytest.approx(200.0)


def test_a_peak_is_over_idle_and_the_nodes_is_of_one_moment_without_the_client():
    memory = memory_of([row(0, handler=300), row(1, store=90, client=5000)], NAMES, IDLE)

    assert memory.peak_over_idle_bytes == {"connection_handler": 200, "contract_store": 40, "client": 4990}
    assert memory.node_peak_over_idle_bytes == 200, "the store's peak came at another moment"
    assert memory.looks == 2


def test_memory_below_idle_is_no_negative_peak():
    memory = memory_of([row(0, handler=1, store=1, client=1)], NAMES, IDLE)

    assert set(memory.peak_over_idle_bytes.values()) == {0}
    assert memory.node_peak_over_idle_bytes == 0


def test_a_timeline_is_short_and_loses_no_peak():
    rows = [row(at / 100, handler=100 + (777 if at == 4321 else 0), backlog=at) for at in range(10_000)]

    timeline = timeline_of(rows, NAMES, IDLE, duration_s=100.0)

    handler = timeline.over_idle_bytes["connection_handler"]
    assert len(handler) == len(timeline.backlog_bytes) == TIMELINE_POINTS
    assert max(handler) == 777
    assert timeline.backlog_bytes[-1] == 9999
    assert timeline.step_s == pytest.approx(100 / TIMELINE_POINTS)


def test_where_nobody_looked_a_timeline_stays_as_it_was():
    timeline = timeline_of([row(0, backlog=1), row(0.1, backlog=2), row(9.9, backlog=3)], NAMES, IDLE, duration_s=10.0)

    assert timeline.backlog_bytes == [2, 2, 3]


def test_a_timeline_of_one_look_has_one_point():
    assert timeline_of([row(3.0, backlog=5)], NAMES, IDLE, duration_s=0.0).backlog_bytes == [5]


def test_a_ratio_to_nothing_is_none():
    assert ratio(5, 0) is None
    assert ratio(1, 4) == 0.25


def test_ratios_are_to_the_same_operation_of_the_modes_that_were_run(make_phase):
    phases = with_ratios([make_phase("single"), make_phase("mapped"), make_phase("mapped", "recv_stream")])

    assert phases[1].ratios["single"][Figure.HANDLER_PEAK_BYTES] == 0.25
    assert phases[1].ratios["single"][Figure.MATERIALIZED_PEAK_BYTES] == 0
    assert phases[0].ratios["single"][Figure.HANDLER_PEAK_BYTES] == 1
    assert phases[2].ratios == {}, "there is no recv_stream in the mode single"
    assert all("collected" not in phase.ratios for phase in phases)


def test_puts_are_the_same_work_in_every_mode_so_they_have_no_ratios(make_phase):
    puts = with_ratios([make_phase("single", "put"), make_phase("mapped", "put")])

    assert [(phase.ratios, phase.alike) for phase in puts] == [({}, {})] * 2


def test_what_differs_by_no_more_than_puts_is_alike(make_phase):
    puts = [make_phase(mode, "put", memory=make_phase().memory) for mode in ("single", "mapped")]
    single, mapped = with_ratios([*puts, make_phase("single"), make_phase("mapped")])[2:]

    assert Figure.LATENCY_P50_MS in mapped.alike["single"]
    assert Figure.HANDLER_PEAK_BYTES not in mapped.alike["single"]
    assert single.alike == {}, "a mode is not compared with itself"
