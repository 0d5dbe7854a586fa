"""What a metric is. Enters: nothing. Leaves: the types that `catalogue.py` is written in. Next: `catalogue.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import product


class Role(StrEnum):
    """The processes of a node; the values are the metric label `role` and begin a slab's file name.

    Their order is part of the slab format.
    """

    FRONT_DOOR = "front_door"
    CONNECTION_HANDLER = "connection_handler"
    REASSEMBLY_SERVICE = "reassembly_service"
    CONTRACT_STORE = "contract_store"
    METRICS_EXPORTER = "metrics_exporter"
    SUPERVISOR = "supervisor"


class Kind(Enum):
    """How a value behaves, and so how many cells it takes in a slab."""

    COUNTER = "counter"
    GAUGE = "gauge"
    PEAK = "peak"
    """A gauge exported as three: its value now, its highest of the last 60 s, and its highest for life."""
    HISTOGRAM = "histogram"
    INFO = "info"


class Per(Enum):
    """Over what the exporter adds the processes' values up, and so which labels it puts before the metric's own."""

    NODE = ()
    ROLE = ("role",)
    PROCESS = ("role", "slot")


class Source(Enum):
    """Who knows the value."""

    SLAB = "slab"
    """The processes write it into their stats slabs."""
    EXPORTER = "exporter"
    """The exporter finds it out: from `/proc`, from the slabs' headers, or by adding up rings of peaks."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label and every value that it can have (empty only for an info metric's free text)."""

    name: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One entry of the catalogue: a family, or for a peak, three families.

    Args:
        name: as exported; ends in the unit, or for a counter in `_total`.
        kind: counter, gauge, peak, histogram or info.
        help: what it counts and how it is measured; a sentence or two, ended by a full stop.
        unit: the base unit that ends the name ("" when there is none to name).
        per: over what the exporter sums.
        roles: the processes that have it.
        labels: closed sets; their product, less `never`, is laid out in the slab beforehand.
        never: combinations of label values that cannot happen, and so are not exported.
        buckets: a histogram's upper bounds in `unit`, ascending, without +Inf.
        source: who knows the value.
    """

    name: str
    kind: Kind
    help: str
    unit: str = ""
    per: Per = Per.NODE
    roles: tuple[Role, ...]
    labels: tuple[Label, ...] = ()
    never: frozenset[tuple[str, ...]] = frozenset()
    buckets: tuple[float, ...] = ()
    source: Source = Source.SLAB

    @property
    def label_names(self) -> tuple[str, ...]:
        """The label names of the exported family: those of `per`, then the metric's own."""
        return (*self.per.value, *(label.name for label in self.labels))

    @property
    def combinations(self) -> tuple[tuple[str, ...], ...]:
        """Every combination of the values of `labels` that can happen; one, empty, when there are no labels."""
        return tuple(values for values in product(*(label.values for label in self.labels)) if values not in self.never)

    @property
    def peak_60s_name(self) -> str:
        """The family with a peak's highest value of the last 60 s."""
        return self._with_infix("peak_60s")

    @property
    def peak_life_name(self) -> str:
        """The family with a peak's highest value for life."""
        return self._with_infix("peak_life")

    @property
    def exported_names(self) -> tuple[str, ...]:
        """The names of every time series that a scrape can contain because of this entry."""
        match self.kind:
            case Kind.PEAK:
                return (self.name, self.peak_60s_name, self.peak_life_name)
            case Kind.HISTOGRAM:
                return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
            case _:
                return (self.name,)

    def _with_infix(self, infix: str) -> str:
        return f"{self.name.removesuffix(self.unit)}{infix}_{self.unit}"
