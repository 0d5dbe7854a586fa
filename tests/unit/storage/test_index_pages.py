"""LMDB's own file, read without LMDB: the same items, and no page in use that can be damaged unnoticed."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simnode.storage.index import Index
from simnode.storage.index_pages import IndexPages, PageError, read_meta
from simnode.storage.rows import ContractRow, pack_row

PAGE = 4096
CUT = b"\xff" * 16


@contextmanager
def pages_of(path: Path) -> Iterator[IndexPages]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield IndexPages(fd, read_meta(fd))
    finally:
        os.close(fd)


def fill(directory: Path, *, transactions: int, seed: int) -> Path:
    """An index that many transactions changed: branches, overflow pages, free pages."""
    chance = random.Random(seed)
    index = Index(directory)
    for version in range(transactions):
        with index.write() as batch:
            for _ in range(chance.randint(1, 60)):
                key = chance.randrange(300).to_bytes(2) * 16
                state = chance.randbytes(chance.choice([0, 10, 300, 3000, 9000, 60_000]))
                batch.put_row(ContractRow(key, version, bytes(32), (), (state,)))
                batch.put_delegate(chance.randbytes(32), state[:20])
                batch.delete_delegate(key)
    index.close()
    return directory / "data.mdb"


@pytest.mark.parametrize("seed", range(5))
def test_the_items_are_those_that_lmdb_reads(tmp_path: Path, seed: int) -> None:
    path = fill(tmp_path, transactions=10 * seed + 1, seed=seed)
    index = Index(tmp_path, readonly=True)
    rows = [(b"contracts", row.instance, pack_row(row)) for row in index.rows()]
    delegates = [(b"delegates", key, value) for key, value in index.delegates()]
    index.close()

    with pages_of(path) as pages:
        assert [item for item in pages.items() if item[0] != b"meta"] == rows + delegates


def test_no_page_in_use_can_be_damaged_unnoticed(tmp_path: Path) -> None:
    """Otherwise LMDB would meet it, in a process with clients."""
    path = fill(tmp_path, transactions=20, seed=1)
    whole = path.read_bytes()
    with pages_of(path) as pages:
        items = list(pages.items())
    noticed = 0
    for number in range(2, len(whole) // PAGE, 7):
        with path.open("r+b") as file:
            file.seek(number * PAGE)
            file.write(CUT)
        with pages_of(path) as pages:
            try:
                found = list(pages.items())
            except PageError:
                noticed += 1
            else:  # a free page, or the inside of a payload
                assert [item[:2] for item in found] == [item[:2] for item in items]
        path.write_bytes(whole)
    assert noticed > 20


def test_pages_that_refer_to_each_other_in_a_circle_end(tmp_path: Path) -> None:
    path = fill(tmp_path, transactions=20, seed=1)
    content = bytearray(path.read_bytes())
    branches = [at for at in range(2 * PAGE, len(content), PAGE) if struct.unpack_from("<H", content, at + 10)[0] == 1]
    for at in branches:
        lower = struct.unpack_from("<H", content, at + 12)[0]
        for (node,) in struct.iter_unpack("<H", bytes(content[at + 16 : at + lower])):
            struct.pack_into("<HHH", content, at + node, at // PAGE, 0, 0)  # itself
    path.write_bytes(content)

    with pages_of(path) as pages, pytest.raises(PageError, match=r"in a circle|is damaged"):
        list(pages.items())


def test_a_file_is_whole_while_it_has_its_last_page(tmp_path: Path) -> None:
    path = fill(tmp_path, transactions=3, seed=1)
    with pages_of(path) as pages:
        assert pages.is_whole
    os.truncate(path, path.stat().st_size - 1)
    with pages_of(path) as pages:
        assert not pages.is_whole
