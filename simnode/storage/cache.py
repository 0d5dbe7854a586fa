"""A reader's mappings of the store's segments. Enters: names. Leaves: `Segment`s, held. Next: `reader.py`."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Final

from simnode.storage.errors import SegmentGone
from simnode.storage.segments import Segment


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
        """
        segment = self._mapped.get(name)
        if segment is None:
            segment = Segment.open(self.directory, name)
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
