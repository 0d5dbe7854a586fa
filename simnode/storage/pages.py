"""What becomes of a segment's pages when nobody needs its bytes. Enters: open files. Next: `pool.py`, their user."""

from __future__ import annotations

from simnode.storage.errors import OutOfSpace
from simnode.storage.segment_file import SegmentFile


def filled(file: SegmentFile, holes: list[tuple[int, int]]) -> bool:
    """Allocate what trimming gave back; whether the filesystem had room for it."""
    try:
        for start, stop in holes:
            file.allocate(start, stop)
    except OutOfSpace:
        return False
    return True


def emptied(file: SegmentFile) -> bool:
    """Whether the pages of a segment that is not needed could be freed: nobody holds it."""
    if not file.try_lock_exclusive():
        return False
    empty(file)
    return True


def empty(file: SegmentFile) -> None:
    """Free the pages at once: an idle mapping in some cache would keep those of an unlinked file for long."""
    file.punch(0, file.nbytes)
