"""What dashboards are made of. Enters: the catalogue. Leaves: panels and PromQL. Next: `node.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simnode.metrics.catalogue import EXPORTED_NAMES


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and what its lines are called."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel, `width` × `height` on a grid of 24 columns."""

    title: str
    description: str
    unit: str
    """Grafana's name of the unit."""
    queries: tuple[Query, ...]
    kind: Literal["timeseries", "stat", "bargauge"]
    width: int
    height: int
    stacked: bool = False
    alarm_from: float | None = None
    """From this value on, a stat is red."""


@dataclass(frozen=True, slots=True)
class Row:
    """A titled group of panels, set from left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard; `name` is its file's, and with our prefix its uid."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]


def graph(title: str, unit: str, about: str, *queries: Query, width: int = 8, stacked: bool = False) -> Panel:
    """Lines over time."""
    return Panel(
        title=title,
        description=about,
        unit=unit,
        queries=queries,
        kind="timeseries",
        width=width,
        height=8,
        stacked=stacked,
    )


def stat(title: str, unit: str, about: str, query: Query, *, alarm_from: float | None = None) -> Panel:
    """One number."""
    return Panel(
        title=title,
        description=about,
        unit=unit,
        queries=(query,),
        kind="stat",
        width=4,
        height=4,
        alarm_from=alarm_from,
    )


def bars(title: str, unit: str, about: str, query: Query) -> Panel:
    """One number for each line of the query."""
    return Panel(title=title, description=about, unit=unit, queries=(query,), kind="bargauge", width=8, height=8)


def series(name: str, **labels: str) -> str:
    """The series of a metric on the chosen nodes.

    Args:
        name: of the series, as `/metrics` has it.
        labels: what each label must match, a regular expression.

    Raises:
        ValueError: the catalogue has no such metric.
    """
    if name not in EXPORTED_NAMES:
        raise ValueError(f"the catalogue has no {name}")
    matchers = {"job": "$job", "instance": "$instance"} | labels
    selector = ", ".join(f'{label}=~"{pattern}"' for label, pattern in matchers.items())
    return f"{name}{{{selector}}}"


def rate(name: str, **labels: str) -> str:
    """A counter's increase in each second."""
    return f"rate({series(name, **labels)}[$__rate_interval])"


def total(expression: str, *, by: str = "") -> str:
    """The sum of an expression, over everything or for each `by`."""
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def highest(expression: str, *, by: str = "") -> str:
    """The maximum of an expression, of everything or for each `by`."""
    return f"max by ({by}) ({expression})" if by else f"max({expression})"


def share(part: str, whole: str, *, by: str = "") -> str:
    """A ratio of two rates, absent rather than 0/0 while nothing happens."""
    return f"{total(part, by=by)} / ({total(whole, by=by)} > 0)"


def quantile(q: float, histogram: str, *, by: str) -> str:
    """A quantile of a histogram for each `by`, interpolated inside a bucket."""
    return f"histogram_quantile({q}, {total(rate(f'{histogram}_bucket'), by=f'le, {by}')})"
