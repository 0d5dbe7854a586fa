"""Standard output for our lines only. Enters: descriptors. Leaves: a stream. Next: `supervise.py`.

Ray and other libraries print where it suits them (a coloured line on standard output when a worker
dies), and whoever reads a node's output expects our lines alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def own_output() -> Iterator[TextIO]:
    """Gives standard output as a stream of our own; what others print there goes to standard error meanwhile."""
    sys.stdout.flush()
    descriptor = os.dup(1)  # not inherited: a reader sees the end of the stream when this process ends
    os.dup2(2, 1)
    try:
        with open(descriptor, "w", encoding="utf-8", buffering=1, closefd=False) as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(descriptor, 1)
        os.close(descriptor)
