"""The index: which contract is where. Enters: rows. Leaves: rows, to any process of the host. Next: `reader.py`.

Beside contracts, codes and delegates it has what would otherwise be found by walking all of them: the
segments that they refer to, and `Totals`. A batch changes these in the transaction of its rows.

LMDB: one writer (the store), any number of reading processes, no server. A lookup is a read
transaction of a microsecond, and none outlives its lookup: an open one keeps alive every page
that was freed since. Never `writemap`: with it, a full tmpfs is SIGBUS instead of an error.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from operator import add
from pathlib import Path
from typing import Final, Literal

import lmdb

from simnode.storage.errors import IndexDamaged, IndexFailure, IndexFull, IndexMissing
from simnode.storage.rows import (
    ContractRow,
    Extents,
    SegmentRef,
    pack_extents,
    pack_row,
    unpack_extents,
    unpack_row,
)
from simnode.storage.segment_file import NO_ROOM, page_range

MAP_BYTES: Final = 64 << 30
"""Address space, the same in every process: a reader whose map is smaller than the file fails."""
DEFAULT_MAX_READERS: Final = 4096
"""Slots of the reader table, at least four for each handler; the first process to open the index decides."""
FORMAT: Final = b"simnode-index-2"
UNCOUNTED_FORMAT: Final = b"simnode-index-1"
"""Has neither totals nor a list of segments; `Index.recount` makes the newer format of it."""
ROWS_AT_ONCE: Final = 256
"""Rows that one transaction of an iteration reads."""
ALMOST_FULL_BYTES: Final = 64 * 1024
"""A filesystem with less than this has no room for a batch."""
COUNTED_AT_ONCE: Final = 10_000
"""Rows between two reports of `Index.recount`."""

_TOTALS: Final = struct.Struct("<qqq")
_TOTALS_KEY: Final = b"totals"
_NO_TOTALS: Final = _TOTALS.pack(0, 0, 0)
_RANGE: Final = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the index.

    Attributes:
        nbytes: of states, parameters and codes.
        segment_nbytes: of the pages that the index refers to in segments.
        inline_nbytes: of `nbytes`, what lies in the index itself.
    """

    nbytes: int
    segment_nbytes: int
    inline_nbytes: int


class _LookUp(Enum):
    LOOK_UP = "look it up"


LOOK_UP: Final = _LookUp.LOOK_UP
"""Stands for the row that a new one replaces, when the caller does not know it."""


