from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from simnode.storage import index as index_module
from simnode.storage.errors import IndexDamaged, IndexFailure, IndexFull, IndexMissing
from simnode.storage.index import ROWS_AT_ONCE, Index
from simnode.storage.rows import ContractRow, SegmentRef


def row(number: int, version: int = 1, *, state: bytes = b"state") -> ContractRow:
    return ContractRow(number.to_bytes(32, "big"), version, b"c" * 32, (b"params",), (state,))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index")
    yield index
    index.close()


def test_a_row_is_read_as_it_was_last_written(index: Index) -> None:
    assert index.get(row(1).instance) is None
    with index.write() as batch:
        batch.put_row(row(1))
    with index.write() as batch:
        batch.put_row(row(1, version=2, state=b"newer"))
    assert index.get(row(1).instance) == row(1, version=2, state=b"newer")
    assert index.count() == 1


def test_a_batch_sees_its_own_writes_and_nobody_else_does_before_the_end(index: Index) -> None:
    with index.write() as batch:
        assert batch.row(row(1).instance) is None
        batch.put_row(row(1))
        assert batch.row(row(1).instance) == row(1)
        assert index.get(row(1).instance) is None
    assert index.get(row(1).instance) == row(1)


def test_a_batch_that_raises_leaves_nothing(index: Index) -> None:
    def fail() -> None:
        with index.write() as batch:
            batch.put_row(row(1))
            batch.put_code(b"c" * 32, (b"code",))
            batch.put_delegate(b"d", b"delegate")
            raise RuntimeError("the store changed its mind")

    with pytest.raises(RuntimeError):
        fail()
    assert index.get(row(1).instance) is None
    assert index.code(b"c" * 32) is None
    assert index.delegate(b"d") is None


def test_codes_are_stored_by_hash(index: Index) -> None:
    extents = (SegmentRef("1-000000-0.seg", 0, 10), b"rest")
    with index.write() as batch:
        batch.put_code(b"c" * 32, extents)
    assert index.code(b"c" * 32) == extents
    assert index.code(b"x" * 32) is None
    assert list(index.codes()) == [(b"c" * 32, extents)]


def test_delegates_come_and_go(index: Index) -> None:
    with index.write() as batch:
        batch.put_delegate(b"d", b"row")
    assert index.delegate(b"d") == b"row"
    assert list(index.delegates()) == [(b"d", b"row")]
    with index.write() as batch:
        assert batch.delete_delegate(b"d")
        assert not batch.delete_delegate(b"d")
    assert index.delegate(b"d") is None


@pytest.mark.parametrize("number", [0, 1, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE + 1])
def test_iteration_visits_every_row_once_in_order(index: Index, number: int) -> None:
    with index.write() as batch:
        for at in range(number):
            batch.put_row(row(at))
    assert list(index.rows()) == [row(at) for at in range(number)]


def test_an_iteration_in_progress_holds_no_transaction(index: Index) -> None:
    """Else the pages that a slow reader pins would pile up."""
    with index.write() as batch:
        for at in range(ROWS_AT_ONCE + 1):
            batch.put_row(row(at))
    rows = index.rows()
    next(rows)
    with index.write() as batch:
        batch.put_row(row(ROWS_AT_ONCE, version=2))
    assert list(rows)[-1].version == 2


def segment(name: str, nbytes: int) -> SegmentRef:
    return SegmentRef(name, 0, nbytes)


def with_segments(number: int, *states: SegmentRef) -> ContractRow:
    return ContractRow(number.to_bytes(32, "big"), 1, b"c" * 32, (segment(f"params-{number}", 1),), states)


def everything(index: Index) -> object:
    return index.totals(), index.segments("", 1000), index.count()


def recounted(index: Index) -> object:
    index.recount(lambda number: None)
    return everything(index)


def test_every_segment_in_use_is_named(index: Index) -> None:
    with index.write() as batch:
        batch.put_row(with_segments(1, segment("state-1", 5)))
        batch.put_row(with_segments(2))
        batch.put_code(b"c" * 32, (segment("code", 3),))
    names = ["code", "params-1", "params-2", "state-1"]
    assert [ref.name for ref in index.segments("", 1000)] == names
    assert [ref.name for ref in index.segments("params-1", 1)] == ["params-2"]
    assert all(map(index.refers_to, names))
    assert not index.refers_to("state-2")


def test_totals_and_segments_are_what_a_walk_over_all_rows_finds(index: Index) -> None:
    """However a row came to be what it is, in one batch or in several."""
    with index.write() as batch:
        for number in range(4):
            batch.put_row(row(number))
        batch.put_code(b"c" * 32, (segment("code", 10_000),))
        batch.put_row(with_segments(5, segment("grows", 5000)))
    with index.write() as batch:
        batch.put_row(row(1, version=2, state=b"longer than before"), replaces=row(1))
        batch.put_row(row(2, version=2, state=b""))
        grown = with_segments(5, segment("grows", 9000))
        batch.put_row(grown, replaces=with_segments(5, segment("grows", 5000)))
        batch.put_row(with_segments(3, segment("moved", 1)))
        batch.put_row(with_segments(3, segment("moved again", 1)))
        batch.put_code(b"d" * 32, (b"short",))
    totals = index.totals()
    params = 3 * len(b"params") + len(b"xx")
    states = len(b"state") + len(b"longer than before") + 9000 + 1
    assert (totals.nbytes, totals.segment_nbytes) == (params + states + 10_000 + 5, 4096 * (3 + 3 + 2 + 1))
    assert everything(index) == recounted(index)


