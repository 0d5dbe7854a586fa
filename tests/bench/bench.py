"""One run of the benchmark. Enters: how much effort. Leaves: results. Next: `works/`.

Servers take turns, A B A B …; what is not measured is stopped meanwhile, so that it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.driving import DriverFailed
from tests.bench.effort import Effort
from tests.bench.measure import CpuUse, others_share
from tests.bench.processes import (
    OBVIOUS_PYTHON,
    REFERENCE,
    STARTERS,
    Cores,
    Server,
    Starter,
    Unavailable,
    pin,
)
from tests.bench.results import Results
from tests.bench.rows import Row

SOON_STARTED = frozenset({REFERENCE, OBVIOUS_PYTHON})
"""Servers that start at once, so that each memory figure can have a fresh one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one measurement gave: figures by name, and the share of its core that the driver used, if known."""

    figures: dict[str, float]
    driver: float | None = None


Measure = Callable[[Server], Sample]


class Bench:
    """Everything that the works share.

    Args:
        effort: how much to do.
        cores: who runs where.
        disk: a directory on the disk that durability is measured on.
        say: told what is being done.
    """

    def __init__(self, effort: Effort, cores: Cores, disk: Path, say: Callable[[str], None]) -> None:
        self.effort = effort
        self.disk = disk
        self.results = Results()
        self._cores = cores
        self._say = say
        self._machine_cores = psutil.cpu_count() or 1
        #: how each server is started; a work may add one of its own
        self.starters: dict[str, Starter] = dict(STARTERS)
        self._running: dict[str, tuple[Server, ExitStack]] = {}

    def close(self) -> None:
        """Ends all servers, each even if another does not end as it should."""
        with ExitStack() as ends:
            for name in self._running:
                ends.callback(self.end, name)

    def alternate(self, row: Row, what: str, servers: Sequence[str], measure: Measure, *, afresh: bool = False) -> None:
        """Measures each server in turn, and those that the verdict rests on `effort.rounds` times over.

        A server that cannot be had, or whose driver fails, is left out of the remaining rounds, with the reason.

        Args:
            row: whose results these are.
            what: is measured, for the log.
            servers: names of those that take part.
            measure: what to do with each.
            afresh: whether servers that start soon start anew for each round.
        """
        results = self.results.of(row)
        for number in range(self.effort.rounds):
            for name in servers:
                is_judged = name in (row.subject, REFERENCE)
                if not self.effort.takes_part(name, number, is_judged=is_judged) or (what, name) in results.problems:
                    continue
                self._say(f"{row.key}: {what}, {name}, round {number + 1} of {self.effort.rounds}")
                if afresh and name in SOON_STARTED:
                    self.end(name)
                try:
                    with self.only(name) as server:
                        before = CpuUse.now(self._pids())
                        sample = measure(server)
                        after = CpuUse.now(self._pids())
                except (Unavailable, DriverFailed) as error:
                    results.problems[what, name] = str(error)
                    continue
                others = others_share(before, after, self._machine_cores)
                results.add(name, sample.figures, others=others, driver=sample.driver)

    @contextmanager
    def only(self, name: str) -> Iterator[Server]:
        """A server, started if need be, that has its core for itself; stopped again afterwards."""
        server, _ = self._running.get(name) or self._start(name)
        server.resume()
        try:
            yield server
        finally:
            server.pause()

    def end(self, name: str) -> None:
        """Ends a server that may be running; whoever wants it next gets a fresh one."""
        running = self._running.pop(name, None)
        if running is not None:
            server, stack = running
            server.resume()
            stack.close()

    def _start(self, name: str) -> tuple[Server, ExitStack]:
        self._say(f"starting {name}")
        with ExitStack() as stack:
            server = stack.enter_context(self.starters[name]())
            server.name = name
            pin(server.pids(), self._cores.server)
            self._running[name] = server, stack.pop_all()
        return self._running[name]

    def _pids(self) -> list[int]:
        return [pid for server, _ in self._running.values() for pid in server.pids()]
