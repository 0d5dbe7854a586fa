"""Where each value stands in a slab. Enters: the catalogue. Leaves: cell numbers. Next: `cells.py`.

A slab is an array of 8-byte doubles whose positions follow from the catalogue and the role alone, so that writer and
reader need no directory in the file: only a fingerprint, to tell that both mean the same catalogue.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from simnode.metrics.catalogue import CATALOGUE
from simnode.metrics.cells import PEAK_CELLS
from simnode.metrics.model import Kind, Metric, Role, Source


class UnknownMetricError(LookupError):
    """A metric, label or label value that the catalogue does not give this role (the calling process's fault)."""


@dataclass(frozen=True, slots=True)
class Block:
    """The cells of one metric."""

    metric: Metric
    cells: Mapping[tuple[str, ...], int]
    """The first cell of each combination of label values, in the catalogue's order."""

    def cell(self, labels: Mapping[str, str]) -> int:
        """The first cell of one combination.

        Raises:
            UnknownMetricError: the labels are not the metric's, or a value is outside its closed set.
        """
        names = tuple(label.name for label in self.metric.labels)
        if set(labels) != set(names):
            raise UnknownMetricError(f"{self.metric.name} has the labels {list(names)}, not {sorted(labels)}")
        values = tuple(labels[name] for name in names)
        try:
            return self.cells[values]
        except KeyError:
            raise UnknownMetricError(f"{self.metric.name} has no {dict(labels)} in its closed label sets") from None


@dataclass(frozen=True, slots=True)
class Layout:
    """The slab of one role."""

    role: Role
    blocks: tuple[Block, ...]
    cell_count: int
    fingerprint: int
    """64 bits that change with anything that moves a cell or its meaning."""

    def block(self, name: str, kind: Kind) -> Block:
        """The cells of the metric `name`.

        Raises:
            UnknownMetricError: the role has no such metric, or it is of another kind.
        """
        for block in self.blocks:
            if block.metric.name == name:
                if block.metric.kind is not kind:
                    raise UnknownMetricError(f"{name} is a {block.metric.kind.value}, not a {kind.value}")
                return block
        raise UnknownMetricError(f"the catalogue gives {self.role} no metric {name}")


@cache
def layout_of(role: Role) -> Layout:
    """The layout of the slabs that processes of `role` write."""
    blocks = []
    first = 0
    digest = hashlib.sha256(role.encode())
    for metric in CATALOGUE:
        if metric.source is not Source.SLAB or role not in metric.roles:
            continue
        digest.update(repr((metric.name, metric.kind.value, metric.combinations, metric.buckets, first)).encode())
        cells = {}
        for values in metric.combinations:
            cells[values] = first
            first += cells_of(metric)
        blocks.append(Block(metric, cells))
    return Layout(role, tuple(blocks), first, int.from_bytes(digest.digest()[:8], "little"))


def cells_of(metric: Metric) -> int:
    """How many cells one value of the metric takes."""
    match metric.kind:
        case Kind.PEAK:
            return PEAK_CELLS
        case Kind.HISTOGRAM:
            return len(metric.buckets) + 2  # a count for each bucket and for +Inf, then the sum
        case _:
            return 1
