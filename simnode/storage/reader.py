"""Reading the store from any process. Enters: a key. Leaves: `StoredState`. Next: `run_directory.py`.

Between the lookup and the lock on a segment the store may have replaced the row and the pool may
have recycled the segment. The store commits a row before it retires what the old one referred to,
and a held segment is never recycled; so a row that is still the same once its segments are held
stays true for as long as they are held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from simnode.protocol.blob import Blob
from simnode.protocol.messages.contracts import ContractKey
from simnode.storage.cache import SegmentCache
from simnode.storage.errors import IndexDamaged, SegmentGone
from simnode.storage.index import Index
from simnode.storage.rows import ContractRow, Extents, segment_names
from simnode.storage.segments import Segment


@dataclass(slots=True, eq=False)
class StoredState:
    """A contract as it is in the store, by reference. The views are valid until `release`.

    Release it when the *transport* has let go of the last byte, not when it was given to it.
    """

    key: ContractKey
    version: int
    params: list[Blob]
    state: list[Blob]
    """One Blob for each extent; together they are the state."""
    code: list[Blob]
    """Empty unless the code was asked for, as `params` is."""
    _cache: SegmentCache
    mapped_bytes: int = 0
    """Bytes that lie in segments, of what was asked for."""
    _held: list[Segment] = field(default_factory=list)

    @property
    def state_nbytes(self) -> int:
        """Bytes of the state."""
        return sum(map(len, self.state))

    @property
    def segment_names(self) -> list[str]:
        """The segments that are held."""
        return [segment.name for segment in self._held]

    def release(self) -> None:
        """Let the segments go. Idempotent; without effect for what lay in the row itself."""
        while self._held:
            self._cache.release(self._held.pop())


class StoredContracts:
    """The contracts of a node, read without asking anybody.

    Args:
        index: this process's view of the index.
        cache: this process's mappings of the store's segments.
    """

    def __init__(self, index: Index, cache: SegmentCache) -> None:
        self._index: Final = index
        self._cache: Final = cache

    def state(self, instance: bytes, *, with_code: bool = False) -> StoredState | None:
        """The contract as last committed, None if there is none. `release` it.

        Raises:
            SegmentGone: a row refers to a segment that does not exist: the bytes are lost.
            SegmentFailure: a segment cannot be opened; `OutOfDescriptors` if that may change.
            IndexDamaged: a row refers to bytes outside a segment, or to a code that is not there.
            IndexFailure: LMDB is broken.
        """
        found = self._look_up(instance, with_code)
        while found is not None:
            row, code = found
            names = segment_names(row.params, row.state, code)
            if not names:
                return self._stored(row, code, {}, with_code)
            held, gone = self._hold(names)
            try:
                again = self._look_up(instance, with_code)
                if again == found:
                    if gone is not None:
                        raise SegmentGone(gone)
                    return self._stored(row, code, held, with_code)
            except BaseException:
                self._let_go(held)
                raise
            self._let_go(held)
            found = again  # the store has made progress, so this ends
        return None

    def _look_up(self, instance: bytes, with_code: bool) -> tuple[ContractRow, Extents] | None:
        row = self._index.get(instance)
        if row is None or not with_code:
            return None if row is None else (row, ())
        code = self._index.code(row.code_hash)
        if code is None:
            raise IndexDamaged(f"contract {instance.hex()} has a code that is not there")
        return row, code

    def _hold(self, names: list[str]) -> tuple[dict[str, Segment], str | None]:
        """The segments held, as far as the first one that is gone, and its name."""
        held: dict[str, Segment] = {}
        try:
            for name in names:
                held[name] = self._cache.read(name)
        except SegmentGone:
            return held, name
        except BaseException:
            self._let_go(held)
            raise
        return held, None

    def _let_go(self, held: Mapping[str, Segment]) -> None:
        for segment in held.values():
            self._cache.release(segment)

    def _stored(self, row: ContractRow, code: Extents, held: Mapping[str, Segment], with_code: bool) -> StoredState:
        return StoredState(
            ContractKey(row.instance, row.code_hash),
            row.version,
            _blobs(row.params, held) if with_code else [],
            _blobs(row.state, held),
            _blobs(code, held) if with_code else [],
            self._cache,
            sum(segment.nbytes for segment in held.values()) if held else 0,
            list(held.values()),
        )


def _blobs(extents: Extents, held: Mapping[str, Segment]) -> list[Blob]:
    try:
        return [
            Blob(extent) if isinstance(extent, bytes) else held[extent.name].blob(extent.start, extent.stop)
            for extent in extents
        ]
    except IndexError as error:
        raise IndexDamaged(str(error)) from error
