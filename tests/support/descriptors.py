"""A process with few file descriptors left. Enters: a pid. Leaves: its limit, lowered for the length of a block."""

from __future__ import annotations

import itertools
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def descriptors_left(pid: int, spare: int = 0) -> Iterator[None]:
    """For the block, the process can open `spare` more descriptors than it has open now."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    listed = [int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    # the listing's own descriptor is gone by now, if it was of this process
    taken = {number for number in listed if os.path.lexists(f"/proc/{pid}/fd/{number}")}
    free = (number for number in range(soft) if number not in taken)
    limit = next(itertools.islice(free, spare, None), soft)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
