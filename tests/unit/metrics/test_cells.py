"""Peaks against a model that remembers everything, and the plain cells."""

from __future__ import annotations

from random import Random

import pytest

from simnode.metrics.cells import PEAK_CELLS, Counter, Gauge, Histogram, PeakGauge, maxima_of_seconds, peak_for_life


def cells(count: int) -> memoryview[float]:
    return memoryview(bytearray(count * 8)).cast("d")


def peak_60s(of: memoryview[float], now_s: float, held_until_s: float | None = None) -> float:
    return max(maxima_of_seconds(of, 0, now_s=now_s, held_until_s=now_s if held_until_s is None else held_until_s))


def test_counter_adds_to_its_own_cell_only() -> None:
    slab = cells(3)
    counter = Counter(slab, 1)
    counter.inc()
    counter.inc(41)
    assert slab.tolist() == [0, 42, 0]


def test_gauge_goes_both_ways() -> None:
    slab = cells(1)
    gauge = Gauge(slab, 0)
    gauge.set(7)
    gauge.add(-3)
    assert slab[0] == 4


def test_histogram_puts_a_bound_into_the_bucket_below_it_and_the_rest_into_infinity() -> None:
    slab = cells(4)
    histogram = Histogram(slab, 0, (0.5, 1.0))
    for value in (0.25, 0.5, 0.75, 1.0, 9.0):
        histogram.observe(value)
    assert slab.tolist() == [2, 2, 1, 11.5]


def test_peak_between_two_looks_is_not_missed() -> None:
    slab = cells(PEAK_CELLS)
    peak = PeakGauge(slab, 0)
    peak.set(900, 1000.10)
    peak.set(0, 1000.11)
    assert slab[0] == 0
    assert peak_60s(slab, 1030.0) == 900


def test_peak_leaves_the_window_after_sixty_seconds_and_stays_for_life() -> None:
    slab = cells(PEAK_CELLS)
    peak = PeakGauge(slab, 0)
    peak.set(900, 1000.9)
    peak.set(1, 1000.9)
    assert peak_60s(slab, 1059.9) == 900
    assert peak_60s(slab, 1060.0) == 1
    assert peak_for_life(slab, 0) == 900


def test_value_that_nobody_touches_stays_the_peak() -> None:
    slab = cells(PEAK_CELLS)
    PeakGauge(slab, 0).set(7, 1000.0)
    assert peak_60s(slab, 5000.0) == 7


def test_value_held_through_a_silence_counts_for_the_seconds_of_the_silence() -> None:
    slab = cells(PEAK_CELLS)
    peak = PeakGauge(slab, 0)
    peak.set(7, 1000.0)
    peak.set(2, 1300.0)
    assert peak_60s(slab, 1300.0) == 7
    assert peak_60s(slab, 1359.0) == 7
    assert peak_60s(slab, 1360.0) == 2


def test_add_starts_from_the_value_found_in_the_slab() -> None:
    slab = cells(PEAK_CELLS)
    PeakGauge(slab, 0).set(5, 1000.0)
    PeakGauge(slab, 0).add(3, 1000.5)
    assert slab[0] == 8


def test_time_before_the_latest_counts_as_the_latest() -> None:
    """Event loops cache their clock; a value must not be lost for a millisecond of lateness."""
    slab = cells(PEAK_CELLS)
    peak = PeakGauge(slab, 0)
    peak.set(5, 1001.0)
    peak.set(9, 1000.9)
    assert peak_60s(slab, 1001.0) == 9


def test_dead_process_holds_its_value_until_its_last_heartbeat() -> None:
    slab = cells(PEAK_CELLS)
    PeakGauge(slab, 0).set(7, 1000.0)
    assert peak_60s(slab, 1100.0, held_until_s=1050.0) == 7
    assert peak_60s(slab, 1110.0, held_until_s=1050.0) == 0


def test_restart_ends_the_value_where_the_process_was_last_seen_and_keeps_the_peaks() -> None:
    slab = cells(PEAK_CELLS)
    PeakGauge(slab, 0).set(7, 1000.0)
    PeakGauge(slab, 0).restart(last_seen_s=1030.0, now_s=1040.0)
    assert slab[0] == 0
    assert peak_60s(slab, 1089.0) == 7
    assert peak_60s(slab, 1090.0) == 0
    assert peak_for_life(slab, 0) == 7


@pytest.mark.parametrize("last_seen_s", [1000.0, 900.0])
def test_restart_after_a_reboot_forgets_the_seconds_and_keeps_the_peak_for_life(last_seen_s: float) -> None:
    slab = cells(PEAK_CELLS)
    PeakGauge(slab, 0).set(7, 1000.0)
    PeakGauge(slab, 0).restart(last_seen_s=last_seen_s, now_s=950.0 if last_seen_s < 950 else 20.0)
    assert slab[0] == 0
    assert peak_60s(slab, 1001.0) == 0
    assert peak_for_life(slab, 0) == 7


@pytest.mark.parametrize("seed", range(20))
def test_peaks_equal_those_of_a_model_that_remembers_everything(seed: int) -> None:
    random = Random(seed)
    slab = cells(PEAK_CELLS)
    peak = PeakGauge(slab, 0)
    history = [(0.0, 0.0)]  # (since when, value)
    now_s = 1000.0
    for _ in range(300):
        now_s += random.choice((0.0, 0.01, 0.4, 3.0, 25.0, 90.0)) * random.random()
        peak.set(value := random.randrange(1000), now_s)
        history.append((now_s, value))
        window_began_s = int(now_s) - 59
        ends = [since for since, _ in history[1:]] + [float("inf")]
        expected = max(value for (_, value), end in zip(history, ends, strict=True) if end >= window_began_s)
        assert peak_60s(slab, now_s) == expected
    assert peak_for_life(slab, 0) == max(value for _, value in history)
