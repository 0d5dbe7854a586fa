"""A handler's backlog, looked at as often as one likes. Enters: a run directory. Leaves: bytes. Next: `measuring.py`.

`simnode.metrics.reader` copies whole slabs, which takes a fifth of a millisecond each; here three
cells are read where they are mapped.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType
from typing import Self

from simnode.metrics.cells import PEAK_CELLS, peak_for_life
from simnode.metrics.layout import layout_of
from simnode.metrics.model import Kind, Role
from simnode.metrics.slab import HEADER_BYTES, slab_path

_LAYOUT = layout_of(Role.CONNECTION_HANDLER)
_BACKLOG = _LAYOUT.block("simnode_backlog_bytes", Kind.PEAK).cell({"direction": "outbound"})
_MATERIALIZED = _LAYOUT.block("simnode_outbound_materialized_bytes", Kind.PEAK).cell({})
_OPENED = _LAYOUT.block("simnode_connections_opened_total", Kind.COUNTER).cell({})


class HandlerSlab:
    """The slab of one ConnectionHandler, open for reading.

    Args:
        run_dir: of the node.
        slot: of the handler.
    """

    def __init__(self, run_dir: Path, slot: int) -> None:
        self.slot = slot
        with slab_path(run_dir, Role.CONNECTION_HANDLER, slot).open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._body = memoryview(self._map)[HEADER_BYTES:]
        self._cells: memoryview[float] = self._body.cast("d")

    @property
    def connections_opened(self) -> int:
        """WebSocket connections that it has had."""
        return int(self._cells[_OPENED])

    @property
    def backlog_bytes(self) -> int:
        """Due to clients and not yet written, now."""
        return int(self._cells[_BACKLOG])

    @property
    def materialized_bytes(self) -> int:
        """Of the backlog, what is in the heap, now."""
        return int(self._cells[_MATERIALIZED])

    @property
    def backlog_peak_bytes(self) -> int:
        """The highest backlog ever: exact, for it is counted where it changes."""
        return int(peak_for_life(self._cells[_BACKLOG : _BACKLOG + PEAK_CELLS], 0))

    @property
    def materialized_peak_bytes(self) -> int:
        """The most that was ever in the heap, exactly."""
        return int(peak_for_life(self._cells[_MATERIALIZED : _MATERIALIZED + PEAK_CELLS], 0))

    def close(self) -> None:
        """Lets go of the file."""
        self._cells.release()
        self._body.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
