"""Where a connection's bytes are read to. Enters: what was read and not taken. Leaves: room. Next: `websocket.py`."""

from __future__ import annotations

COPIED_REST_BYTES = 4096
"""The start of a frame that is no longer than this is copied to the front of the next read."""

_NOTHING = bytearray()


class ReadBuffer:
    """The process's scratch, and a connection's own buffer for the start of a frame whose rest is still to come.

    Args:
        scratch: what is read goes here, from whichever connection; nothing stays in it between two reads.
    """

    __slots__ = ("_in_use", "_kept", "_stop", "kept_bytes", "scratch")

    def __init__(self, scratch: memoryview) -> None:
        self.scratch = scratch
        self._kept = _NOTHING
        #: how many bytes lie at the front of `_kept`
        self.kept_bytes = 0
        #: how far the rest of that frame goes
        self._stop = 0
        #: whether `_kept` was needed since the last `shrink`
        self._in_use = False

    @property
    def allocated_bytes(self) -> int:
        """Bytes in the heap of this connection's own buffer, in use or not."""
        return len(self._kept)

    @property
    def kept(self) -> memoryview:
        """What was kept, at the front."""
        return memoryview(self._kept)

    def with_kept(self) -> memoryview:
        """Where to read to, behind the first `kept_bytes` bytes, which are what was kept.

        A short rest is copied into the scratch, behind which many frames may be read. A long one
        stays where it is, with room for no more than its frame: so the next frame starts in the
        scratch, and little is ever moved.
        """
        nbytes = self.kept_bytes
        if nbytes > COPIED_REST_BYTES:
            return memoryview(self._kept)[: self._stop]
        self.scratch[:nbytes] = memoryview(self._kept)[:nbytes]
        return self.scratch

    def keep(self, view: memoryview, start: int, stop: int, wanted: int) -> None:
        """Keeps `view[start:stop]`, the start of a frame of about `wanted` bytes.

        The buffer is used again for the next one, because a fresh one of a chunk's size costs a page
        fault every 4 KiB; `shrink` ends that.
        """
        nbytes = stop - start
        wanted = max(wanted, nbytes)
        if wanted > len(self._kept):
            kept = bytearray(wanted)
            kept[:nbytes] = view[start:stop]
            self._kept = kept
        elif start or view.obj is not self._kept:
            memoryview(self._kept)[:nbytes] = view[start:stop]
        self.kept_bytes = nbytes
        self._stop = wanted
        self._in_use = True

    def clear(self) -> None:
        """Lets go of everything."""
        self._kept = _NOTHING
        self.kept_bytes = 0

    def shrink(self) -> None:
        """Lets go of a buffer that was not needed since the last call."""
        if not (self._in_use or self.kept_bytes):
            self._kept = _NOTHING
        self._in_use = False
