"""The segments that rows refer to. Enters: ranges of them. Leaves: word to the reassembly service. Next: `placing.py`.

The store decides alone what is kept, and tells the service in the order in which it happens:
`stored` of what a write keeps, `retire` of what no row refers to any more. Nobody waits for it, so a
large PUT costs no round trip to the service. That is safe because the service asks before it frees a
segment whose owner is dead or in doubt (`holds`): one that no write refers to by then is *denied*
for good, so a write that comes too late is refused instead of being given bytes that are somebody
else's by now.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from simnode.live.link import LinkClient, LinkRefusal
from simnode.live.store_codes import FULL, LOST, LOST_TEXT
from simnode.protocol.limits import MIB
from simnode.storage.rows import SegmentRef
from simnode.storage.segment_file import page_range

TOLD_LATER_BYTES = 4 * MIB
"""Of up to so many bytes, kept or retired, the service hears with the next call, or tick: fewer system calls."""


class KeptSegments:
    """What the store keeps, within its limit.

    Args:
        directory: of the segments.
        service: the link to who leases them.
        limit_bytes: pages of segments that rows refer to, and what lies in the index, all together.
        held_bytes: of these pages, those that rows referred to before this process began; the service knows.
        inline_bytes: in the index, before this process began, with `ENTRY_BYTES` for each entry.
        trims: whether the pages around what rows refer to are given back; if not, whole segments count.
    """

    def __init__(
        self,
        directory: Path,
        service: LinkClient,
        *,
        limit_bytes: int,
        held_bytes: int = 0,
        inline_bytes: int = 0,
        trims: bool = True,
    ) -> None:
        self._prefix: Final = os.path.join(directory, "")
        self._service = service
        self._limit_bytes: Final = limit_bytes
        #: pages that count, in bytes
        self.held_bytes = held_bytes
        #: bytes in the index that count
        self.inline_bytes = inline_bytes
        #: segments with room behind the state: name -> capacity in bytes, all of which counts
        self._capacities: dict[str, int] = {}
        self._trims: Final = trims
        #: without trimming: name -> what the segment counts for, in bytes
        self._lengths: dict[str, int] = {}
        self._denied: set[str] = set()
        self._untold_bytes = 0

    def found(self, refs: Iterable[SegmentRef]) -> None:
        """What rows referred to before this process began, where it is not known how many pages that is."""
        for ref in refs:
            if not self._trims:
                with contextlib.suppress(FileNotFoundError):  # lost; whoever reads it is told
                    self._lengths[ref.name] = os.stat(f"{self._prefix}{ref.name}").st_size
            self.held_bytes += self._pages_of(ref)

    def keep(self, ref: SegmentRef, *, capacity: int | None = None) -> None:
        """A row will refer to `ref`, and to nothing else in that segment.

        Args:
            ref: of a segment that was leased for it.
            capacity: of the segment, in bytes, if the state may grow in it; else the pages around `ref` are given back.

        Raises:
            LinkRefusal: `FULL`, or `LOST` when the segment is gone, or as good as gone.
        """
        name = ref.name
        try:
            nbytes = os.stat(f"{self._prefix}{name}").st_size
        except FileNotFoundError:
            nbytes = -1
        if ref.stop > nbytes or name in self._denied:
            raise LinkRefusal(LOST, LOST_TEXT)
        if capacity is not None:
            pages = capacity
        elif self._trims:
            pages = self._pages_of(ref)
        else:
            pages = nbytes
        self._admit(pages)
        self.held_bytes += pages
        start, stop = ref.start, ref.stop
        if capacity is not None:
            self._capacities[name] = capacity
            start, stop = 0, capacity
        elif not self._trims:
            self._lengths[name] = nbytes
        self._untold_bytes += pages
        self._service.cast_later("stored", name, start, stop, ref.nbytes)

    def admit_inline(self, nbytes: int) -> None:
        """Judges a batch by how many bytes it adds to the index; once committed, they are added to `inline_bytes`.

        Raises:
            LinkRefusal: `FULL`.
        """
        if nbytes > 0:
            self._admit(nbytes)

    def _admit(self, nbytes: int) -> None:
        after = self.held_bytes + self.inline_bytes + nbytes
        if after > self._limit_bytes:
            raise LinkRefusal(FULL, f"what is stored would take {after} of {self._limit_bytes} bytes")

    def retire(self, refs: Iterable[SegmentRef]) -> None:
        """No row refers to these any more, or ever will."""
        for ref in refs:
            pages = self._pages_of(ref)
            self.held_bytes -= pages
            self._untold_bytes += pages
            self._capacities.pop(ref.name, None)
            self._lengths.pop(ref.name, None)
            self._service.cast_later("retire", ref.name)

    def tell(self) -> None:
        """Has the service hear of all that now, if it is much."""
        if self._untold_bytes > TOLD_LATER_BYTES:
            self._untold_bytes = 0
            self._service.flush()

    def capacity_of(self, ref: SegmentRef) -> int:
        """How far the state at `ref` may grow where it is: offset in bytes, 0 if not at all."""
        return self._capacities.get(ref.name, 0)

    def deny(self, names: Iterable[str]) -> None:
        """The service will free these."""
        # those it has freed are found to be gone anyway
        self._denied = {name for name in self._denied if os.path.exists(f"{self._prefix}{name}")}
        self._denied.update(names)

    def _pages_of(self, ref: SegmentRef) -> int:
        whole = self._capacities.get(ref.name) or self._lengths.get(ref.name)
        if whole is not None:
            return whole
        first, last = page_range(ref.start, ref.stop)
        return last - first
