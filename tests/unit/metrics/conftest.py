"""A node whose time the test sets, and a scrape parsed back by the library's own parser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from simnode.metrics.collector import BuildInfo, MemorySamplers, SlabCollector
from simnode.metrics.memory import MemorySampler
from simnode.metrics.model import Role
from tests.support.slabs import Clock

RESIDENT = {Role.CONTRACT_STORE: [101], Role.CONNECTION_HANDLER: [102, 103]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rss_anon(clock: Clock) -> MemorySampler:
    return MemorySampler(
        lambda pid: pid * 1000, processes=lambda: RESIDENT, interval_s=0.05, clock=clock, name="rss-anon"
    )


@pytest.fixture
def registry(tmp_path: Path, clock: Clock, rss_anon: MemorySampler) -> CollectorRegistry:
    pss = MemorySampler(lambda pid: pid * 2000, processes=lambda: RESIDENT, interval_s=5.0, clock=clock, name="pss")
    registry = CollectorRegistry()
    registry.register(
        SlabCollector(
            tmp_path,
            build=BuildInfo(version="1.2.3", python="3.11.7", ray="2.60.0"),
            memory=MemorySamplers(rss_anon=rss_anon, pss=pss),
            clock=clock,
        )
    )
    return registry


Scrape = Callable[..., "float | None"]


@pytest.fixture
def scrape(registry: CollectorRegistry) -> Scrape:
    """`scrape(series_name, **labels)` scrapes, and returns that one value, or None when there is no such series."""

    def value(name: str, **labels: str) -> float | None:
        # the parser reads what may be about it: all of a node's series take it 30 ms
        lines = [line for line in generate_latest(registry).decode().splitlines() if name in line]
        for family in text_string_to_metric_families("\n".join([*lines, ""])):
            for sample in family.samples:
                if (sample.name, sample.labels) == (name, labels):
                    return float(sample.value)
        return None

    return value
