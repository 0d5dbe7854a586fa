"""The index: which contract is where. Enters: rows. Leaves: rows, to any process of the host. Next: `reader.py`.

LMDB: one writer (the store), any number of reading processes, no server. A lookup is a read
transaction of a microsecond, and none outlives its lookup: an open one keeps alive every page
that was freed since. Never `writemap`: with it, a full tmpfs is SIGBUS instead of an error.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final

import lmdb

from simnode.storage.errors import IndexDamaged, IndexFailure, IndexFull, IndexMissing
from simnode.storage.rows import (
    ContractRow,
    Extents,
    pack_extents,
    pack_row,
    segment_names,
    unpack_extents,
    unpack_row,
)
from simnode.storage.segment_file import NO_ROOM

MAP_BYTES: Final = 64 << 30
"""Address space, the same in every process: a reader whose map is smaller than the file fails."""
DEFAULT_MAX_READERS: Final = 4096
"""Slots of the reader table, at least four for each handler; the first process to open the index decides."""
FORMAT: Final = b"simnode-index-1"
ROWS_AT_ONCE: Final = 256
"""Rows that one transaction of an iteration reads."""
ALMOST_FULL_BYTES: Final = 64 * 1024
"""A filesystem with less than this has no room for a batch."""


class Batch:
    """Changes that are written together or not at all; valid inside `Index.write` only."""

    __slots__ = ("_index", "_transaction")

    def __init__(self, index: Index, transaction: lmdb.Transaction[bytes]) -> None:
        self._index = index
        self._transaction = transaction

    def row(self, instance: bytes) -> ContractRow | None:
        """A contract's row as this batch would leave it."""
        packed = self._transaction.get(instance, db=self._index.contracts_db)
        return None if packed is None else unpack_row(instance, packed)

    def put_row(self, row: ContractRow) -> None:
        """Write a contract's row, in place of the one that may be there."""
        self._transaction.put(row.instance, pack_row(row), db=self._index.contracts_db)

    def put_code(self, code_hash: bytes, code: Extents) -> None:
        """Write where the bytes of a code are."""
        self._transaction.put(code_hash, pack_extents(code), db=self._index.codes_db)

    def put_delegate(self, key: bytes, packed: bytes) -> None:
        """Write a delegate's row; what is in it is the store's matter."""
        self._transaction.put(key, packed, db=self._index.delegates_db)

    def delete_delegate(self, key: bytes) -> bool:
        """Remove a delegate; whether it was there."""
        return self._transaction.delete(key, db=self._index.delegates_db)


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
                max_dbs=4,
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
                meta, self.contracts_db, self.codes_db, self.delegates_db = (
                    environment.open_db(name, create=create) for name in (b"meta", b"contracts", b"codes", b"delegates")
                )
            except lmdb.NotFoundError as error:
                raise incomplete from error
            with environment.begin(meta, write=create) as transaction:
                if create:
                    transaction.put(b"format", FORMAT, overwrite=False)
                found = transaction.get(b"format")
        if found is None:
            raise incomplete
        if found != FORMAT:
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

    def segment_names(self) -> set[str]:
        """The segments that anything in the index refers to: what `SegmentPool.live` asks for after a restart."""
        names: set[str] = set()
        for row in self.rows():
            names.update(segment_names(row.params, row.state))
        for _, code in self.codes():
            names.update(segment_names(code))
        return names

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
            yield Batch(self, transaction)

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
