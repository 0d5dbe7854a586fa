"""What becomes of a segment's pages when nobody needs its bytes. Enters: open files. Next: `pool.py`, their user."""

from __future__ import annotations

from simnode.storage.errors import OutOfSpace, SegmentFailure
from simnode.storage.segment_file import SegmentFile


def filled(file: SegmentFile, holes: list[tuple[int, int]]) -> bool:
    """Allocate what trimming gave back; whether the filesystem had room for it."""
    try:
        for start, stop in holes:
            file.allocate(start, stop)
    except (OutOfSpace, SegmentFailure):
        return False
    return True


def emptied(file: SegmentFile) -> bool:
    """Whether the pages of a segment that is not needed could be freed at once: nobody holds it.

    An idle mapping in some cache would keep those of an unlinked file for long.
    """
    if not file.try_lock_exclusive():
        return False
    try:
        file.punch(0, file.nbytes)
    except SegmentFailure:  # out of descriptors, say
        return False
    return True