def test_batch_that_is_not_written_leaves_the_totals(index: Index) -> None:
    def fail() -> None:
        with index.write() as batch:
            batch.put_row(with_segments(1, segment("state", 5)))
            raise RuntimeError("the store changed its mind")

    before = everything(index)
    with pytest.raises(RuntimeError):
        fail()
    assert everything(index) == before


def test_index_of_an_older_version_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "COUNTED_AT_ONCE", 2)
    index = Index(tmp_path)
    with index.write() as batch:
        for number in range(5):
            batch.put_row(with_segments(number, segment(f"state-{number}", 7)))
    expected = everything(index)
    index.close()
    environment = lmdb.Environment(str(tmp_path), max_dbs=5)
    meta, segments = environment.open_db(b"meta"), environment.open_db(b"segments")
    with environment.begin(write=True) as transaction:
        transaction.put(b"format", index_module.UNCOUNTED_FORMAT, db=meta)
        transaction.delete(b"totals", db=meta)
        transaction.drop(segments)
    environment.close()
    with pytest.raises(IndexMissing):
        Index(tmp_path, readonly=True)
    index = Index(tmp_path)
    assert not index.is_counted
    progress: list[int] = []
    index.recount(progress.append)
    assert (index.is_counted, progress) == (True, [2, 4])
    assert everything(index) == expected
    index.close()
    index = Index(tmp_path)
    assert index.is_counted
    index.close()


@pytest.mark.parametrize("at_once", [1, 2, 1000])
def test_walk_in_pieces_meets_every_contract_once_and_holds_no_transaction(index: Index, at_once: int) -> None:
    """What is written behind it is missed, what is written before it is seen, and nothing is seen twice."""
    with index.write() as batch:
        for number in range(10, 20):
            batch.put_row(row(number))
    found: list[int] = []
    last = b""
    while piece := index.instances(last, at_once):
        found += [int.from_bytes(instance, "big") for instance in piece]
        last = piece[-1]
        with index.write() as batch:
            batch.put_row(row(found[-1] - 10))
            batch.put_row(row(19, version=2))
    assert found == list(range(10, 20))


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    index = Index(tmp_path, durable=True)
    with index.write() as batch:
        batch.put_row(row(1))
    index.close()
    index.close()
    index = Index(tmp_path, readonly=True)
    assert index.get(row(1).instance) == row(1)
    assert index.reader_check() == 0
    index.close()


def test_a_reader_does_not_create_an_index(tmp_path: Path) -> None:
    with pytest.raises(IndexMissing):
        Index(tmp_path / "index", readonly=True)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("made", [[], [b"meta", b"contracts", b"codes", b"delegates"]])
def test_a_reader_that_is_too_early_is_told_so(tmp_path: Path, made: list[bytes]) -> None:
    """Or the store died while it was creating the index; the next one completes it."""
    environment = lmdb.Environment(str(tmp_path), max_dbs=4)
    for name in made:
        environment.open_db(name)
    environment.close()
    with pytest.raises(IndexMissing):
        Index(tmp_path, readonly=True)
    Index(tmp_path).close()
    Index(tmp_path, readonly=True).close()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    Index(tmp_path).close()
    index = Index(tmp_path, readonly=True)

    def write() -> None:
        with index.write() as batch:
            batch.put_row(row(1))

    with pytest.raises(IndexFailure):
        write()
    index.close()


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Index(tmp_path).close()
    monkeypatch.setattr(index_module, "FORMAT", b"simnode-index-3")
    for readonly in (False, True):
        with pytest.raises(IndexDamaged, match="simnode-index-2"):
            Index(tmp_path, readonly=readonly)


def test_garbage_is_typed(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"garbage " * 4096)
    with pytest.raises(IndexDamaged):
        Index(tmp_path)


def test_a_second_view_in_one_process_is_refused(index: Index, tmp_path: Path) -> None:
    with pytest.raises(IndexFailure, match="already open"):
        Index(tmp_path / "index")


def test_a_full_index_is_typed_writes_nothing_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "MAP_BYTES", 1 << 20)
    index = Index(tmp_path)
    with index.write() as batch:
        batch.put_row(row(0))

    def overfill() -> None:
        with index.write() as batch:
            for at in range(1, 1000):
                batch.put_row(row(at, state=bytes(60_000)))

    with pytest.raises(IndexFull):
        overfill()
    assert index.count() == 1
    with index.write() as batch:
        batch.put_row(row(1))
    assert index.count() == 2
    index.close()
