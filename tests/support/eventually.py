"""Waiting for something in the same event loop, without a clock. Next: `live_node.py` for another process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

TIMEOUT_S = 5.0


async def eventually(is_true: Callable[[], object]) -> None:
    """Lets the event loop turn until something has happened."""
    async with asyncio.timeout(TIMEOUT_S):
        for _ in itertools.count():
            if is_true():
                return
            await asyncio.sleep(0)
