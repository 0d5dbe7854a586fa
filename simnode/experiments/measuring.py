"""Memory and backlog while something happens. Enters: processes and slabs. Leaves: rows, idle, peaks. Next: `phase.py`.

A thread looks at RssAnon of each process many times a second, because the kernel keeps no peak of
it, and at the handlers' backlog. Peaks shorter than the time between two looks are seen only if
they come often; the backlog's own peaks are exact and come from the slabs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from types import TracebackType
from typing import Self

from simnode.experiments.errors import ExperimentFailed
from simnode.experiments.slab_watch import HandlerSlab

STATUS_BYTES = 4096
"""A `/proc/<pid>/status` is half of that."""

STEADY_FOR_S = 0.25
STEADY_WITHIN_BYTES = 128 * 1024
"""A group of processes is idle when its RssAnon moved by no more in the last `STEADY_FOR_S`."""

STEADY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Row:
    """One look.

    Attributes:
        at_s: seconds that the recorder had looked for, its pauses aside.
        rss_anon: bytes of each group, in the recorder's order.
        backlog: outbound bytes that are due and not yet written.
        materialized: bytes of it that are in the heap.
    """

    at_s: float
    rss_anon: tuple[int, ...]
    backlog: int
    materialized: int


@dataclass(frozen=True, slots=True)
class Idle:
    """The memory of processes with nothing to do.

    Attributes:
        rss_anon: bytes of each group.
        is_steady: whether they came to rest; if not, what is over idle is not worth much.
    """

    rss_anon: dict[str, int]
    is_steady: bool


class RssAnonFile:
    """`/proc/<pid>/status`, opened once: a look takes 20 µs, and a pid's next owner is not mistaken for it."""

    def __init__(self, pid: int) -> None:
        self._fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> int:
        """RssAnon in bytes.

        Raises:
            ProcessLookupError: the process is gone.
        """
        text = os.pread(self._fd, STATUS_BYTES, 0)
        at = text.find(b"RssAnon:")
        if at < 0:
            raise ProcessLookupError  # a zombie has no memory
        return int(text[at + len(b"RssAnon:") : text.index(b"kB", at)]) * 1024

    def close(self) -> None:
        """Lets go of it."""
        os.close(self._fd)


class Recorder:
    """Looks for as long as the block lasts, but for its pauses, in which its clock stands still.

    Args:
        groups: the pids of each group, whose memory is added up.
        slabs: of the handlers that are at work.
        hertz: looks in a second.
    """

    def __init__(self, groups: Mapping[str, Sequence[int]], slabs: Sequence[HandlerSlab], hertz: int) -> None:
        self.names = tuple(groups)
        self.rows: list[Row] = []
        self._interval_s = 1 / hertz
        self._slabs = slabs
        self._lost: str | None = None
        self._closing = threading.Event()
        self._is_looking = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        with contextlib.ExitStack() as opened:
            self._groups = [[self._open(opened, name, pid) for pid in pids] for name, pids in groups.items()]
            self._opened = opened.pop_all()
        #: what the clock says while it stands still
        self._looked_for_s = 0.0
        #: when the latest pause ended; None in one
        self._resumed_s: float | None = None
        self.resume()

    def now(self) -> float:
        """Seconds that it has looked for."""
        resumed_s = self._resumed_s
        return self._looked_for_s if resumed_s is None else self._looked_for_s + time.monotonic() - resumed_s

    async def pause(self) -> None:
        """Looks once more, and then not before `resume`. Raises as `looked`."""
        await self.looked()
        self._is_looking.clear()
        self._looked_for_s, self._resumed_s = self.now(), None

    def resume(self) -> None:
        """Looks again."""
        self._resumed_s = time.monotonic()
        self._is_looking.set()

    async def idle(self) -> Idle:
        """Waits until no group moves any more, or `STEADY_TIMEOUT_S`.

        Raises:
            ExperimentFailed: a process ended meanwhile.
        """
        began_s = self.now()
        while True:
            self._check()
            waited_s = self.now() - began_s
            if waited_s >= STEADY_FOR_S and len(self.rows) > 1:
                idle = self._idle_of(self.rows[-max(2, round(STEADY_FOR_S / self._interval_s)) :])
                if idle.is_steady or waited_s > STEADY_TIMEOUT_S:
                    return idle
            await asyncio.sleep(self._interval_s)

    async def looked(self) -> None:
        """Waits until it has looked once more, so that there is a row after whatever was before.

        Raises:
            ExperimentFailed: a process ended meanwhile.
        """
        asked_s = self.now()
        while not self.rows or self.rows[-1].at_s < asked_s:
            self._check()
            await asyncio.sleep(self._interval_s)
        self._check()

    def since(self, at_s: float) -> list[Row]:
        """The rows from a time on."""
        return [row for row in self.rows if row.at_s >= at_s]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        self._is_looking.set()
        self._thread.join()
        self._opened.close()

    def _check(self) -> None:
        if self._lost is not None:
            raise ExperimentFailed(f"a process of {self._lost} ended during the phase")

    def _idle_of(self, window: Sequence[Row]) -> Idle:
        columns = list(zip(*(row.rss_anon for row in window), strict=True))
        return Idle(
            rss_anon={name: round(median(column)) for name, column in zip(self.names, columns, strict=True)},
            is_steady=all(max(column) - min(column) <= STEADY_WITHIN_BYTES for column in columns),
        )

    @staticmethod
    def _open(opened: contextlib.ExitStack, name: str, pid: int) -> RssAnonFile:
        try:
            file = RssAnonFile(pid)
        except FileNotFoundError:
            raise ExperimentFailed(f"a process of {name} ended before the phase") from None
        opened.callback(file.close)
        return file

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._closing.wait(max(0.0, next_s - time.monotonic())):
            if not self._is_looking.is_set():
                self._is_looking.wait()
                continue
            try:
                self._look()
            except ProcessLookupError:
                return
            # after a delay it goes on from now: looks in a burst would see the same thing
            next_s = max(next_s + self._interval_s, time.monotonic())

    def _look(self) -> None:
        at_s = self.now()
        anon = []
        for name, files in zip(self.names, self._groups, strict=True):
            try:
                anon.append(sum(file.read() for file in files))
            except ProcessLookupError:
                self._lost = name
                raise
        backlog = sum(slab.backlog_bytes for slab in self._slabs)
        materialized = sum(slab.materialized_bytes for slab in self._slabs)
        self.rows.append(Row(at_s, tuple(anon), backlog, materialized))
