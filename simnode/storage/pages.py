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


def emptied(file: SegmentFile, *, punches: bool) -> bool:
    """Whether nobody holds a segment that is not needed; if so, its pages are free (see `empty`)."""
    if not file.try_lock_exclusive():
        return False
    empty(file, punches=punches)
    return True


def empty(file: SegmentFile, *, punches: bool) -> None:
    """Free the pages at once: an idle mapping in some cache would keep those of an unlinked file for long.

    Args:
        file: with the exclusive lock held.
        punches: whether the filesystem can; else the pages go with the last mapping.
    """
    if punches:
        file.punch(0, file.nbytes)
