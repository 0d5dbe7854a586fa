"""What a write makes of a contract. Enters: writes. Leaves: rows of a batch. Next: `write_batches.py`.

Every payload is *placed* where it will stay before its row is put into the batch, and a row is put
there last: a write that fails leaves nothing in the batch.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from simnode.live.link import Link, LinkRefusal
from simnode.live.payloads import INLINE_BYTES, Payload, payload_nbytes
from simnode.live.store.kept_segments import KeptSegments
from simnode.live.store.placing import Placer, as_payloads
from simnode.live.store_codes import MISSING
from simnode.node.runtime import check_state_size
from simnode.node.subscriptions import SubscriberCounts, SubscriptionRefused
from simnode.storage.index import Index
from simnode.storage.rows import ContractRow, Extents, SegmentRef, segment_refs

ENTRY_BYTES = 256
"""What an entry of the index takes beside the bytes of its value, roughly."""

REMEMBERED_HASHES = 1024
"""States whose running BLAKE3 is kept, so that a delta costs a hash of the delta."""


@dataclass(slots=True, eq=False)
class Write:
    """A write that waits to be answered.

    Attributes:
        subject: the contract or delegate; writes of one subject are carried out one after the other.
        new_segments: kept for this write: retired if it fails.
    """

    link: Link
    call_id: int
    method: str
    args: list[Any]
    new_segments: list[SegmentRef] = field(default_factory=list)

    @property
    def subject(self) -> bytes:
        subject: bytes = self.args[0]
        return subject

    def segments(self) -> list[str]:
        """The segments that it refers to."""
        if self.method == "put":
            payloads = self.args[2:5]
        elif self.method == "update":
            payloads = self.args[3]
        else:
            return []
        return [payload[0] for payload in payloads if isinstance(payload, list)]


class Batch:
    """What one transaction will write, and what follows when it has."""

    def __init__(self) -> None:
        self.rows: dict[bytes, ContractRow] = {}
        #: the rows in the index that `rows` replace; None: there is none
        self.replaced: dict[bytes, ContractRow | None] = {}
        self.codes: dict[bytes, Extents] = {}
        self.delegates: dict[bytes, bytes | None] = {}
        #: rows that subscribers hear of, each with what was appended if the change was that
        self.changes: list[tuple[ContractRow, Payload | None]] = []
        self.answers: list[tuple[Write, Any]] = []
        self.subscribed: list[tuple[Link, bytes]] = []
        #: how many writes put something into it
        self.writes = 0
        #: retired when it is committed
        self.old_segments: list[SegmentRef] = []
        #: how many bytes more the index will hold
        self.inline_bytes = 0


class RowChanges:
    """Carries writes out, up to their rows.

    Args:
        index: is read only.
        placer: of the payloads.
        kept: within which limit.
        subscribers: who subscribes with a PUT is counted here.
    """

    def __init__(self, index: Index, placer: Placer, kept: KeptSegments, subscribers: SubscriberCounts) -> None:
        self._index = index
        self._kept = kept
        self._placer = placer
        self._subscribers = subscribers
        #: instance -> (version, running hash of its state)
        self._hashes: OrderedDict[bytes, tuple[int, Any]] = OrderedDict()

    async def place(self, write: Write, batch: Batch) -> None:
        """Puts a write into the batch; waits only if payloads lie in segments.

        Raises:
            LinkRefusal, LinkLost, UpdateRefused, StorageError, OSError: it is not in the batch; what it stored is
                `write.new_segments`.
        """
        method, args = write.method, write.args
        result: list[Any] | None = None
        if method == "put":
            result = await self._put(write, batch, *args)
        elif method == "update":
            result = await self._update(write, batch, *args)
        elif method == "register_delegate":
            key, code_hash = args
            if not self._has_delegate(key, batch):
                self._grow(batch, ENTRY_BYTES)
            batch.delegates[key] = code_hash
            batch.writes += 1
        else:
            (key,) = args
            if self._has_delegate(key, batch):
                self._grow(batch, -ENTRY_BYTES)
            batch.delegates[key] = None
            batch.writes += 1
        batch.answers.append((write, result))

    def forget(self) -> None:
        """A batch was not committed, so its versions will mean other states."""
        self._hashes.clear()

    async def _put(
        self,
        write: Write,
        batch: Batch,
        instance: bytes,
        code_hash: bytes,
        params: Payload,
        code: Payload,
        state: Payload,
        subscribe: bool,
    ) -> list[Any]:
        """A new contract, or a State update of a known one. Result: `[version, adopted, subscribed, why not]`."""
        check_state_size(payload_nbytes(state))
        current = self._current(instance, batch)
        if current is None:
            row, adopted = await self._create(write, batch, instance, code_hash, params, code, state)
        else:
            extents, adopted = await self._replaced(write, current, [state])
            row = _next_version(current, extents)
            self._record(batch, current, row, None)
        if not subscribe or write.link.is_lost:  # whoever is gone would be counted for ever
            return [row.version, adopted, False, None]
        try:
            self._subscribers.add(instance, write.link)
        except SubscriptionRefused as refusal:
            return [row.version, adopted, False, str(refusal)]
        batch.subscribed.append((write.link, instance))
        return [row.version, adopted, True, None]

    async def _create(
        self,
        write: Write,
        batch: Batch,
        instance: bytes,
        code_hash: bytes,
        params: Payload,
        code: Payload,
        state: Payload,
    ) -> tuple[ContractRow, str | None]:
        # the state last: once its segment is stored, whatever else came in it may be trimmed away
        own_params = await self._placer.copy([params], write.new_segments)
        if code_hash in batch.codes or self._index.code(code_hash) is not None:
            own_code = None
        else:
            own_code = await self._placer.copy([code], write.new_segments)
        extents, adopted = await self._placer.place([state], write.new_segments)
        values = (own_params, extents) if own_code is None else (own_params, extents, own_code)
        entries = 1 if own_code is None else 2
        self._grow(batch, ENTRY_BYTES * entries + sum(map(_inline_bytes, values)))
        if own_code is not None:
            previous = batch.codes.get(code_hash, ())  # of another contract, placed while this one waited
            batch.old_segments += segment_refs(previous)
            batch.codes[code_hash] = own_code
        row = ContractRow(instance, 1, code_hash, own_params, extents)
        batch.rows[instance] = row
        batch.replaced[instance] = None
        batch.writes += 1
        return row, adopted

    async def _update(
        self,
        write: Write,
        batch: Batch,
        instance: bytes,
        code_hash: bytes,
        keeps_current: bool,
        parts: list[Payload],
    ) -> list[Any]:
        """Result: `[version, adopted, summary]`; the summary is BLAKE3 of the new state."""
        current = self._current(instance, batch)
        if current is None or current.code_hash != code_hash:
            raise LinkRefusal(MISSING, "no such contract")
        nbytes = sum(map(payload_nbytes, parts))
        check_state_size(nbytes + (current.state_nbytes if keeps_current else 0))
        adopted: str | None = None
        told: Payload | None = None
        if keeps_current:
            (delta,) = parts
            extents = current.state
            if payload_nbytes(delta):
                extents, told = await self._placer.append(current.state, delta, write.new_segments)
        else:
            extents, adopted = await self._replaced(write, current, parts)
        row = _next_version(current, extents)
        summary = await self._summarize(row, parts if keeps_current else None)
        self._record(batch, current, row, told)
        return [row.version, adopted, summary]

    async def _replaced(self, write: Write, current: ContractRow, parts: list[Payload]) -> tuple[Extents, str | None]:
        """Another state: its extents (the current ones, if nothing changed) and the segment it came in, if kept.

        Whether a large state changes anything is for subscribers only to know: finding out reads it, and the old one.
        """
        if len(parts) > 1:  # an empty delta is none, and the state may stay where it is
            parts = [part for part in parts if payload_nbytes(part)] or parts[:1]
        nbytes = sum(map(payload_nbytes, parts))
        matters = nbytes <= INLINE_BYTES or self._subscribers.count_of(current.instance)
        if matters and await self._placer.holds(current.state, parts):
            return current.state, None
        return await self._placer.place(parts, write.new_segments)

    def _current(self, instance: bytes, batch: Batch) -> ContractRow | None:
        return batch.rows.get(instance) or self._index.get(instance)

    async def _summarize(self, row: ContractRow, appended: list[Payload] | None) -> bytes:
        remembered = self._hashes.pop(row.instance, None)
        if remembered is not None and remembered[0] == row.version:
            state_hash = remembered[1]
        elif appended is not None and remembered is not None and remembered[0] == row.version - 1:
            state_hash = remembered[1]
            await self._placer.feed(state_hash, appended)
        else:
            state_hash = blake3()
            await self._placer.feed(state_hash, as_payloads(row.state))
        self._hashes[row.instance] = (row.version, state_hash)
        if len(self._hashes) > REMEMBERED_HASHES:
            self._hashes.popitem(last=False)
        digest: bytes = state_hash.digest()
        return digest

    def _record(self, batch: Batch, current: ContractRow, row: ContractRow, delta: Payload | None) -> None:
        if row is current:
            return  # nothing changed, so nobody is told
        self._grow(batch, _inline_bytes(row.state) - _inline_bytes(current.state))
        _replace(batch, current, row, delta)

    def _grow(self, batch: Batch, nbytes: int) -> None:
        """The index will hold so many bytes more. Raises `LinkRefusal` if the store is full."""
        if nbytes > 0:
            self._kept.admit_inline(batch.inline_bytes + nbytes)
        batch.inline_bytes += nbytes

    def _has_delegate(self, key: bytes, batch: Batch) -> bool:
        known = batch.delegates.get(key) if key in batch.delegates else self._index.delegate(key)
        return known is not None


def _inline_bytes(value: Extents) -> int:
    """What of a value lies in the index itself."""
    return sum(len(extent) for extent in value if isinstance(extent, bytes))


def _next_version(current: ContractRow, extents: Extents) -> ContractRow:
    """The row with another state; itself if the state is the same."""
    if extents is current.state:
        return current
    return ContractRow(current.instance, current.version + 1, current.code_hash, current.params, extents)


def _replace(batch: Batch, current: ContractRow, row: ContractRow, delta: Payload | None) -> None:
    batch.rows[row.instance] = row
    batch.replaced.setdefault(row.instance, current)
    batch.writes += 1
    batch.changes.append((row, delta))
    old = segment_refs(current.state)
    if old:
        kept = [ref.name for ref in segment_refs(row.state)]
        batch.old_segments += [ref for ref in old if ref.name not in kept]
