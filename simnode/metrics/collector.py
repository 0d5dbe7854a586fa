"""The catalogue as Prometheus families. Enters: slabs, samplers, `/proc`. Leaves: families. Next: `exporter.py`.

Everything is computed when somebody scrapes, from files and `/proc` alone; no process of the node is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from simnode.metrics.aggregate import (
    Distribution,
    Labels,
    Peaks,
    Values,
    histograms,
    node_peak_60s,
    peaks,
    process_labels,
    sums,
)
from simnode.metrics.catalogue import BY_NAME, CATALOGUE
from simnode.metrics.memory import MemorySampler
from simnode.metrics.model import Kind, Metric, Source
from simnode.metrics.reader import Scan, SlabSnapshot, scan_slabs


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInfo:
    """What runs: the text of the labels of `simnode_build_info`."""

    version: str
    python: str
    ray: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySamplers:
    """The two measures of memory."""

    rss_anon: MemorySampler
    pss: MemorySampler


class SlabCollector(Collector):
    """The node's metrics, to be registered with a `CollectorRegistry`.

    Args:
        run_dir: where the processes' slabs are.
        build: what runs.
        memory: the samplers; starting and closing them is their owner's business.
        clock: the monotonic clock that heartbeats are written with.
    """

    def __init__(self, run_dir: Path, *, build: BuildInfo, memory: MemorySamplers, clock: Callable[[], float]) -> None:
        self._run_dir = run_dir
        self._build = build
        self._memory = memory
        self._clock = clock

    def describe(self) -> Iterable[Family]:
        """The families as they are without a process; the registry checks their names when we register."""
        return self._families(Scan(found=(), unreadable=0))

    def collect(self) -> Iterable[Family]:
        """Every family of the catalogue, as of now."""
        return self._families(scan_slabs(self._run_dir))

    def _families(self, scan: Scan[SlabSnapshot]) -> Iterator[Family]:
        now_s = self._clock()  # after the scan, so that no slab holds a later time
        for metric in CATALOGUE:
            match metric.kind, metric.source:
                case ((Kind.COUNTER | Kind.GAUGE), Source.SLAB):
                    yield _family(metric, sums(metric, scan.found))
                case ((Kind.COUNTER | Kind.GAUGE), Source.EXPORTER):
                    yield _family(metric, self._find_out(metric, scan, now_s))
                case Kind.PEAK, Source.SLAB:
                    yield from _peak_families(metric, peaks(metric, scan.found, now_s))
                case Kind.PEAK, Source.EXPORTER:
                    yield from _peak_families(metric, self._memory_peaks(metric, now_s))
                case Kind.HISTOGRAM, Source.SLAB:
                    yield _histogram_family(metric, histograms(metric, scan.found))
                case Kind.INFO, Source.EXPORTER:
                    yield InfoMetricFamily(metric.name.removesuffix("_info"), metric.help, asdict(self._build))
                case unknown:
                    raise AssertionError(f"{metric.name}: nobody collects {unknown}")

    def _memory_peaks(self, metric: Metric, now_s: float) -> Peaks:
        samplers = {
            "simnode_memory_rss_anon_bytes": self._memory.rss_anon,
            "simnode_memory_pss_bytes": self._memory.pss,
        }
        readings = samplers[metric.name].readings(now_s)
        return Peaks(
            now={(role,): reading.now for role, reading in readings.items()},
            last_60s={(role,): reading.peak_60s for role, reading in readings.items()},
            life={(role,): reading.peak_life for role, reading in readings.items()},
        )

    def _find_out(self, metric: Metric, scan: Scan[SlabSnapshot], now_s: float) -> Values:
        """The counters and gauges that no process writes."""
        slabs = [(process_labels(metric, slab), slab) for slab in scan.found if slab.role in metric.roles]
        match metric.name:
            case "simnode_process_up":
                return {key: float(slab.is_up(now_s)) for key, slab in slabs}
            case "simnode_process_heartbeat_age_seconds":
                return {key: now_s - slab.heartbeat_s for key, slab in slabs}
            case "simnode_process_cpu_seconds_total":
                return {key: slab.process.cpu_seconds for key, slab in slabs if slab.process}
            case "simnode_actor_restarts_total":
                restarts: Values = {}
                for key, slab in slabs:
                    restarts[key] = restarts.get(key, 0.0) + slab.incarnation - 1
                return restarts
            case "simnode_node_backlog_peak_60s_chunks":
                return node_peak_60s(BY_NAME["simnode_backlog_chunks"], scan.found, now_s)
            case "simnode_node_backlog_peak_60s_bytes":
                return node_peak_60s(BY_NAME["simnode_backlog_bytes"], scan.found, now_s)
            case "simnode_memory_samples_total":
                return {("rss_anon",): self._memory.rss_anon.samples, ("pss",): self._memory.pss.samples}
            case "simnode_slabs_unreadable":
                return {(): scan.unreadable}
            case _:
                raise AssertionError(f"nobody finds out {metric.name}")


def _family(metric: Metric, values: Values) -> Family:
    family: CounterMetricFamily | GaugeMetricFamily
    if metric.kind is Kind.COUNTER:
        family = CounterMetricFamily(metric.name, metric.help, labels=metric.label_names, unit=metric.unit)
    else:
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.label_names, unit=metric.unit)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def _peak_families(metric: Metric, found: Peaks) -> Iterator[Family]:
    begin = "the node" if metric.source is Source.SLAB else "this exporter"
    for name, about, values in (
        (metric.name, metric.help, found.now),
        (metric.peak_60s_name, f"Highest of the last 60 s. {metric.help}", found.last_60s),
        (metric.peak_life_name, f"Highest since {begin} began. {metric.help}", found.life),
    ):
        family = GaugeMetricFamily(name, about, labels=metric.label_names, unit=metric.unit)
        for labels, value in values.items():
            family.add_metric(labels, value)
        yield family


def _histogram_family(metric: Metric, distributions: Mapping[Labels, Distribution]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.label_names, unit=metric.unit)
    bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
    for labels, distribution in distributions.items():
        cumulated = list(zip(bounds, accumulate(distribution.counts), strict=True))
        family.add_metric(labels, cumulated, sum_value=distribution.total)
    return family
