"""LMDB's file, read page by page without LMDB. Enters: a `data.mdb`. Leaves: its items, or what is wrong with it.

LMDB maps its file and trusts it: a file that is cut short kills whoever reads it with SIGBUS. This
module reads with system calls and checks what it reads: lengths, page numbers, offsets. It is for a
file that nobody writes meanwhile. Next: `data_directory.py`, which says what to do.

Source: LMDB 0.9, mdb.c (`MDB_page`, `MDB_meta`, `MDB_db`, `MDB_node`), data version 1 with 64-bit page
numbers, little-endian.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAGIC: Final = 0xBEEFC0DE
DATA_VERSION: Final = 1

_PAGE: Final = struct.Struct("<QHHHH")  # number, -, flags, lower, upper
_PAGES_OF_OVERFLOW: Final = struct.Struct("<12xI")
_META: Final = struct.Struct("<16xII16x48s48sQQ")  # magic, version, -, -, free pages, main, last page, transaction
_DATABASE: Final = struct.Struct("<IHHQQQQQ")  # page size, flags, depth, -, -, -, -, root
_NODE: Final = struct.Struct("<HHHH")  # two of length or page number, flags or page number, length of the key
_PAGE_NUMBER: Final = struct.Struct("<Q")

_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 0x01, 0x02, 0x04, 0x08
_KINDS: Final = _BRANCH | _LEAF | _OVERFLOW | _META_PAGE
_BIG, _SUBDATABASE = 0x01, 0x02  # flags of a node
_NO_ROOT: Final = (1 << 64) - 1
_MAX_DEPTH: Final = 32  # CURSOR_STACK

LEAST_PAGE_BYTES: Final = 256
MOST_PAGE_BYTES: Final = 64 * 1024


class PageError(Exception):
    """The file is not what LMDB would have written; the text is a clause about the file ("is cut short: …")."""


@dataclass(frozen=True, slots=True)
class Meta:
    """The newest meta page: what the last committed transaction left.

    Attributes:
        page_bytes: length of a page.
        pages: how many the file has; the last of them may never have been written, if they are all free.
        free_root: of the tree of free pages.
        main_root: of the tree of named databases.
    """

    page_bytes: int
    pages: int
    free_root: int
    main_root: int

    @property
    def nbytes(self) -> int:
        """Of the whole file."""
        return self.pages * self.page_bytes


def read_meta(fd: int) -> Meta:
    """The newest of the two meta pages; LMDB, too, wants both of them to be sound.

    Raises:
        PageError: this is no file of LMDB's, or not of this machine's kind, or it does not even have these pages.
    """
    first = _meta_at(fd, 0)
    page_bytes = _DATABASE.unpack(first[2])[0]
    if not LEAST_PAGE_BYTES <= page_bytes <= MOST_PAGE_BYTES or page_bytes & (page_bytes - 1):
        raise PageError(f"is damaged: its pages cannot have {page_bytes} bytes")
    _, _, free, main, last_page, _ = max(first, _meta_at(fd, page_bytes), key=lambda meta: int(meta[5]))
    return Meta(page_bytes, last_page + 1, _DATABASE.unpack(free)[7], _DATABASE.unpack(main)[7])


def _meta_at(fd: int, offset: int) -> tuple[int, int, bytes, bytes, int, int]:
    raw = os.pread(fd, _META.size, offset)
    if len(raw) < _META.size:
        raise PageError(f"is cut short: {os.fstat(fd).st_size} bytes are less than its first two pages")
    magic, version, *rest = _META.unpack(raw)
    if magic == int.from_bytes(MAGIC.to_bytes(4, "little"), "big"):
        raise PageError("was written by a machine of another architecture (byte order)")
    if magic != MAGIC:
        raise PageError("is no index of a 64-bit machine (LMDB), or its first pages are damaged")
    if version != DATA_VERSION:
        raise PageError(f"has LMDB's data version {version}; this simnode reads {DATA_VERSION}")
    if not _PAGE.unpack_from(raw)[2] & _META_PAGE:
        raise PageError("is damaged: one of its first two pages is not what it says")
    return magic, version, *rest


class IndexPages:
    """The trees in a file that LMDB wrote.

    Args:
        fd: open for reading; nobody writes the file.
        meta: of `read_meta`.
    """

    def __init__(self, fd: int, meta: Meta) -> None:
        self._fd = fd
        self._meta = meta
        self._nbytes = os.fstat(fd).st_size
        self._visited = 0

    @property
    def is_whole(self) -> bool:
        """Whether the file has every page that the last transaction left, in use or not."""
        return self._nbytes >= self._meta.nbytes

    def items(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Every item of the named databases: database, key, value. Reads every page that is in use. Call it once.

        Raises:
            PageError: one of them is missing or damaged.
        """
        for _ in self._tree(self._meta.free_root):  # LMDB's writer reads these
            pass
        for name, flags, record in self._tree(self._meta.main_root):
            if flags & _SUBDATABASE:
                if len(record) != _DATABASE.size:
                    raise PageError(f"is damaged: {name!r} in it is no database")
                for key, _, value in self._tree(_DATABASE.unpack(record)[7]):
                    yield name, key, value

    def _tree(self, root: int, depth: int = 1) -> Iterator[tuple[bytes, int, bytes]]:
        """Key, flags and value of each leaf's nodes."""
        if root == _NO_ROOT:
            return
        page = self._page(root, _BRANCH | _LEAF)
        _, _, flags, lower, upper = _PAGE.unpack_from(page)
        if depth > _MAX_DEPTH or not _PAGE.size <= lower <= upper <= len(page):
            raise self._damaged(root)
        for (offset,) in struct.iter_unpack("<H", page[_PAGE.size : lower]):
            if not upper <= offset <= len(page) - _NODE.size:
                raise self._damaged(root)
            low, high, node_flags, key_bytes = _NODE.unpack_from(page, offset)
            start = offset + _NODE.size + key_bytes
            if start > len(page):
                raise self._damaged(root)
            if flags & _BRANCH:
                yield from self._tree(low | high << 16 | node_flags << 32, depth + 1)
                continue
            value_bytes = low | high << 16
            key = page[offset + _NODE.size : start]
            if node_flags & _BIG:
                if start + _PAGE_NUMBER.size > len(page):
                    raise self._damaged(root)
                (number,) = _PAGE_NUMBER.unpack_from(page, start)
                yield key, node_flags, self._overflow(number, value_bytes)
            elif start + value_bytes <= len(page):
                yield key, node_flags, page[start : start + value_bytes]
            else:
                raise self._damaged(root)

    def _overflow(self, number: int, nbytes: int) -> bytes:
        page = self._page(number, _OVERFLOW)
        pages = _PAGES_OF_OVERFLOW.unpack_from(page)[0]
        if _PAGE.size + nbytes > pages * self._meta.page_bytes:
            raise self._damaged(number)
        return self._read(number, pages)[_PAGE.size : _PAGE.size + nbytes]

    def _page(self, number: int, kinds: int) -> bytes:
        page = self._read(number, 1)
        found, _, flags, _, _ = _PAGE.unpack_from(page)
        if found != number or not flags & kinds or flags & _KINDS & ~kinds:
            raise self._damaged(number)
        self._visited += 1
        if self._visited > self._meta.pages:
            raise PageError("is damaged: its pages refer to each other in a circle")
        return page

    def _read(self, number: int, pages: int) -> bytes:
        size = self._meta.page_bytes
        if not 2 <= number <= self._meta.pages - pages:
            raise PageError(f"is damaged: something in it refers to page {number} of {self._meta.pages}")
        raw = os.pread(self._fd, pages * size, number * size)
        if len(raw) < pages * size:
            raise PageError(f"is cut short: {self._nbytes} of {self._meta.nbytes} bytes")
        return raw

    def _damaged(self, number: int) -> PageError:
        return PageError(f"is damaged: page {number} is not what it should be")
