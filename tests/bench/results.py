"""What was measured. Enters: samples. Leaves: medians, and how much to trust them. Next: `report.py`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tests.bench.measure import median
from tests.bench.rows import Row

BUSY_DRIVER = 0.9
"""A driver whose core is so busy may have been the limit itself."""


@dataclass(slots=True)
class Series:
    """The samples of one figure of one server.

    Attributes:
        values: in the figure's unit, in the order of the rounds.
        others: the share of the machine that others used during each, 0 to 1.
        drivers: the share of its core that the driver used; empty: not known.
    """

    values: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    drivers: list[float] = field(default_factory=list)

    @property
    def is_driver_bound(self) -> bool:
        """Whether the driver may have been the limit."""
        return bool(self.drivers) and median(self.drivers) >= BUSY_DRIVER


@dataclass(slots=True)
class RowResults:
    """One row's figures, by figure and server, and what went wrong, by measurement and server."""

    series: dict[tuple[str, str], Series] = field(default_factory=lambda: defaultdict(Series))
    problems: dict[tuple[str, str], str] = field(default_factory=dict)
    #: what else is to be known: the file system, the rate of sampling
    notes: list[str] = field(default_factory=list)

    def add(self, server: str, figures: dict[str, float], *, others: float, driver: float | None) -> None:
        """One sample of each of these figures, taken together."""
        for figure, value in figures.items():
            series = self.series[figure, server]
            series.values.append(value)
            series.others.append(others)
            if driver is not None:
                series.drivers.append(driver)

    def note(self, text: str) -> None:
        """Says it once."""
        if text not in self.notes:
            self.notes.append(text)

    def medians(self) -> dict[tuple[str, str], float]:
        """Of each figure and server that has one."""
        return {key: median(series.values) for key, series in self.series.items()}


@dataclass(slots=True)
class Results:
    """Of all rows."""

    rows: dict[str, RowResults] = field(default_factory=lambda: defaultdict(RowResults))

    def of(self, row: Row) -> RowResults:
        """One row's."""
        return self.rows[row.key]
