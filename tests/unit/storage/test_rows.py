from __future__ import annotations

import msgpack
import pytest

from simnode.storage.errors import IndexDamaged
from simnode.storage.rows import (
    ContractRow,
    Extents,
    SegmentRef,
    extents_nbytes,
    pack_extents,
    pack_row,
    segment_names,
    unpack_extents,
    unpack_row,
)

EXTENTS: list[Extents] = [
    (),
    (b"",),
    (b"inline",),
    (SegmentRef("1-000000-0.seg", 5, 1 << 33),),
    (b"head", SegmentRef("a", 0, 10), b"tail", SegmentRef("b", 1, 2), SegmentRef("a", 20, 30)),
]


@pytest.mark.parametrize("state", EXTENTS)
@pytest.mark.parametrize("params", EXTENTS)
def test_a_row_survives_packing(params: Extents, state: Extents) -> None:
    row = ContractRow(instance=b"i" * 32, version=1 << 40, code_hash=b"c" * 32, params=params, state=state)
    assert unpack_row(b"i" * 32, pack_row(row)) == row


@pytest.mark.parametrize("extents", EXTENTS)
def test_extents_survive_packing(extents: Extents) -> None:
    assert unpack_extents(pack_extents(extents)) == extents


def test_a_row_is_little_larger_than_what_is_in_it() -> None:
    row = ContractRow(b"i" * 32, 7, b"c" * 32, (b"",), (b"s" * 256,))
    assert len(pack_row(row)) <= 32 + 256 + 16


def test_lengths_and_segments_are_those_of_all_extents() -> None:
    assert extents_nbytes(EXTENTS[4]) == 4 + 10 + 4 + 1 + 10
    assert segment_names(EXTENTS[4], EXTENTS[3]) == ["a", "b", "1-000000-0.seg"]
    assert ContractRow(b"", 0, b"", (b"params",), EXTENTS[4]).state_nbytes == 29


@pytest.mark.parametrize(
    "packed",
    [b"", b"\xc1", msgpack.packb([1, b"c"]), msgpack.packb([1, b"c", [], [["a", 1]]]), msgpack.packb(7), b"\xdc"],
)
def test_what_is_no_row_is_typed(packed: bytes) -> None:
    with pytest.raises(IndexDamaged):
        unpack_row(b"i" * 32, packed)


@pytest.mark.parametrize("packed", [b"", msgpack.packb(7), msgpack.packb([["a", 1, 2, 3]])])
def test_what_are_no_extents_is_typed(packed: bytes) -> None:
    with pytest.raises(IndexDamaged):
        unpack_extents(packed)
