"""What an experiment does, typed. Enters: a TOML document's values. Leaves: `Scenario`. Next: `scenario_files.py`.

Every amount carries its unit, in its key (`memory_hz`) or in its value (`"40 MiB"`).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, PlainSerializer

from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import MAX_STATE_SIZE, MIB

Mode = Literal["single", "collected", "lazy", "mapped"]
"""A name of `simnode.live.handlers.response_modes.MODES`."""


class Operation(StrEnum):
    """What a client does in a phase."""

    PUT = "put"
    RECV = "recv"
    """GET, the answer as a whole."""
    RECV_STREAM = "recv_stream"
    """GET, the answer piece by piece."""


class Figure(StrEnum):
    """A measured number of a phase that thresholds and ratios are about."""

    HANDLER_PEAK_BYTES = "handler_peak_bytes"
    NODE_PEAK_BYTES = "node_peak_bytes"
    CLIENT_PEAK_BYTES = "client_peak_bytes"
    BACKLOG_PEAK_BYTES = "backlog_peak_bytes"
    MATERIALIZED_PEAK_BYTES = "materialized_peak_bytes"
    LATENCY_P50_MS = "latency_p50_ms"
    CONTENT_MISMATCHES = "content_mismatches"


class Strict(BaseModel):
    """A part of a scenario: nothing changes it, and it has no key that is not declared."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _with_unit(value: Any) -> Any:
    if isinstance(value, int | float):
        raise ValueError('a size is a text with its unit, as in "40 MiB"')
    return value


def format_size(nbytes: int) -> str:
    """Exactly so many bytes, in the largest unit that needs no fraction; `Size` reads it.

    >>> format_size(41943040)
    '40 MiB'
    """
    amount, unit = nbytes, 0
    while amount and amount % 1024 == 0 and unit < len(_UNITS) - 1:
        amount, unit = amount // 1024, unit + 1
    return f"{amount} {_UNITS[unit]}"


_UNITS = ("B", "KiB", "MiB", "GiB")

Size = Annotated[ByteSize, BeforeValidator(_with_unit), PlainSerializer(format_size), Field(gt=0)]
"""Bytes, written with a unit: `"64 KiB"`, `"40 MiB"`."""


class NodeOptions(Strict):
    """What the nodes of the experiment are set to."""

    memory_budget: Size = ByteSize(1024 * MIB)
    """For messages in flight, all together."""
    free_segments: Size = ByteSize(128 * MIB)
    """Recycled segments kept for the next message."""


class Sampling(Strict):
    """How memory is looked at."""

    memory_hz: Annotated[int, Field(ge=20, le=200)] = 100
    """RssAnon of each process, so many times a second; the kernel keeps no peak of it."""


class Payload(Strict):
    """One size of contract states."""

    size: Annotated[Size, Field(le=MAX_STATE_SIZE)]
    repetitions: Annotated[int, Field(ge=1, le=10_000)]
    """Samples of latency for each operation; one more goes before them to warm up."""


class _Threshold(Strict):
    name: Annotated[str, Field(min_length=1)]
    """Printed when it fails."""
    figure: Figure
    mode: Mode | None = None
    """None: every mode."""
    operations: tuple[Operation, ...] = tuple(Operation)
    """Of several phases that it is about, each must pass."""
    payload: Size | None = None
    """None: every size."""
    at_most: float | None = None
    at_least: float | None = None


class Limit(_Threshold):
    """A figure, in its own unit, is within bounds."""

    kind: Literal["limit"]


class Ratio(_Threshold):
    """A figure, divided by the same figure of another mode, is within bounds."""

    kind: Literal["ratio"]
    to: Mode


Threshold = Annotated[Limit | Ratio, Field(discriminator="kind")]


class Scenario(Strict):
    """One experiment: for each mode a node, for each size and operation a phase on it."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    title: Annotated[str, Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    modes: Annotated[tuple[Mode, ...], Field(min_length=1)]
    encodings: Annotated[tuple[Encoding, ...], Field(min_length=1)] = (Encoding.NATIVE,)
    operations: Annotated[tuple[Operation, ...], Field(min_length=1)] = tuple(Operation)
    clients: Annotated[int, Field(ge=1, le=16)] = 1
    """Client processes at once in each phase; their memory and their handlers' is added up."""
    node: NodeOptions = NodeOptions()
    sampling: Sampling = Sampling()
    payloads: Annotated[tuple[Payload, ...], Field(min_length=1)]
    thresholds: tuple[Threshold, ...] = ()

    @property
    def phases_of_a_mode(self) -> int:
        """One for each encoding, size and operation."""
        return len(self.encodings) * len(self.payloads) * len(self.operations)

    @property
    def handlers(self) -> int:
        """ConnectionHandler processes that each node needs: every client of every phase has one that is unused."""
        return self.phases_of_a_mode * self.clients


Location = tuple[str | int, ...]
"""Where in the document something is: keys, and indices from 0."""


def contradictions(scenario: Scenario) -> Iterator[tuple[Location, str]]:
    """What the types cannot say: lists with something twice, thresholds about phases that there are not."""
    for key in ("modes", "encodings", "operations"):
        values: tuple[str, ...] = getattr(scenario, key)
        yield from (((key, at), f"{value!s} is there twice") for at, value in enumerate(values) if value in values[:at])
    sizes = [payload.size for payload in scenario.payloads]
    for at, size in enumerate(sizes):
        if size in sizes[:at]:
            yield ("payloads", at, "size"), f"{format_size(size)} is there twice"
    if scenario.operations[0] is not Operation.PUT:
        yield ("operations", 0), "the first operation is put: what is not there cannot be got"
    for at, threshold in enumerate(scenario.thresholds):
        where: Location = ("thresholds", at)
        if threshold.at_most is None and threshold.at_least is None:
            yield where, "a threshold has at_most, at_least or both"
        modes = [("mode", threshold.mode), ("to", threshold.to if isinstance(threshold, Ratio) else None)]
        for key, mode in modes:
            if mode is not None and mode not in scenario.modes:
                yield (*where, key), f"{mode} is none of this scenario's modes"
        if not set(threshold.operations) & set(scenario.operations):
            yield (*where, "operations"), "none of them is in this scenario's operations"
        if threshold.payload is not None and threshold.payload not in sizes:
            yield (*where, "payload"), f"{format_size(threshold.payload)} is none of this scenario's payloads"
