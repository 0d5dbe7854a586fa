"""Where payloads stay. Enters: payloads in flight. Leaves: extents that a row may refer to. Next: `store.py`.

A state is one extent: up to 64 KiB in the row itself, above that one range of one segment. The
segment that a message arrived in is kept as it is when the state is all there is to keep of it;
everything else is copied into a segment leased for it. A state that grows by deltas moves into a
segment with room to grow, so that appending n bytes costs n bytes, not the state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

from simnode.live.link import LinkClient, LinkRefusal
from simnode.live.payloads import INLINE_BYTES, Payload, payload_nbytes
from simnode.protocol.blob import same_bytes
from simnode.storage.errors import SegmentGone
from simnode.storage.rows import Extents, SegmentRef
from simnode.storage.segment_file import sync_directory
from simnode.storage.segments import Segment

T = TypeVar("T")

OFF_LOOP_BYTES = 256 * 1024
"""More bytes than this are hashed, compared or copied in a thread: the event loop must not stall."""

LOST = "lost"


class Placed(Protocol):
    """The batch that a placement belongs to."""

    new_segments: list[str]


class Placer:
    """Puts payloads where they will stay.

    Args:
        directory: of the segments.
        service: the link to who leases them.
        durable: whether a segment is synced before its row is committed.
    """

    def __init__(self, directory: Path, service: LinkClient, *, durable: bool) -> None:
        self._directory = directory
        self._service = service
        self._durable = durable
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="store-bytes")
        #: segments of ours with room behind the state: name -> capacity in bytes
        self._growing: dict[str, int] = {}

    async def run(self, nbytes: int, work: Callable[..., T], *args: Any) -> T:
        """Does `work` here, or in a thread when it is about many bytes."""
        if nbytes <= OFF_LOOP_BYTES:
            return work(*args)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def place(self, parts: list[Payload], placed: Placed) -> tuple[Extents, str | None]:
        """A whole state. Returns its extents and the message's segment if the row refers to it now.

        Raises:
            LinkRefusal: no room, or the segment is gone.
            LinkLost: the reassembly service is.
        """
        first = parts[0]
        if len(parts) == 1 and isinstance(first, list) and payload_nbytes(first) > INLINE_BYTES:
            name, start, stop = first
            if self._durable:
                await self.run(stop - start, _sync, self._directory, name)
            await self._service.call("stored", name, start, stop, stop - start)
            placed.new_segments.append(name)
            return (SegmentRef(name, start, stop),), name
        return await self.copy(parts, placed), None

    async def copy(self, parts: list[Payload], placed: Placed, *, spare_bytes: int = 0) -> Extents:
        """The parts, joined, in the row or in a segment of their own. Raises as `place`."""
        nbytes = sum(map(payload_nbytes, parts))
        if nbytes <= INLINE_BYTES:
            return (b"".join(_read(self._directory, part) for part in parts),) if nbytes else ()
        name, capacity = await self._service.call("lease", nbytes + spare_bytes)
        try:
            await self.run(nbytes, _write, self._directory, name, 0, parts, self._durable)
            await self._service.call("stored", name, 0, capacity if spare_bytes else nbytes, nbytes)
        except LinkRefusal:  # a part is gone, or the store is full
            self._service.cast("release", name)
            raise
        placed.new_segments.append(name)
        if spare_bytes:
            self._growing[name] = capacity
        return (SegmentRef(name, 0, nbytes),)

    def forget(self, names: Iterable[str]) -> None:
        """These segments are no state's any more."""
        for name in names:
            self._growing.pop(name, None)

    async def append(self, state: Extents, delta: Payload, placed: Placed) -> tuple[Extents, Payload]:
        """A state with `delta` behind it: its extents, and where the delta can be read now. Raises as `place`."""
        nbytes = payload_nbytes(delta)
        if len(state) == 1 and isinstance(state[0], SegmentRef):
            ref = state[0]
            if self._growing.get(ref.name, 0) - ref.stop >= nbytes:
                # readers of the old row see nothing of this: their range ends before it
                await self.run(nbytes, _write, self._directory, ref.name, ref.stop, [delta], self._durable)
                grown = SegmentRef(ref.name, ref.start, ref.stop + nbytes)
                return (grown,), _readable(delta, grown, nbytes)
        current = [
            extent if isinstance(extent, bytes) else [extent.name, extent.start, extent.stop] for extent in state
        ]
        total = sum(map(payload_nbytes, current)) + nbytes
        extents = await self.copy([*current, delta], placed, spare_bytes=total // 2)
        last = extents[-1]
        return extents, _readable(delta, last, nbytes) if isinstance(last, SegmentRef) else delta


def _readable(delta: Payload, ref: SegmentRef, nbytes: int) -> Payload:
    """A small delta travels as it is; a large one is read out of the state it ended up in."""
    return delta if isinstance(delta, bytes) else [ref.name, ref.stop - nbytes, ref.stop]


def _open(directory: Path, name: str, *, writable: bool = False) -> Segment:
    try:
        segment = Segment.open(directory, name, writable=writable)
    except SegmentGone as gone:
        raise LinkRefusal(LOST, f"segment {gone} is gone") from gone
    return segment


def _view(directory: Path, payload: Payload) -> memoryview:
    if isinstance(payload, bytes):
        return memoryview(payload)
    name, start, stop = payload
    return _open(directory, name).map[start:stop]


def _read(directory: Path, payload: Payload) -> bytes:
    return bytes(_view(directory, payload))


def _write(directory: Path, name: str, offset: int, parts: list[Payload], durable: bool) -> None:
    segment = _open(directory, name, writable=True)
    at = offset
    for part in parts:
        view = _view(directory, part)
        segment.write(at, view)
        at += len(view)
    if durable:
        segment.sync()
        sync_directory(directory)
    segment.release_read()
    segment.close()


def _sync(directory: Path, name: str) -> None:
    segment = _open(directory, name)
    segment.sync()
    segment.close()
    sync_directory(directory)


def compare(directory: Path, state: Extents, payload: Payload) -> bool:
    """Whether a state holds the very bytes of a payload of the same length."""
    theirs = _view(directory, payload)
    at = 0
    for extent in state:
        view = _view(directory, extent if isinstance(extent, bytes) else [extent.name, extent.start, extent.stop])
        if not same_bytes(view, theirs[at : at + len(view)]):
            return False
        at += len(view)
    return True


def feed_hash(directory: Path, state_hash: Any, payloads: list[Payload]) -> None:
    """Puts payloads into a running BLAKE3."""
    for payload in payloads:
        state_hash.update(_view(directory, payload))
