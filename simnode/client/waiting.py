"""Waiting for shared state to change. Enters: a change. Leaves: woken coroutines. Next: `addresses.py`."""

from __future__ import annotations

import asyncio


class Change:
    """Wakes every coroutine that waits, all of one event loop; each then looks for itself whether it may go on."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def notify(self) -> None:
        """Something changed."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        """Returns after the next `notify`. The caller checks its condition first, without an await in between."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter
