from __future__ import annotations

import re
from collections import Counter
from itertools import product

import pytest

from simnode.metrics.catalogue import BY_NAME, CATALOGUE, EXPORTED_NAMES
from simnode.metrics.model import Kind, Metric, Source
from simnode.protocol.codec.base import Encoding
from simnode.protocol.errors import ReassemblyErrorKind

each_metric = pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)


def test_no_two_entries_export_the_same_series() -> None:
    assert [name for name, times in Counter(n for m in CATALOGUE for n in m.exported_names).items() if times > 1] == []


@each_metric
def test_name_has_our_prefix_its_unit_and_total_only_for_counters(metric: Metric) -> None:
    assert re.fullmatch(r"simnode(_[a-z0-9]+)+", metric.name)
    assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
    assert metric.name.endswith("_info") is (metric.kind is Kind.INFO)
    assert metric.name.removesuffix("_total").endswith(metric.unit)


@each_metric
def test_help_is_sentences(metric: Metric) -> None:
    assert metric.help.endswith(".")
    assert "\n" not in metric.help


@each_metric
def test_labels_are_closed_sets(metric: Metric) -> None:
    """An open label is a leak of time series; only the info metric, one series a process, has free text."""
    if metric.kind is not Kind.INFO:
        assert all(label.values for label in metric.labels)
        assert all(len(set(label.values)) == len(label.values) for label in metric.labels)


@each_metric
def test_label_names_are_distinct_and_no_part_of_the_name(metric: Metric) -> None:
    assert len(set(metric.label_names)) == len(metric.label_names)
    assert not set(metric.label_names) & set(metric.name.split("_"))


@each_metric
def test_only_histograms_have_buckets_and_they_ascend(metric: Metric) -> None:
    assert bool(metric.buckets) is (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


@each_metric
def test_peak_keeps_its_unit_at_the_end_of_every_name(metric: Metric) -> None:
    if metric.kind is Kind.PEAK:
        assert metric.unit
        assert all(name.endswith(f"_{metric.unit}") for name in metric.exported_names)


def test_info_is_not_asked_of_slabs() -> None:
    assert all(metric.source is Source.EXPORTER for metric in CATALOGUE if metric.kind is Kind.INFO)


def test_protocol_enums_are_the_label_values() -> None:
    errors = {values[0] for values in BY_NAME["simnode_reassembly_errors_total"].combinations}
    assert errors == {kind.value for kind in ReassemblyErrorKind}
    encodings = {values[1] for values in BY_NAME["simnode_requests_total"].combinations}
    assert encodings == {encoding.value for encoding in Encoding}


def test_exported_names_spell_out_peaks_and_histograms() -> None:
    assert {
        "simnode_backlog_bytes",
        "simnode_backlog_peak_60s_bytes",
        "simnode_backlog_peak_life_bytes",
        "simnode_request_duration_seconds_bucket",
    } <= EXPORTED_NAMES
    assert "simnode_request_duration_seconds" not in EXPORTED_NAMES


@each_metric
def test_what_never_happens_is_of_the_labels_and_is_not_exported(metric: Metric) -> None:
    every = set(product(*(label.values for label in metric.labels)))
    assert metric.never <= every
    assert set(metric.combinations) == every - metric.never