class Batch:
    """Changes that are written together or not at all; valid inside `Index.write` only."""

    __slots__ = ("_index", "_inline_nbytes", "_nbytes", "_segment_nbytes", "_transaction")

    def __init__(self, index: Index, transaction: lmdb.Transaction[bytes]) -> None:
        self._index = index
        self._transaction = transaction
        #: how much the totals grow
        self._nbytes = 0
        self._segment_nbytes = 0
        self._inline_nbytes = 0

    def row(self, instance: bytes) -> ContractRow | None:
        """A contract's row as this batch would leave it."""
        packed = self._transaction.get(instance, db=self._index.contracts_db)
        return None if packed is None else unpack_row(instance, packed)

    def put_row(self, row: ContractRow, *, replaces: ContractRow | Literal[_LookUp.LOOK_UP] | None = LOOK_UP) -> None:
        """Write a contract's row.

        Args:
            row: what to write.
            replaces: the row that this batch would leave otherwise, None if there is none; the totals depend on it.
        """
        old = self.row(row.instance) if replaces is LOOK_UP else replaces
        self._transaction.put(row.instance, pack_row(row), db=self._index.contracts_db)
        if old is None:
            self._count((row.params, row.state), ())
        elif row.params is old.params:
            self._count((row.state,), (old.state,))
        else:
            self._count((row.params, row.state), (old.params, old.state))

    def put_code(self, code_hash: bytes, code: Extents) -> None:
        """Write where the bytes of a code are. A code is written once: its hash is its key."""
        packed = self._transaction.get(code_hash, db=self._index.codes_db)
        self._transaction.put(code_hash, pack_extents(code), db=self._index.codes_db)
        self._count((code,), () if packed is None else (unpack_extents(packed),))

    def put_delegate(self, key: bytes, packed: bytes) -> None:
        """Write a delegate's row; what is in it is the store's matter."""
        self._transaction.put(key, packed, db=self._index.delegates_db)

    def delete_delegate(self, key: bytes) -> bool:
        """Remove a delegate; whether it was there."""
        return self._transaction.delete(key, db=self._index.delegates_db)

    def write_totals(self) -> None:
        """Adds what the batch changed; the last thing that `Index.write` does."""
        if self._nbytes or self._segment_nbytes or self._inline_nbytes:
            transaction, database = self._transaction, self._index.meta_db
            before = _TOTALS.unpack(transaction.get(_TOTALS_KEY, _NO_TOTALS, db=database))
            growth = (self._nbytes, self._segment_nbytes, self._inline_nbytes)
            packed = _TOTALS.pack(*map(add, before, growth))
            transaction.put(_TOTALS_KEY, packed, db=database)

    def count_again(self, *values: Extents) -> None:
        """These are in the index and in none of its sums."""
        self._count(values, ())

    def _count(self, new: tuple[Extents, ...], old: tuple[Extents, ...]) -> None:
        kept: list[SegmentRef] = []
        before: list[SegmentRef] = []
        nbytes = 0
        for extents in new:  # written out, because it runs for each write
            for extent in extents:
                if isinstance(extent, bytes):
                    nbytes += len(extent)
                else:
                    kept.append(extent)
        for extents in old:
            for extent in extents:
                if isinstance(extent, bytes):
                    nbytes -= len(extent)
                else:
                    before.append(extent)
        self._nbytes += nbytes
        self._inline_nbytes += nbytes
        if kept or before:
            self._count_segments(kept, before)

    def _count_segments(self, kept: list[SegmentRef], before: list[SegmentRef]) -> None:
        names = {ref.name for ref in kept}
        database = self._index.segments_db
        for ref in before:
            self._nbytes -= ref.nbytes
            self._segment_nbytes -= _pages(ref)
            if ref.name not in names:
                self._transaction.delete(ref.name.encode(), db=database)
        for ref in kept:
            self._nbytes += ref.nbytes
            self._segment_nbytes += _pages(ref)
            self._transaction.put(ref.name.encode(), _RANGE.pack(ref.start, ref.stop), db=database)


