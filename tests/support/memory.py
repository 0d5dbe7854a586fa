"""What a live node holds in memory, beside what it held when it was idle.

Enters: a node. Leaves: bytes of anonymous memory (heap; mapped segments do not count), summed over its roles.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simnode.metrics.reader import read_slot
from simnode.metrics.slab import slab_directory
from tests.support.live_node import LiveNode

SAMPLE_S = 0.01


def anonymous_bytes(pids: list[int]) -> int:
    """RssAnon of these processes together; one that is gone counts nothing."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) * 1024
    return total


def role_pids(node: LiveNode) -> list[int]:
    """The processes of the node's roles, without the supervisor and Ray's daemons."""
    found = []
    for path in slab_directory(node.run_dir).glob("*.slab"):
        record = read_slot(path)
        if record.process is not None:
            found.append(record.process.pid)
    assert found, "no slabs"
    return found


class MemoryWatch:
    """How far above idle a node's memory is.

    Args:
        node: that is idle now.
    """

    def __init__(self, node: LiveNode) -> None:
        self._pids = role_pids(node)
        self.idle_bytes = anonymous_bytes(self._pids)
        self.peak_bytes = 0
        self._is_over = threading.Event()

    @property
    def growth_bytes(self) -> int:
        """Above idle, now."""
        return anonymous_bytes(self._pids) - self.idle_bytes

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Takes samples for as long as the block lasts; `peak_bytes` is the highest growth of all of them."""
        thread = threading.Thread(target=self._sample)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _sample(self) -> None:
        while not self._is_over.is_set():
            self.peak_bytes = max(self.peak_bytes, self.growth_bytes)
            time.sleep(SAMPLE_S)
