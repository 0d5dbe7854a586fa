"""What the allocator keeps of a burst, given back to the kernel. Enters: ticks. Leaves: nothing. Next: `pulse.py`.

glibc keeps freed memory for the next burst: after one of 2 GiB a process kept up to all of it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from simnode.protocol.limits import MIB

WORTH_BYTES: Final = 8 * MIB
"""So far above its smallest size must a process be: to give memory back takes up to some milliseconds."""

QUIET_BYTES: Final = MIB
"""A process whose size has changed by more than this since the last look is busy, and left alone."""

INTERVAL_S: Final = 4.0
"""How long between two attempts."""

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def anonymous_bytes() -> int:
    """This process's anonymous memory, in bytes: its heap and stacks, without mapped segments."""
    _, resident, shared, *_ = Path("/proc/self/statm").read_text().split()
    return (int(resident) - int(shared)) * _PAGE_BYTES


def malloc_trim() -> None:
    """Has glibc give the free pages of all its arenas back; nothing happens where the C library is another."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Heap:
    """Decides when to give memory back, and does so.

    Args:
        size: of the process's anonymous memory, in bytes.
        trim: gives back what is free.
    """

    def __init__(self, size: Callable[[], int] = anonymous_bytes, trim: Callable[[], None] = malloc_trim) -> None:
        self._size = size
        self._trim = trim
        #: the smallest size that was seen when the process was quiet
        self._base_bytes = 0
        self._seen_bytes = 0
        self._next_at = 0.0

    def tidy(self, now_s: float) -> None:
        """Gives memory back if the process is quiet and much larger than it was; call it twice a second or so.

        Args:
            now_s: on a monotonic clock.
        """
        if now_s < self._next_at:
            return
        nbytes = self._size()
        is_quiet = abs(nbytes - self._seen_bytes) <= QUIET_BYTES
        self._seen_bytes = nbytes
        if not is_quiet:
            return
        if not self._base_bytes or nbytes < self._base_bytes:
            self._base_bytes = nbytes
        elif nbytes - self._base_bytes >= WORTH_BYTES:
            self._trim()
            self._next_at = now_s + INTERVAL_S
