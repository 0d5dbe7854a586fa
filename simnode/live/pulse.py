"""A process's heartbeat. Enters: a slab. Leaves: ticks, and how late they were. Next: `handler.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from simnode.live.heap import Heap
from simnode.metrics.slab import StatsSlab

TICK_S = 0.5


class Pulse:
    """Beats in the slab every `TICK_S`, measures how late the event loop is, and gives unused heap back.

    Args:
        slab: of this process; its heartbeat is what the supervisor goes by.
        on_tick: is called with the time at each beat.
    """

    #: the monotonic clock, in seconds: the one clock of `simnode.live`
    now = staticmethod(time.monotonic)

    def __init__(self, slab: StatsSlab, on_tick: Callable[[float], None]) -> None:
        self._slab = slab
        self._on_tick = on_tick
        self._lag = slab.peak("simnode_event_loop_lag_seconds")
        self._heap = Heap()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to beat."""
        self._slab.heartbeat(self.now())
        self._arm()

    def stop(self) -> None:
        """Ends it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        due = self.now() + TICK_S
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._beat, due)

    def _beat(self, due: float) -> None:
        now_s = self.now()
        self._lag.set(max(0.0, now_s - due), now_s)
        self._slab.heartbeat(now_s)
        self._arm()
        self._on_tick(now_s)
        self._heap.tidy(now_s)
