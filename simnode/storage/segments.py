"""A segment as memory: one mapped file. Enters: a name. Leaves: `Segment` and its Blobs. Next: `pool.py`, `cache.py`.

A handler writes a message into a leased segment once; everybody else reads those very pages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from simnode.protocol.blob import Blob, Buffer
from simnode.storage.segment_file import SegmentFile, page_range

DESCRIPTORS_OF_A_SEGMENT: Final = 2
"""One is the mapping's own."""


class Segment:
    """One mapped segment. Not thread-safe: it belongs to the thread that opened it.

    A mapping dies with its last memoryview, whoever holds it, so dropping or closing a Segment
    never fails and never hurts a Blob that is still on its way to a socket. A lock that is held
    when the Segment is closed lasts until those views are gone, too.

    A Segment costs `DESCRIPTORS_OF_A_SEGMENT` file descriptors.
    """

    __slots__ = ("_file", "_readers", "map")

    def __init__(self, file: SegmentFile) -> None:
        self._file: Final = file
        #: how many `acquire_read` are not yet released; the shared lock is held while it is not zero
        self._readers = 0
        #: the whole segment; writable if the segment was opened so; empty once closed
        self.map = memoryview(file.map())

    @classmethod
    def create(cls, directory: Path, name: str, nbytes: int) -> Segment:
        """A new segment of `nbytes` allocated bytes, writable, with the shared lock held (see `open`).

        Raises:
            OutOfSpace, SegmentFailure: the filesystem is full, or no descriptor is left; nothing is left behind.
        """
        file = SegmentFile.create(directory, name, nbytes)
        try:
            segment = cls(file)
            segment.acquire_read()
        except BaseException:
            file.unlink()
            raise
        return segment

    @classmethod
    def open(cls, directory: Path, name: str, *, writable: bool = False) -> Segment:
        """An existing segment.

        A writable one comes with the shared lock held (as by one `acquire_read`): its bytes must
        not become somebody else's while this process may still write them. A writer lets go of
        it before it gives the lease back, else the segment can only be unlinked, not recycled.

        Raises:
            SegmentGone: there is no such segment any more.
            SegmentFailure: it cannot be opened or mapped; `OutOfDescriptors` if that may change.
        """
        segment = cls(SegmentFile.open(directory, name, writable=writable))
        if writable:
            segment.acquire_read()
        return segment

    @property
    def name(self) -> str:
        """The name inside the directory."""
        return self._file.name

    @property
    def nbytes(self) -> int:
        """Mapped bytes; zero once closed."""
        return len(self.map)

    def blob(self, start: int, stop: int) -> Blob:
        """The bytes from `start` up to `stop`, by reference and read-only.

        Raises:
            IndexError: the range is not inside the segment (whoever made the reference is wrong).
        """
        if not 0 <= start <= stop <= len(self.map):
            raise IndexError(f"[{start}:{stop}] is outside segment {self.name} of {len(self.map)} bytes")
        return Blob(self.map[start:stop].toreadonly(), origin=self, start=start)

    def acquire_read(self) -> None:
        """Hold the shared lock once more: until the matching `release_read` the bytes stay what they are.

        Raises:
            SegmentGone: the name means another segment, or none, by now; nothing is held.
        """
        if self._readers == 0:
            self._file.lock_shared()
        self._readers += 1

    def release_read(self) -> None:
        """Undo one `acquire_read`."""
        assert self._readers > 0, f"segment {self.name} is not held"
        self._readers -= 1
        if self._readers == 0:
            self._file.unlock()

    @property
    def is_held(self) -> bool:
        """Whether this object holds the shared lock."""
        return self._readers > 0

    def is_unlinked(self) -> bool:
        """Whether the segment has lost its name, so that only mappings like this one keep its memory."""
        return self._file.is_unlinked()

    def try_lock_exclusive(self) -> bool:
        """Take the exclusive lock if no process holds any; `unlock_exclusive` ends it."""
        assert self._readers == 0, f"segment {self.name} is held for reading here"
        return self._file.try_lock_exclusive()

    def unlock_exclusive(self) -> None:
        """Let go of the exclusive lock."""
        self._file.unlock()

    def grow(self, nbytes: int) -> None:
        """Make the segment at least `nbytes` long and map it anew; older views stay valid.

        Raises:
            OutOfSpace, SegmentFailure: the filesystem is full, or no descriptor is left; older views stay valid.
        """
        self._file.extend(nbytes)
        if self._file.nbytes > len(self.map):
            self.map = memoryview(self._file.map())

    def trim(self, start: int, stop: int) -> None:
        """Give back the whole pages outside `[start, stop)`; what is read there from now on is zeros."""
        first, last = page_range(start, stop)
        self._file.punch(0, first)
        self._file.punch(last, self._file.nbytes)

    def write(self, offset: int, data: Buffer) -> None:
        """Copy `data` to `offset`: the way to fill a leased segment, two to three times as fast as through `map`.

        Raises:
            IndexError: it does not fit (the caller's fault).
            OutOfSpace, SegmentFailure: the filesystem or the disk does not take it.
        """
        self._file.write(offset, data)

    def sync(self) -> None:
        """Return when the segment's bytes are on the disk."""
        self._file.sync()

    def close(self) -> None:
        """Drop the mapping and the descriptor. Idempotent; Blobs already given out stay valid."""
        self.map = memoryview(b"")
        self._file.close()

    def __repr__(self) -> str:
        return f"<Segment {self.name} of {self.nbytes} bytes>"
