from __future__ import annotations

from pathlib import Path

import pytest

from simnode.storage.errors import SegmentGone
from simnode.storage.segment_file import PAGE_BYTES, SegmentFile
from simnode.storage.segments import Segment

NBYTES = 4 * PAGE_BYTES


def filled(directory: Path, name: str = "a") -> Segment:
    segment = Segment.create(directory, name, NBYTES)
    segment.write(0, b"0123456789")
    return segment


def can_be_recycled(directory: Path, name: str = "a") -> bool:
    return SegmentFile.open(directory, name, writable=True).try_lock_exclusive()


def test_what_one_mapping_writes_another_one_reads(tmp_path: Path) -> None:
    writer = filled(tmp_path)
    reader = Segment.open(tmp_path, "a")
    assert bytes(reader.map[:10]) == b"0123456789"
    writer.map[0:1] = b"x"
    assert reader.map[0] == ord("x")
    assert (reader.name, reader.nbytes) == ("a", NBYTES)


def test_a_blob_knows_its_origin_and_cannot_be_written(tmp_path: Path) -> None:
    segment = filled(tmp_path)
    blob = segment.blob(2, 5)
    assert (bytes(blob), blob.origin, blob.start, blob.stop) == (b"234", segment, 2, 5)
    assert blob.view.readonly


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, NBYTES + 1)])
def test_a_blob_outside_the_segment_is_refused(tmp_path: Path, start: int, stop: int) -> None:
    with pytest.raises(IndexError):
        filled(tmp_path).blob(start, stop)


def test_a_reading_segment_cannot_be_written(tmp_path: Path) -> None:
    filled(tmp_path)
    segment = Segment.open(tmp_path, "a")
    assert segment.map.readonly
    with pytest.raises(OSError, match="Bad file descriptor"):
        segment.write(0, b"x")


def test_closing_never_fails_and_blobs_outlive_it(tmp_path: Path) -> None:
    segment = filled(tmp_path)
    blob = segment.blob(0, 10)
    segment.close()
    segment.close()
    assert bytes(blob) == b"0123456789"
    assert segment.nbytes == 0


def test_a_blob_outlives_the_name(tmp_path: Path) -> None:
    filled(tmp_path)
    segment = Segment.open(tmp_path, "a")
    blob = segment.blob(0, 10)
    (tmp_path / "a").unlink()
    assert segment.is_unlinked()
    assert bytes(blob) == b"0123456789"


def test_a_writer_holds_its_segment_from_the_start(tmp_path: Path) -> None:
    """A lease may be revoked while its owner is stopped, which must not write into the next one's message."""
    writer = filled(tmp_path)
    assert not can_be_recycled(tmp_path)
    writer.release_read()
    assert can_be_recycled(tmp_path)


def test_opening_for_writing_after_a_revocation_is_refused(tmp_path: Path) -> None:
    filled(tmp_path).release_read()
    SegmentFile.open(tmp_path, "a", writable=True).rename("b")
    with pytest.raises(SegmentGone):
        Segment.open(tmp_path, "a", writable=True)


def test_the_shared_lock_is_counted(tmp_path: Path) -> None:
    filled(tmp_path).release_read()
    reader = Segment.open(tmp_path, "a")
    assert can_be_recycled(tmp_path)
    reader.acquire_read()
    reader.acquire_read()
    reader.release_read()
    assert reader.is_held
    assert not can_be_recycled(tmp_path)
    reader.release_read()
    assert not reader.is_held
    assert can_be_recycled(tmp_path)


def test_a_segment_closed_while_held_stays_held_until_its_blobs_are_gone(tmp_path: Path) -> None:
    filled(tmp_path).release_read()
    reader = Segment.open(tmp_path, "a")
    reader.acquire_read()
    blob = reader.blob(0, 10)
    reader.close()
    assert not can_be_recycled(tmp_path)
    del blob
    assert can_be_recycled(tmp_path)


def test_a_refused_acquisition_holds_nothing(tmp_path: Path) -> None:
    filled(tmp_path).release_read()
    reader = Segment.open(tmp_path, "a")
    SegmentFile.open(tmp_path, "a", writable=True).rename("b")
    with pytest.raises(SegmentGone):
        reader.acquire_read()
    assert not reader.is_held
    assert can_be_recycled(tmp_path, "b")


def test_the_exclusive_lock_is_had_when_nobody_holds_the_segment(tmp_path: Path) -> None:
    filled(tmp_path).release_read()
    reader, owner = Segment.open(tmp_path, "a"), Segment.open(tmp_path, "a")
    reader.acquire_read()
    assert not owner.try_lock_exclusive()
    reader.release_read()
    assert owner.try_lock_exclusive()
    owner.unlock_exclusive()
    reader.acquire_read()


def test_growing_keeps_old_views_and_bytes(tmp_path: Path) -> None:
    segment = filled(tmp_path)
    before = segment.blob(0, 10)
    segment.grow(2 * NBYTES)
    assert segment.nbytes == 2 * NBYTES
    segment.write(2 * NBYTES - 1, b"z")
    segment.write(0, b"x")
    assert bytes(before) == b"x123456789"
    assert segment.map[2 * NBYTES - 1] == ord("z")


def test_growing_to_what_the_pool_has_already_allocated_only_maps(tmp_path: Path) -> None:
    segment = filled(tmp_path)
    SegmentFile.open(tmp_path, "a", writable=True).extend(2 * NBYTES)
    segment.grow(NBYTES + 1)
    assert segment.nbytes == 2 * NBYTES


def test_trimming_keeps_the_pages_of_the_range_and_the_length(tmp_path: Path) -> None:
    segment = filled(tmp_path)
    segment.write(0, b"x" * NBYTES)
    held = SegmentFile.open(tmp_path, "a", writable=False).held_bytes()
    segment.trim(PAGE_BYTES + 1, 2 * PAGE_BYTES + 1)
    assert held - SegmentFile.open(tmp_path, "a", writable=False).held_bytes() == 2 * PAGE_BYTES
    assert bytes(segment.map) == bytes(PAGE_BYTES) + b"x" * (2 * PAGE_BYTES) + bytes(PAGE_BYTES)
    segment.sync()
