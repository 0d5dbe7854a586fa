"""Where payloads stay. Enters: payloads in flight. Leaves: extents that a row may refer to. Next: `row_changes.py`.

A state is one extent: up to 64 KiB in the row itself, above that one range of one segment. The
segment that a message arrived in is kept as it is when the state is all there is to keep of it;
everything else is copied into a segment leased for it. A state that grows by deltas moves into a
segment with room to grow, so that appending n bytes costs n bytes, not the state.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from simnode.live.link import LinkClient, LinkRefusal
from simnode.live.payloads import INLINE_BYTES, Payload, payload_nbytes
from simnode.live.store.kept_segments import KeptSegments
from simnode.live.store_codes import LOST, LOST_TEXT
from simnode.protocol.blob import same_bytes
from simnode.storage.errors import SegmentGone
from simnode.storage.rows import Extents, SegmentRef, extents_nbytes
from simnode.storage.segment_file import sync_directory, typed_failure
from simnode.storage.segments import Segment

T = TypeVar("T")

OFF_LOOP_BYTES = 256 * 1024
"""More bytes than this are hashed, compared or copied in a thread: the event loop must not stall."""

COMPARED_FIRST_BYTES = 4096
"""At each end of two payloads, before all of them is compared: most differ there."""


class Placer:
    """Puts payloads where they will stay.

    The segments that a placement fills are added to its `new_segments`, for whoever has to undo it.

    Args:
        directory: of the segments.
        service: the link to who leases them.
        kept: what rows refer to.
        durable: whether a segment is synced before its row is committed.
    """

    def __init__(self, directory: Path, service: LinkClient, kept: KeptSegments, *, durable: bool) -> None:
        self._directory = directory
        self._service = service
        self._kept = kept
        self._durable = durable
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="store-bytes")

    async def place(self, parts: list[Payload], new_segments: list[SegmentRef]) -> tuple[Extents, str | None]:
        """A whole state. Returns its extents and the message's segment if the row refers to it now.

        Raises:
            LinkRefusal: no room, or a segment is gone.
            LinkLost: a copy needs a segment, and the reassembly service is away.
            OutOfSpace, SegmentFailure: the disk or the descriptors do not suffice.
        """
        first = parts[0]
        if isinstance(first, bytes) or len(parts) > 1 or payload_nbytes(first) <= INLINE_BYTES:
            return await self.copy(parts, new_segments), None
        name, start, stop = first
        if self._durable:
            await self._run(stop - start, _sync, self._directory, name)
        ref = SegmentRef(name, start, stop)
        self._kept.keep(ref)
        new_segments.append(ref)
        return (ref,), name

    async def copy(self, parts: list[Payload], new_segments: list[SegmentRef], *, spare_bytes: int = 0) -> Extents:
        """The parts, joined, in the row or in a segment of their own. Raises as `place`."""
        if len(parts) == 1 and type(parts[0]) is bytes and len(parts[0]) <= INLINE_BYTES:
            return (parts[0],) if parts[0] else ()
        nbytes = sum(map(payload_nbytes, parts))
        if nbytes <= INLINE_BYTES:
            return (b"".join(_read(self._directory, part) for part in parts),) if nbytes else ()
        name, capacity = await self._service.call("lease", nbytes + spare_bytes, "")
        ref = SegmentRef(name, 0, nbytes)
        try:
            await self._run(nbytes, _write, self._directory, name, 0, parts, self._durable)
            self._kept.keep(ref, capacity=capacity if spare_bytes else None)
        except BaseException:  # a part is gone, the store is full, no descriptor is left …
            self._service.cast("release", name)
            raise
        new_segments.append(ref)
        return (ref,)

    async def holds(self, state: Extents, parts: list[Payload]) -> bool:
        """Whether a state is the very bytes of the parts, joined. Raises `LinkRefusal` if a segment is gone."""
        if len(state) == len(parts) == 1 and isinstance(parts[0], bytes) and isinstance(state[0], bytes):
            return parts[0] == state[0]
        nbytes = sum(map(payload_nbytes, parts))
        if nbytes != extents_nbytes(state):
            return False
        theirs = as_payloads(state)
        if nbytes > 2 * COMPARED_FIRST_BYTES:
            for at in (0, nbytes - COMPARED_FIRST_BYTES):
                if _piece(self._directory, theirs, at) != _piece(self._directory, parts, at):
                    return False
        return await self._run(nbytes, _compare, self._directory, theirs, parts)

    async def feed(self, state_hash: Any, payloads: list[Payload]) -> None:
        """Puts payloads into a running BLAKE3. Raises `LinkRefusal` if a segment is gone."""
        await self._run(sum(map(payload_nbytes, payloads)), _feed_hash, self._directory, state_hash, payloads)

    async def append(self, state: Extents, delta: Payload, new_segments: list[SegmentRef]) -> tuple[Extents, Payload]:
        """A state with `delta` behind it: its extents, and where the delta can be read now. Raises as `place`."""
        nbytes = payload_nbytes(delta)
        if len(state) == 1 and isinstance(state[0], SegmentRef):
            ref = state[0]
            if self._kept.capacity_of(ref) - ref.stop >= nbytes:
                # readers of the old row see nothing of this: their range ends before it
                await self._run(nbytes, _write, self._directory, ref.name, ref.stop, [delta], self._durable)
                grown = SegmentRef(ref.name, ref.start, ref.stop + nbytes)
                return (grown,), _readable(delta, grown, nbytes)
        current = as_payloads(state)
        total = sum(map(payload_nbytes, current)) + nbytes
        extents = await self.copy([*current, delta], new_segments, spare_bytes=total // 2)
        last = extents[-1]
        return extents, _readable(delta, last, nbytes) if isinstance(last, SegmentRef) else delta

    async def _run(self, nbytes: int, work: Callable[..., T], *args: Any) -> T:
        """Does `work` here, or in a thread when it is about many bytes."""
        if nbytes <= OFF_LOOP_BYTES:
            return work(*args)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


def as_payloads(extents: Extents) -> list[Payload]:
    """A stored value as it travels."""
    return [extent if isinstance(extent, bytes) else [extent.name, extent.start, extent.stop] for extent in extents]


def _readable(delta: Payload, ref: SegmentRef, nbytes: int) -> Payload:
    """A small delta travels as it is; a large one is read out of the state it ended up in."""
    return delta if isinstance(delta, bytes) else [ref.name, ref.stop - nbytes, ref.stop]


def _open(directory: Path, name: str, *, writable: bool = False) -> Segment:
    try:
        segment = Segment.open(directory, name, writable=writable)
    except SegmentGone as gone:
        raise LinkRefusal(LOST, LOST_TEXT) from gone
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


def _piece(directory: Path, parts: list[Payload], at: int) -> bytes:
    """The `COMPARED_FIRST_BYTES` at an offset of the parts, joined; a mapping would cost three times as much."""
    found = b""
    for part in parts:
        nbytes = payload_nbytes(part)
        if at < nbytes:
            found += _piece_of(directory, part, at, COMPARED_FIRST_BYTES - len(found))
        at = max(0, at - nbytes)
    return found


def _piece_of(directory: Path, payload: Payload, at: int, nbytes: int) -> bytes:
    if isinstance(payload, bytes):
        return payload[at : at + nbytes]
    name, start, stop = payload
    try:
        fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise LinkRefusal(LOST, LOST_TEXT) from error
    except OSError as error:
        raise typed_failure(error, f"segment {name} cannot be opened") from error
    try:
        return os.pread(fd, min(nbytes, stop - start - at), start + at)
    finally:
        os.close(fd)


def _compare(directory: Path, left: list[Payload], right: list[Payload]) -> bool:
    """Whether the two are the same bytes when each is joined; they are of one length."""
    ours, theirs = _views(directory, left), _views(directory, right)
    mine, other = memoryview(b""), memoryview(b"")
    while True:
        mine, other = mine or next(ours, mine), other or next(theirs, other)
        nbytes = min(len(mine), len(other))
        if not nbytes:
            return True
        if not same_bytes(mine[:nbytes], other[:nbytes]):
            return False
        mine, other = mine[nbytes:], other[nbytes:]


def _views(directory: Path, parts: list[Payload]) -> Iterator[memoryview]:
    return (_view(directory, part) for part in parts if payload_nbytes(part))


def _feed_hash(directory: Path, state_hash: Any, payloads: list[Payload]) -> None:
    for payload in payloads:
        state_hash.update(_view(directory, payload))
