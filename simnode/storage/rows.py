"""What the index says of a contract. Enters: packed bytes or a `ContractRow`. Leaves: the other. Next: `index.py`.

A row is one msgpack array, `[version, code_hash, params, state]`, because decoding it is half of
a small GET. A value is a list of *extents*: bytes that lie in the row itself, or a range of a
segment. (A state that grows by deltas has many, until somebody compacts it.)
"""

from __future__ import annotations

from typing import Any

import msgpack

from simnode.protocol.record import record
from simnode.storage.errors import IndexDamaged


@record(kw_only=False)
class SegmentRef:
    """A range of a segment, in bytes: the only form in which a large payload travels or is stored."""

    name: str
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        return self.stop - self.start


Extent = bytes | SegmentRef
Extents = tuple[Extent, ...]


def extents_nbytes(extents: Extents) -> int:
    """Bytes of the value that `extents` make up."""
    if len(extents) == 1 and type(extents[0]) is bytes:  # of nearly every value
        return len(extents[0])
    return sum(len(extent) if isinstance(extent, bytes) else extent.nbytes for extent in extents)


def segment_refs(*values: Extents) -> list[SegmentRef]:
    """The extents of `values` that lie in segments, in order."""
    return [extent for extents in values for extent in extents if type(extent) is SegmentRef]


def segment_names(*values: Extents) -> list[str]:
    """The segments that the extents of `values` refer to, each once, in order."""
    names = [ref.name for ref in segment_refs(*values)]
    return list(dict.fromkeys(names)) if len(names) > 1 else names


@record(kw_only=False)
class ContractRow:
    """A contract as the index knows it. Its code is a row of its own, by `code_hash`, and stored once."""

    instance: bytes
    """The contract's instance id: the row's key, 32 bytes."""
    version: int
    """Grows by one with each change of the row."""
    code_hash: bytes
    params: Extents
    state: Extents

    @property
    def state_nbytes(self) -> int:
        """Bytes of the state."""
        return extents_nbytes(self.state)


def pack_row(row: ContractRow) -> bytes:
    """The row without its key."""
    packed: bytes = msgpack.packb(
        (row.version, row.code_hash, _packable(row.params), _packable(row.state)), use_bin_type=True
    )
    return packed


def unpack_row(instance: bytes, packed: bytes) -> ContractRow:
    """The row of `instance`.

    Raises:
        IndexDamaged: that is no row.
    """
    try:
        version, code_hash, params, state = msgpack.unpackb(packed, use_list=False)
        return ContractRow(instance, version, code_hash, _extents(params), _extents(state))
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise IndexDamaged(f"contract {instance.hex()}: {error}") from error


def pack_extents(extents: Extents) -> bytes:
    """A value on its own (a contract's code)."""
    packed: bytes = msgpack.packb(_packable(extents), use_bin_type=True)
    return packed


def unpack_extents(packed: bytes) -> Extents:
    """The inverse of `pack_extents`.

    Raises:
        IndexDamaged: those are no extents.
    """
    try:
        return _extents(msgpack.unpackb(packed, use_list=False))
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise IndexDamaged(f"extents: {error}") from error


def _packable(extents: Extents) -> list[Any]:
    return [extent if isinstance(extent, bytes) else (extent.name, extent.start, extent.stop) for extent in extents]


def _extents(raw: Any) -> Extents:
    for item in raw:
        if type(item) is not bytes:
            break
    else:
        inline: Extents = raw  # the hot path: nothing to convert
        return inline
    return tuple(item if isinstance(item, bytes) else SegmentRef(*item) for item in raw)
