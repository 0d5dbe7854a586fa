"""What an experiment found, as it is written to `results.json`. Next: `figures.py` fills it, `report.py` shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from simnode.experiments.scenario import Figure, Mode, Operation, Scenario
from simnode.protocol.codec.base import Encoding

RESULTS_SCHEMA = 1

CLIENT = "client"
"""The group of the client processes, beside the node's roles."""

HANDLER = "connection_handler"


class Record(BaseModel):
    """A part of the results: nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Speed(Record):
    """How long the operations took, the warm-up aside.

    Attributes:
        samples: how many operations.
        megabytes_per_s: the median; 10^6 bytes of payload a second.
        latency_p50_ms: half of the operations took no longer.
        latency_max_ms: none took longer.
        latency_p99_ms: None with fewer than 100 samples, which know nothing of a hundredth.
    """

    samples: int
    megabytes_per_s: float
    latency_p50_ms: float
    latency_max_ms: float
    latency_p99_ms: float | None


class Memory(Record):
    """RssAnon, of a node's roles and of the clients, in bytes.

    Attributes:
        idle_bytes: of each group, before the phase's first operation. Of the handlers, only those at work.
        is_steady: whether that was at rest.
        peak_over_idle_bytes: the highest of each group, less its idle.
        node_peak_over_idle_bytes: the highest of all roles together at one moment, less their idle.
        looks: how many times the phase's memory was looked at.
    """

    idle_bytes: dict[str, int]
    is_steady: bool
    peak_over_idle_bytes: dict[str, int]
    node_peak_over_idle_bytes: int
    looks: int


class Timeline(Record):
    """Highest values of each of up to `figures.TIMELINE_POINTS` equal spans of a phase.

    Attributes:
        step_s: the length of a span, seconds.
        over_idle_bytes: RssAnon of each group less its idle.
        backlog_bytes: outbound, due and not yet written.
        materialized_bytes: of the backlog, in the heap.
    """

    step_s: float
    over_idle_bytes: dict[str, list[int]]
    backlog_bytes: list[int]
    materialized_bytes: list[int]


class Phase(Record):
    """One size, one operation, one mode.

    Attributes:
        duration_s: of all operations, the warm-up among them.
        backlog_peak_bytes: exact.
        materialized_peak_bytes: exact.
        content_mismatches: operations whose content was not what it should be.
        cpu_seconds: of the clients and of the handlers at work.
        ratios: each figure divided by that of another mode; None where that is 0. Puts have none: they are the
            same work in every mode.
        alike: the figures that differ from another mode's by no more than those of puts do, which is chance.
    """

    mode: Mode
    encoding: Encoding
    operation: Operation
    payload_bytes: int
    clients: int
    duration_s: float
    speed: Speed
    memory: Memory
    backlog_peak_bytes: int
    materialized_peak_bytes: int
    content_mismatches: int
    cpu_seconds: dict[str, float]
    ratios: dict[Mode, dict[Figure, float | None]]
    alike: dict[Mode, tuple[Figure, ...]]
    timeline: Timeline

    def figure(self, figure: Figure) -> float:
        """One of its numbers, by name."""
        match figure:
            case Figure.HANDLER_PEAK_BYTES:
                return self.memory.peak_over_idle_bytes[HANDLER]
            case Figure.CLIENT_PEAK_BYTES:
                return self.memory.peak_over_idle_bytes[CLIENT]
            case Figure.NODE_PEAK_BYTES:
                return self.memory.node_peak_over_idle_bytes
            case Figure.BACKLOG_PEAK_BYTES:
                return self.backlog_peak_bytes
            case Figure.MATERIALIZED_PEAK_BYTES:
                return self.materialized_peak_bytes
            case Figure.LATENCY_P50_MS:
                return self.speed.latency_p50_ms
            case Figure.CONTENT_MISMATCHES:
                return self.content_mismatches

    @property
    def other_roles_peak_bytes(self) -> int:
        """The sum of the peaks of the node's roles other than the handlers: no less than their common peak."""
        peaks = self.memory.peak_over_idle_bytes
        return sum(peak for group, peak in peaks.items() if group not in (CLIENT, HANDLER))

    @property
    def bottleneck(self) -> Literal["client", "handler"] | None:
        """Who used more than nine tenths of a core for each of its processes, if anybody did; the clients first."""
        most_s = 0.9 * self.duration_s * self.clients
        busy = {group: self.cpu_seconds[group] for group in (CLIENT, HANDLER) if self.cpu_seconds[group] > most_s}
        if not busy:
            return None
        return "client" if max(busy, key=lambda group: busy[group]) == CLIENT else "handler"


class Verdict(Record):
    """Whether a threshold held.

    Attributes:
        to: the mode whose figure it is divided by; None: it is the figure itself.
        worst: the value furthest out of bounds (or nearest to a bound), None if there was no value at all.
        where: the phase that it is from.
    """

    name: str
    figure: Figure
    to: Mode | None
    at_most: float | None
    at_least: float | None
    worst: float | None
    where: str
    passed: bool


class PayloadFile(Record):
    """What payloads were cut from."""

    name: str
    bytes: int


class Results(Record):
    """Everything that was measured, with the whole configuration."""

    schema_version: Literal[1]
    seed: int
    scenario: Scenario
    payload_files: tuple[PayloadFile, ...]
    phases: tuple[Phase, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every threshold held."""
        return all(verdict.passed for verdict in self.verdicts)

    def to_json(self) -> str:
        """As it is written to `results.json`."""
        return self.model_dump_json(indent=1, by_alias=True)
