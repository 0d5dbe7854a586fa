"""A reader's mappings of the store's segments. Enters: names. Leaves: `Segment`s, held. Next: `reader.py`."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from simnode.storage.errors import OutOfDescriptors, SegmentGone
from simnode.storage.segments import Segment

Opened = TypeVar("Opened")

GIVEN_UP_AT_ONCE: Final = 16
"""Idle mappings given up when no descriptor is left: for a few more that will be wanted at once."""


class SegmentCache:
    """Read-only mappings by name, the least recently used given up first.

    A mapping that is not held costs address space and two descriptors, but promises nothing: the
    segment may have been recycled under another name meanwhile. `read` finds that out.

    Args:
        directory: where the segments are.
        capacity: mappings kept, held or not. One that falls out while held lives until it is released.
    """

    def __init__(self, directory: Path, capacity: int) -> None:
        self.directory: Final = directory
        self.capacity: Final = capacity
        self._mapped: OrderedDict[str, Segment] = OrderedDict()

    def __len__(self) -> int:
        return len(self._mapped)

    def read(self, name: str) -> Segment:
        """The segment, with the shared lock held; hand it to `release` when its last byte has left.

        Raises:
            SegmentGone: the name means no segment any more: look up again where you have it from.
            SegmentFailure: it cannot be opened or mapped, not even without the mappings that nobody reads.
        """
        segment = self._mapped.get(name)
        if segment is None:
            segment = self.open(name)
            self._mapped[name] = segment
            if len(self._mapped) > self.capacity:
                self._mapped.popitem(last=False)
        else:
            self._mapped.move_to_end(name)
        try:
            segment.acquire_read()
        except SegmentGone:
            self._mapped.pop(name, None)
            raise
        return segment

    def open(self, name: str, *, writable: bool = False) -> Segment:
        """A segment of the caller's own, for which idle mappings are given up if no descriptor is left.

        Raises:
            SegmentGone, SegmentFailure: as `Segment.open`; `OutOfDescriptors` only when no mapping is idle.
        """
        return self.with_descriptors(partial(Segment.open, self.directory, name, writable=writable))

    def with_descriptors(self, work: Callable[[], Opened]) -> Opened:
        """Does what needs descriptors, and gives idle mappings up as often as none is left.

        Raises:
            OutOfDescriptors: no mapping is idle; and whatever else `work` raises.
        """
        while True:
            try:
                return work()
            except OutOfDescriptors:
                if not self.give_up_idle():
                    raise

    def give_up_idle(self, at_most: int = GIVEN_UP_AT_ONCE) -> int:
        """Forget mappings that nobody reads, the least recently used first; how many there were."""
        idle = list(islice((name for name, segment in self._mapped.items() if not segment.is_held), at_most))
        for name in idle:
            self._mapped.pop(name).close()
        return len(idle)

    def release(self, segment: Segment) -> None:
        """End one `read`. A segment that lost its name meanwhile is forgotten, lest an idle mapping keep its memory."""
        segment.release_read()
        if not segment.is_held and segment.is_unlinked() and self._mapped.get(segment.name) is segment:
            del self._mapped[segment.name]

    def forget_unlinked(self) -> None:
        """Forget idle mappings of segments without a name: where no holes are punched, they keep the bytes on the disk.

        It costs a system call for each idle mapping.
        """
        gone = [name for name, segment in self._mapped.items() if not segment.is_held and segment.is_unlinked()]
        for name in gone:
            del self._mapped[name]

    def clear(self) -> None:
        """Forget every mapping; those that are held live until they are released."""
        self._mapped.clear()
