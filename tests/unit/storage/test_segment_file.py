from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from simnode.storage.errors import OutOfSpace, SegmentFailure, SegmentGone
from simnode.storage.segment_file import PAGE_BYTES, SegmentFile, page_range

NBYTES = 4 * PAGE_BYTES


def test_page_range_rounds_outwards_and_leaves_whole_pages_alone() -> None:
    assert page_range(0, PAGE_BYTES) == (0, PAGE_BYTES)
    assert page_range(1, PAGE_BYTES + 1) == (0, 2 * PAGE_BYTES)
    assert page_range(PAGE_BYTES - 1, PAGE_BYTES) == (0, PAGE_BYTES)


def test_a_new_file_occupies_all_its_bytes_at_once(tmp_path: Path) -> None:
    """A hole would be a SIGBUS on a full tmpfs."""
    file = SegmentFile.create(tmp_path, "a", NBYTES)
    assert file.nbytes == NBYTES
    assert file.held_bytes() >= NBYTES


def test_a_name_is_not_taken_twice(tmp_path: Path) -> None:
    SegmentFile.create(tmp_path, "a", NBYTES)
    with pytest.raises(FileExistsError):
        SegmentFile.create(tmp_path, "a", NBYTES)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_typed_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(fd: int, offset: int, length: int) -> None:
        os.ftruncate(fd, offset + length // 2)  # as a filesystem that got half way
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OutOfSpace):
        SegmentFile.create(tmp_path, "a", NBYTES)
    assert list(tmp_path.iterdir()) == []


def test_a_filesystem_without_inodes_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int, mode: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutOfSpace):
        SegmentFile.create(tmp_path, "a", NBYTES)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_no_holes_can_be_punched_the_bytes_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    file = SegmentFile.create(tmp_path, "a", NBYTES)
    file.write(0, b"old")

    def refuse(fd: int, start: int, stop: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("simnode.storage.segment_file.punch_hole", refuse)
    file.punch(0, NBYTES)
    assert file.held_bytes() >= NBYTES
    assert bytes(file.map()[:3]) == b"old"


def test_a_hole_that_a_broken_disk_refuses_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SegmentFile.create(tmp_path, "a", NBYTES)

    def refuse(fd: int, start: int, stop: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("simnode.storage.segment_file.punch_hole", refuse)
    with pytest.raises(SegmentFailure, match="Input/output"):
        file.punch(0, NBYTES)


def test_a_refused_extension_leaves_the_length_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = SegmentFile.create(tmp_path, "a", NBYTES)

    def refuse(fd: int, offset: int, length: int) -> None:
        os.ftruncate(fd, offset + length // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OutOfSpace):
        file.extend(2 * NBYTES)
    assert file.nbytes == (tmp_path / "a").stat().st_size == NBYTES


def test_another_error_is_not_taken_for_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(SegmentFailure, match=os.strerror(errno.EIO)):
        SegmentFile.create(tmp_path, "a", NBYTES)
    assert not list(tmp_path.iterdir())


def test_opening_what_is_not_there_is_typed(tmp_path: Path) -> None:
    with pytest.raises(SegmentGone):
        SegmentFile.open(tmp_path, "a", writable=False)


def test_punched_pages_are_given_back_and_read_as_zeros(tmp_path: Path) -> None:
    file = SegmentFile.create(tmp_path, "a", NBYTES)
    file.write(0, b"x" * NBYTES)
    before = file.held_bytes()
    file.punch(PAGE_BYTES, 3 * PAGE_BYTES)
    assert before - file.held_bytes() == 2 * PAGE_BYTES
    assert file.nbytes == NBYTES
    content = (tmp_path / "a").read_bytes()
    assert content == b"x" * PAGE_BYTES + bytes(2 * PAGE_BYTES) + b"x" * PAGE_BYTES


def test_holes_are_filled_without_touching_their_neighbours(tmp_path: Path) -> None:
    file = SegmentFile.create(tmp_path, "a", NBYTES)
    file.write(0, b"x" * NBYTES)
    before = file.held_bytes()
    file.punch(0, PAGE_BYTES)
    file.allocate(0, PAGE_BYTES)
    assert file.held_bytes() == before
    assert (tmp_path / "a").read_bytes() == bytes(PAGE_BYTES) + b"x" * (NBYTES - PAGE_BYTES)


@pytest.mark.parametrize("offset", [-1, NBYTES - 2])
def test_writing_past_the_end_is_refused(tmp_path: Path, offset: int) -> None:
    """The file would grow, and nobody would account for it."""
    file = SegmentFile.create(tmp_path, "a", NBYTES)
    with pytest.raises(IndexError):
        file.write(offset, b"xyz")
    assert (tmp_path / "a").stat().st_size == NBYTES


def test_a_shared_lock_excludes_the_exclusive_one_and_not_another_shared_one(tmp_path: Path) -> None:
    SegmentFile.create(tmp_path, "a", NBYTES).close()
    readers = [SegmentFile.open(tmp_path, "a", writable=False) for _ in range(2)]
    owner = SegmentFile.open(tmp_path, "a", writable=True)
    for reader in readers:
        reader.lock_shared()
    assert not owner.try_lock_exclusive()
    readers[0].unlock()
    assert not owner.try_lock_exclusive()
    readers[1].close()
    assert owner.try_lock_exclusive()


def test_a_lock_on_a_file_that_was_renamed_meanwhile_is_refused(tmp_path: Path) -> None:
    """Between open and lock the pool may recycle the file: its bytes are somebody else's then."""
    owner = SegmentFile.create(tmp_path, "a", NBYTES)
    late = SegmentFile.open(tmp_path, "a", writable=True)
    owner.rename("b")
    with pytest.raises(SegmentGone):
        late.lock_shared()
    assert owner.try_lock_exclusive(), "the refused lock must not stay"


def test_a_lock_on_a_name_that_means_another_file_is_refused(tmp_path: Path) -> None:
    SegmentFile.create(tmp_path, "a", NBYTES).close()
    late = SegmentFile.open(tmp_path, "a", writable=False)
    os.unlink(tmp_path / "a")
    assert late.is_unlinked()
    SegmentFile.create(tmp_path, "a", NBYTES)
    with pytest.raises(SegmentGone):
        late.lock_shared()


def test_a_lock_lasts_as_long_as_a_view_of_the_mapping(tmp_path: Path) -> None:
    """A socket may still hold a view when the file object is long gone."""
    file = SegmentFile.create(tmp_path, "a", NBYTES)
    file.lock_shared()
    view = memoryview(file.map())
    file.close()
    other = SegmentFile.open(tmp_path, "a", writable=True)
    assert not other.try_lock_exclusive()
    del view
    assert other.try_lock_exclusive()
