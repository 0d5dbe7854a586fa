"""How a payload travels between processes. Enters: Blobs. Leaves: bytes or references. Next: `session.py`."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from simnode.live.link import LinkClient
from simnode.live.pulse import Pulse
from simnode.node.ledger import Account, Kind
from simnode.protocol.blob import Blob, Buffer
from simnode.protocol.errors import SinkFailed
from simnode.storage.errors import StorageError
from simnode.storage.segments import Segment

logger = logging.getLogger(__name__)

INLINE_BYTES = 64 * 1024
"""A payload up to this long travels inside the link message, and lives inside the index's row."""

Payload = bytes | list[Any]
"""`bytes`, or `[segment, start, stop]`."""


class Lease:
    """A segment that this process may write, given back when the last Blob in it is gone.

    It is the `origin` of the Blobs it makes, so as long as a request holds one of them the segment
    is kept; nobody has to remember to release it.

    Args:
        segment: open for writing.
        service: the link to whoever leased it.
        account: of the connection whose message it is for.
    """

    __slots__ = ("__weakref__", "_account", "_farewell", "_kind", "_segment", "_service")

    def __init__(self, segment: Segment, service: LinkClient, account: Account) -> None:
        self._segment = segment
        self._service = service
        self._account = account
        self._kind = Kind.LEASE
        account.hold(Kind.LEASE, segment.nbytes, Pulse.now(), key=segment.name)
        #: what the service is told in the end
        self._farewell: str | None = "release"

    @property
    def name(self) -> str:
        """Of the segment."""
        return self._segment.name

    @property
    def is_ours(self) -> bool:
        """Whether it is still this process's to give back."""
        return self._farewell == "release"

    def hand_over(self) -> None:
        """The store has it now: it is not ours to give back."""
        self._farewell = None
        self._account.hold(self._kind, 0, Pulse.now(), key=self.name)

    def doubt(self) -> None:
        """The store was told of it and is gone: whether a row refers to it, its successor will say."""
        self._farewell = "doubt"

    def __del__(self) -> None:
        self._account.hold(self._kind, 0, Pulse.now(), key=self.name)
        end = partial(_end_lease, self._segment, self._service, self._farewell)
        try:  # later in this turn: nobody waits for it, and to unmap a message takes a while
            asyncio.get_running_loop().call_soon(end)
        except RuntimeError:  # the process ends
            end()

    def grown(self, name: str, nbytes: int) -> Lease:
        """The same lease, when the service has made its segment `nbytes` long.

        Raises:
            SegmentFailure: it cannot be mapped; the lease is as it was.
        """
        assert name == self.name
        self._segment.grow(nbytes)
        self._account.hold(self._kind, self._segment.nbytes, Pulse.now(), key=name)
        return self

    # ---- reassembly.Sink ---------------------------------------------------------------------

    def write(self, offset: int, data: Buffer) -> None:
        try:
            self._segment.write(offset, data)
        except StorageError as error:
            logger.error("a message cannot be written into its segment: %s", error)
            raise SinkFailed("the node cannot store the message") from error

    def read(self, start: int, stop: int) -> Buffer:
        return self._segment.map[start:stop]

    def finish(self, nbytes: int) -> Blob:
        now_s = Pulse.now()
        self._account.hold(Kind.LEASE, 0, now_s, key=self.name)
        self._kind = Kind.STORING
        self._account.hold(Kind.STORING, self._segment.nbytes, now_s, key=self.name)
        return Blob(self._segment.map[:nbytes].toreadonly(), origin=self)

    def discard(self) -> None:
        """Nothing to do: the segment goes back with the last reference to this lease."""


def _end_lease(segment: Segment, service: LinkClient, farewell: str | None) -> None:
    try:
        segment.release_read()
        segment.close()
    finally:
        if farewell is not None:
            service.cast(farewell, segment.name)


def to_payload(blob: Blob) -> Payload | memoryview:
    """A Blob as it is sent; a large one must lie in a lease (the caller's contract)."""
    if len(blob.view) <= INLINE_BYTES:
        return blob.view
    assert isinstance(blob.origin, Lease), "a large payload is written into a segment first"
    return [blob.origin.name, blob.start, blob.stop]


def payload_nbytes(payload: Payload) -> int:
    """How long it is."""
    return len(payload) if isinstance(payload, bytes) else payload[2] - payload[1]


def whole(extents: list[Blob]) -> Blob:
    """A stored value, which the store keeps in one extent at most."""
    assert len(extents) <= 1
    return extents[0] if extents else Blob()