class Index:
    """One process's view of the index. LMDB allows one per process and path.

    Args:
        path: a directory; made if need be, unless `readonly`.
        readonly: for everybody but the store.
        durable: a batch is on the disk when `write` ends (writer only).
        max_readers: simultaneous reading transactions of all processes.

    Raises:
        IndexMissing: `readonly`, and the store has not created the index yet.
        IndexDamaged: another version of simnode wrote it.
        IndexFailure: LMDB cannot open it (in use by this process already, no permission …).
    """

    def __init__(
        self, path: Path, *, readonly: bool = False, durable: bool = False, max_readers: int = DEFAULT_MAX_READERS
    ) -> None:
        if readonly and not (path / "data.mdb").exists():
            raise IndexMissing(f"no index at {path}")
        if not readonly:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path: Final = path
        with _typed_errors(self.path):
            self._environment = lmdb.Environment(
                str(path),
                map_size=MAP_BYTES,
                readonly=readonly,
                mode=0o600,
                sync=durable,
                metasync=durable,
                max_readers=max_readers,
                max_dbs=5,
                max_spare_txns=1,
            )
        try:
            self._open_databases(create=not readonly)
        except BaseException:
            self._environment.close()
            raise

    def _open_databases(self, *, create: bool) -> None:
        environment = self._environment
        incomplete = IndexMissing(f"the index at {self.path} is still being created")
        with _typed_errors(self.path):
            try:
                # not inside one transaction: py-lmdb never commits a reading one, which closes what it opened
                self.meta_db, self.contracts_db, self.codes_db, self.delegates_db, self.segments_db = (
                    environment.open_db(name, create=create)
                    for name in (b"meta", b"contracts", b"codes", b"delegates", b"segments")
                )
            except lmdb.NotFoundError as error:
                raise incomplete from error
            with environment.begin(self.meta_db, write=create) as transaction:
                if create:
                    if transaction.put(b"format", FORMAT, overwrite=False):
                        transaction.put(_TOTALS_KEY, _NO_TOTALS)
                found = transaction.get(b"format")
        #: whether there are totals: not in an index that an older simnode wrote, until `recount`
        self.is_counted = found == FORMAT
        if found is None or (found == UNCOUNTED_FORMAT and not create):
            raise incomplete
        if found not in (FORMAT, UNCOUNTED_FORMAT):
            raise IndexDamaged(f"the index at {self.path} has format {found!r}; this simnode reads {FORMAT!r}")

    # -- reading ----------------------------------------------------------------------------

    def get(self, instance: bytes) -> ContractRow | None:
        """A contract's row as last committed, None if there is no such contract.

        Raises:
            IndexFailure: LMDB or the row is broken; `IndexDamaged` in the second case.
        """
        packed = self._lookup(self.contracts_db, instance)
        return None if packed is None else unpack_row(instance, packed)

    def code(self, code_hash: bytes) -> Extents | None:
        """Where the code of this hash is.

        Raises:
            IndexFailure: as `get`.
        """
        packed = self._lookup(self.codes_db, code_hash)
        return None if packed is None else unpack_extents(packed)

    def delegate(self, key: bytes) -> bytes | None:
        """A delegate's row, as it was put.

        Raises:
            IndexFailure: LMDB is broken.
        """
        return self._lookup(self.delegates_db, key)

    def rows(self) -> Iterator[ContractRow]:
        """Every contract, by instance id. A row that is written meanwhile may be seen in either form."""
        return (unpack_row(key, packed) for key, packed in self._items(self.contracts_db))

    def codes(self) -> Iterator[tuple[bytes, Extents]]:
        """Every code by its hash, in the manner of `rows`."""
        return ((key, unpack_extents(packed)) for key, packed in self._items(self.codes_db))

    def delegates(self) -> Iterator[tuple[bytes, bytes]]:
        """Every delegate, in the manner of `rows`."""
        return self._items(self.delegates_db)

    def instances(self, after: bytes, at_most: int) -> list[bytes]:
        """The ids of the next contracts, in order: what a walk in pieces needs, for it reads no row.

        Args:
            after: the last id of the piece before; `b""` to begin.
            at_most: how many.
        """
        with _typed_errors(self.path), self._environment.begin(self.contracts_db) as transaction:
            cursor = transaction.cursor()
            found = cursor.set_range(after + b"\0") if after else cursor.first()
            return list(islice(cursor.iternext(keys=True, values=False), at_most)) if found else []

    def segments(self, after: str, at_most: int) -> list[SegmentRef]:
        """What contracts and codes refer to in the next segments, by name, in the manner of `instances`."""
        with _typed_errors(self.path), self._environment.begin(self.segments_db) as transaction:
            cursor = transaction.cursor()
            found = cursor.set_range(after.encode() + b"\0") if after else cursor.first()
            items = list(islice(cursor, at_most)) if found else []
        return [SegmentRef(key.decode(), *_RANGE.unpack(packed)) for key, packed in items]

    def refers_to(self, segment: str) -> bool:
        """Whether a contract or a code lies in this segment."""
        return self._lookup(self.segments_db, segment.encode()) is not None

    def totals(self) -> Totals:
        """The sums, as last committed.

        Raises:
            IndexDamaged: there are none, although `is_counted`.
            IndexFailure: LMDB is broken.
        """
        packed = self._lookup(self.meta_db, _TOTALS_KEY)
        if packed is None:
            raise IndexDamaged(f"the index at {self.path} has no totals")
        nbytes, segment_nbytes, inline_nbytes = _TOTALS.unpack(packed)
        return Totals(nbytes=nbytes, segment_nbytes=segment_nbytes, inline_nbytes=inline_nbytes)

    def entries(self) -> int:
        """Contracts, codes and delegates: what takes room in the index beside the bytes of their values."""
        with _typed_errors(self.path), self._environment.begin() as transaction:
            databases = (self.contracts_db, self.codes_db, self.delegates_db)
            return sum(transaction.stat(database)["entries"] for database in databases)

    def count(self) -> int:
        """How many contracts there are."""
        with _typed_errors(self.path), self._environment.begin() as transaction:
            return transaction.stat(self.contracts_db)["entries"]

    # -- writing ----------------------------------------------------------------------------

    @contextmanager
    def write(self) -> Iterator[Batch]:
        """A batch: committed when the block ends, dropped whole if it raises. Stay on one thread inside.

        Raises:
            IndexFull: no room; nothing was written, and the index goes on working.
            IndexFailure: LMDB is broken, or this view is `readonly`.
        """
        with _typed_errors(self.path), self._environment.begin(write=True) as transaction:
            batch = Batch(self, transaction)
            yield batch
            batch.write_totals()

    def recount(self, counted: Callable[[int], None]) -> None:
        """Find out the totals and the segments from all rows: it takes microseconds for each, in the caller's thread.

        All of it is one transaction, so whoever is killed meanwhile leaves the index as it was.

        Args:
            counted: is told now and then how many rows were counted.
        """
        with _typed_errors(self.path), self._environment.begin(write=True) as transaction:
            transaction.put(_TOTALS_KEY, _NO_TOTALS, db=self.meta_db)
            transaction.drop(self.segments_db, delete=False)
            batch = Batch(self, transaction)
            number = 0
            for key, packed in transaction.cursor(self.contracts_db):
                row = unpack_row(key, packed)
                batch.count_again(row.params, row.state)
                number += 1
                if not number % COUNTED_AT_ONCE:
                    counted(number)
            for _, packed in transaction.cursor(self.codes_db):
                batch.count_again(unpack_extents(packed))
            batch.write_totals()
            transaction.put(b"format", FORMAT, db=self.meta_db)
        self.is_counted = True

    def reader_check(self) -> int:
        """Clear the reader slots of dead processes (call it when a handler dies); how many there were."""
        with _typed_errors(self.path):
            return self._environment.reader_check()

    def close(self) -> None:
        """Close this view. Idempotent."""
        self._environment.close()

    def _lookup(self, database: lmdb._Database, key: bytes) -> bytes | None:
        try:
            with self._environment.begin(database) as transaction:
                return transaction.get(key)
        except lmdb.Error as error:
            raise _typed(error, self.path) from error

    def _items(self, database: lmdb._Database) -> Iterator[tuple[bytes, bytes]]:
        after: bytes | None = None
        while True:
            with _typed_errors(self.path), self._environment.begin(database) as transaction:
                cursor = transaction.cursor()
                found = cursor.first() if after is None else cursor.set_range(after + b"\0")
                items = list(islice(cursor, ROWS_AT_ONCE)) if found else []
            if not items:
                return
            yield from items
            after = items[-1][0]


def _pages(ref: SegmentRef) -> int:
    first, last = page_range(ref.start, ref.stop)
    return last - first


@contextmanager
def _typed_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except lmdb.Error as error:
        raise _typed(error, path) from error


def _typed(error: lmdb.Error, path: Path) -> IndexFailure:
    if isinstance(error, lmdb.MapFullError | lmdb.TxnFullError) or error.code in NO_ROOM or _cut_short(error, path):
        return IndexFull(str(error))
    if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.CorruptedError):
        return IndexDamaged(str(error))
    return IndexFailure(str(error))


def _cut_short(error: lmdb.Error, path: Path) -> bool:
    """Whether the filesystem became full in the middle of a write, for which LMDB says EIO, as for a broken disk."""
    if error.code != errno.EIO:
        return False
    filesystem = os.statvfs(path)
    return filesystem.f_bavail * filesystem.f_frsize < ALMOST_FULL_BYTES
