"""Damaged data ends the start with one line: which file, what is wrong, what to do. Nothing is changed."""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simnode.protocol.keys import encode_base58
from simnode.storage import data_directory, filesystem
from simnode.storage.data_directory import check_index, prepare_data_directory
from simnode.storage.directory_lock import DirectoryLock
from simnode.storage.errors import DataDamaged, DirectoryInUse, NotADataDirectory, UnsuitableFilesystem
from simnode.storage.index import Index
from simnode.storage.names import next_epoch
from simnode.storage.rows import ContractRow, SegmentRef
from simnode.storage.segment_file import SegmentFile

PAGE = 4096
SEGMENT_BYTES = 64 * 1024
IN_SEGMENT = bytes(31) + b"\x01"
STATE, CODE = "1-000000-0.seg", "1-000001-0.seg"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """What a node leaves: small contracts, two payloads in segments, an index with free pages."""
    directory = tmp_path / "data"
    prepare_data_directory(directory)
    segments = directory / "segments"
    next_epoch(segments)
    for name in (STATE, CODE):
        SegmentFile.create(segments, name, SEGMENT_BYTES).close()
    index = Index(directory / "index", durable=True)
    with index.write() as batch:
        batch.put_code(bytes(32), (SegmentRef(CODE, 0, SEGMENT_BYTES),))
        batch.put_row(ContractRow(IN_SEGMENT, 1, bytes(32), (b"",), (SegmentRef(STATE, 100, SEGMENT_BYTES),)))
    for version in range(3):  # pages that are replaced become free
        with index.write() as batch:
            for number in range(300):
                instance = number.to_bytes(2) * 16
                batch.put_row(ContractRow(instance, version, bytes(32), (), (bytes(10 * number),)))
    index.close()
    return directory


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time of the last change and content of everything in a directory."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path.relative_to(directory))] = (status.st_mode, status.st_mtime_ns, content)
    return found


def refusal(directory: Path) -> str:
    before = snapshot(directory)
    with pytest.raises(DataDamaged) as caught:
        prepare_data_directory(directory)
    assert snapshot(directory) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_a_node_left_is_taken(data_dir: Path) -> None:
    before = snapshot(data_dir)

    assert prepare_data_directory(data_dir).punches

    assert snapshot(data_dir) == before


# -- the index ------------------------------------------------------------------------------


def cut(nbytes: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, path.stat().st_size + nbytes)


def overwrite(offset: int, content: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(content)

    return change


def both_metas(offset: int, content: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        for page in (0, 1):
            overwrite(page * PAGE + offset, content)(path)

    return change


def replace_by(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


INDEX_DAMAGE = {
    "one page short": (cut(-PAGE), "is cut short"),
    "one byte short": (cut(-1), "is cut short"),
    "half of it": (lambda path: os.truncate(path, 20 * PAGE), "is cut short"),
    "not even a page": (lambda path: os.truncate(path, 100), "is cut short: 100 bytes"),
    "one of two first pages": (lambda path: os.truncate(path, PAGE), "is cut short"),
    "empty, beside segments": (lambda path: os.truncate(path, 0), "is empty, but not the 2 segments"),
    "missing, beside segments": (Path.unlink, "is missing, but not the 2 segments"),
    "a directory": (replace_by(Path.mkdir), "Is a directory"),
    "a pipe": (replace_by(os.mkfifo), "is no regular file"),
    "a link to nowhere": (replace_by(lambda path: path.symlink_to("nowhere")), "No such file"),
    "another file": (replace_by(lambda path: path.write_bytes(b"#!/bin/sh\n" * 1000)), "is no index"),
    "big-endian": (both_metas(16, struct.pack(">I", 0xBEEFC0DE)), "another architecture"),
    "32-bit": (both_metas(12, struct.pack("<I", 0xBEEFC0DE) + bytes(4)), "is no index of a 64-bit machine"),
    "another LMDB": (both_metas(20, struct.pack("<I", 2)), "data version 2"),
    "a first page overwritten": (overwrite(0, bytes(PAGE)), "is no index"),
    "a second page overwritten": (overwrite(PAGE, bytes(PAGE)), "is no index"),
    "a page size that is none": (both_metas(40, struct.pack("<I", 1000)), "cannot have 1000 bytes"),
    "zeros inside": (lambda path: overwrite(2 * PAGE, bytes(path.stat().st_size - 2 * PAGE))(path), "is damaged"),
    "ones inside": (
        lambda path: overwrite(2 * PAGE, b"\xff" * (path.stat().st_size - 2 * PAGE))(path),
        "is damaged",
    ),
}


@pytest.mark.parametrize("kind", INDEX_DAMAGE)
def test_a_damaged_index_is_named_with_what_to_do(data_dir: Path, kind: str) -> None:
    damage, problem = INDEX_DAMAGE[kind]
    path = data_dir / "index" / "data.mdb"
    damage(path)

    message = refusal(data_dir)

    assert message.startswith(str(path))
    assert problem in message
    assert message.endswith("; restore it from a backup, or choose another data directory")


def test_an_index_that_this_user_may_not_write_is_named_with_who(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data_dir / "index" / "data.mdb"
    really_open = os.open

    def refuse(name: Path, flags: int, mode: int = 0o777) -> int:
        if name == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(name))
        return really_open(name, flags, mode)

    monkeypatch.setattr(os, "open", refuse)
    message = refusal(data_dir)
    assert message == f"{path}: Permission denied; make it readable and writable for user {os.geteuid()}"


def test_an_empty_index_alone_is_not_taken_for_a_beginning(data_dir: Path) -> None:
    """Small contracts have no segments: all of them would be gone without a word."""
    path = data_dir / "index" / "data.mdb"
    os.truncate(path, 0)
    for name in (STATE, CODE):
        (data_dir / "segments" / name).unlink()

    assert refusal(data_dir).endswith("is empty; restore it from a backup, or remove it to begin without contracts")

    path.unlink()
    prepare_data_directory(data_dir)


def test_the_store_notices_a_short_index_before_lmdb_does(data_dir: Path) -> None:
    check_index(data_dir / "index")
    cut(-PAGE)(data_dir / "index" / "data.mdb")
    with pytest.raises(DataDamaged, match="is cut short"):
        check_index(data_dir / "index")


def test_a_file_that_lacks_only_a_free_page_is_whole(data_dir: Path) -> None:
    """LMDB does not write pages that were taken and freed in one transaction."""
    path = data_dir / "index" / "data.mdb"
    metas = path.read_bytes()[: 2 * PAGE]
    for page in (0, 1):
        at = page * PAGE + 16 + 24 + 96
        last = struct.unpack_from("<Q", metas, at)[0]
        overwrite(at, struct.pack("<Q", last + 1))(path)
    check_index(data_dir / "index")
    prepare_data_directory(data_dir)


# -- the segments ---------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n", b"x", b"-1", b"1.5", b"\xff\xfe", b"\0\0"])
def test_an_epoch_that_is_no_number_is_named_with_the_number_to_write(data_dir: Path, content: bytes) -> None:
    path = data_dir / "segments" / "epoch"
    path.write_bytes(content)

    message = refusal(data_dir)

    assert message.startswith(f"{path}: ")
    assert message.endswith("; write 2 into it")
    path.write_text("2\n")
    prepare_data_directory(data_dir)
    assert next_epoch(data_dir / "segments") == 3


def test_an_epoch_that_is_a_directory_is_named(data_dir: Path) -> None:
    (data_dir / "segments" / "epoch").unlink()
    (data_dir / "segments" / "epoch").mkdir()
    assert refusal(data_dir).startswith(f"{data_dir}/segments/epoch: Is a directory; ")


@pytest.mark.parametrize(
    ("name", "what"), [(STATE, f"contract {encode_base58(IN_SEGMENT)}"), (CODE, f"code {'00' * 32}")]
)
@pytest.mark.parametrize("length", [None, 0, SEGMENT_BYTES - 1])
def test_a_segment_that_is_missing_or_short_is_named_with_who_needs_it(
    data_dir: Path, name: str, what: str, length: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = data_dir / "segments" / name
    if length is None:
        path.unlink()
        problem = f"{path} is missing, and {what} refers to it"
    else:
        os.truncate(path, length)
        problem = f"{path} has {length} bytes, and {what} refers to {SEGMENT_BYTES} of them"

    assert refusal(data_dir) == (
        f"{problem}; restore it from a backup, or serve what is left with --allow-lost-segments"
    )
    prepare_data_directory(data_dir, allow_lost=True)
    assert problem in caplog.text


def test_of_many_lost_segments_one_is_named_and_the_others_are_counted(data_dir: Path) -> None:
    for name in (STATE, CODE):
        (data_dir / "segments" / name).unlink()
    assert "(and 1 more are like it)" in refusal(data_dir)


def test_a_segment_that_is_a_directory_is_named(data_dir: Path) -> None:
    (data_dir / "segments" / STATE).unlink()
    (data_dir / "segments" / STATE).mkdir()
    assert refusal(data_dir).startswith(f"{data_dir}/segments/{STATE} is no regular file; ")


def test_segments_that_no_row_refers_to_and_other_files_are_left_alone(data_dir: Path) -> None:
    SegmentFile.create(data_dir / "segments", "1-000002-0.seg", SEGMENT_BYTES).close()
    for other in ("segments/notes.txt", "index/data.mdb.bak", "notes.txt", "segments/x.seg"):
        (data_dir / other).write_bytes(b"mine")
        (data_dir / other).chmod(0o600)
    before = snapshot(data_dir)

    prepare_data_directory(data_dir)

    assert snapshot(data_dir) == before


# -- the directory --------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["", "index", "segments"])
def test_a_file_in_the_place_of_a_directory_is_named(tmp_path: Path, part: str) -> None:
    path = tmp_path / "data" / part
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"mine")
    with pytest.raises(NotADataDirectory, match="is no directory"):
        prepare_data_directory(tmp_path / "data")
    assert path.read_bytes() == b"mine"


def test_a_directory_of_other_files_is_refused_before_it_is_closed(tmp_path: Path) -> None:
    """`--data-dir ~` would close the home directory and put an `index` into it."""
    (tmp_path / "letter.txt").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(NotADataDirectory, match=r"has other files \(letter.txt\)"):
        prepare_data_directory(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "letter.txt"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_a_directory_for_all_users_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(NotADataDirectory, match="is for all users"):
        prepare_data_directory(tmp_path)


def test_the_root_of_a_fresh_filesystem_is_empty_enough(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".keep").touch()
    prepare_data_directory(tmp_path)


def test_a_store_that_is_still_dying_is_waited_for(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    owner = DirectoryLock(data_dir / "index")

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            owner.close()

    monkeypatch.setattr(data_directory.time, "sleep", wait)
    prepare_data_directory(data_dir)
    assert len(waits) == 3


def test_a_store_that_lives_on_is_not_waited_for_for_ever(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = DirectoryLock(data_dir / "index")
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(data_directory.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(data_directory.time, "monotonic", lambda: next(clock))
    with pytest.raises(DirectoryInUse, match="still alive"):
        prepare_data_directory(data_dir)
    owner.close()


# -- modes ----------------------------------------------------------------------------------


@pytest.fixture
def loose_umask() -> Iterator[None]:
    mask = os.umask(0)
    yield
    os.umask(mask)


def open_to_others(directory: Path) -> list[str]:
    paths = [directory, *directory.rglob("*")]
    return [str(path) for path in paths if path.lstat().st_mode & 0o077 and not path.is_symlink()]


@pytest.mark.usefixtures("loose_umask")
def test_whatever_the_umask_only_the_user_can_read_what_a_node_makes(tmp_path: Path) -> None:
    prepare_data_directory(tmp_path / "data")
    next_epoch(tmp_path / "data" / "segments")
    DirectoryLock(tmp_path / "data" / "segments").close()
    index = Index(tmp_path / "data" / "index")
    assert open_to_others(tmp_path / "data") == []
    index.close()
    Index(tmp_path / "alone").close()
    assert open_to_others(tmp_path / "alone") == []


def test_what_an_older_node_left_open_is_closed_with_a_line_in_the_log(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in [data_dir, *data_dir.rglob("*")]:
        path.chmod(0o2775 if path.is_dir() else 0o664)

    prepare_data_directory(data_dir)

    assert open_to_others(data_dir) == []
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"other users could open {data_dir} (drwxrwsr-x) and " in record.message


def test_a_directory_that_cannot_be_closed_is_used_and_named(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A volume in a container belongs to root, and this user has it by its group."""
    data_dir.chmod(0o2775)

    def refuse(path: str, mode: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)

    monkeypatch.setattr(os, "chmod", refuse)
    prepare_data_directory(data_dir)
    assert f"cannot be closed to other users: {data_dir} (drwxrwsr-x): Operation not permitted" in caplog.text


# -- filesystems ----------------------------------------------------------------------------


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOSPC])
def test_a_filesystem_that_punches_no_holes_is_found_out_once_and_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    monkeypatch.setattr(filesystem, "punch_hole", failing(number))
    assert not prepare_data_directory(tmp_path / "data").punches
    (record,) = caplog.records
    assert "cannot give back parts of a file" in record.message


@pytest.mark.parametrize(
    ("module", "call", "number", "what"),
    [
        (fcntl, "flock", errno.ENOLCK, "flock"),
        (fcntl, "flock", errno.EOPNOTSUPP, "flock"),
        (fcntl, "lockf", errno.ENOLCK, "fcntl"),
        (os, "posix_fallocate", errno.EOPNOTSUPP, "fallocate"),
        (mmap, "mmap", errno.ENODEV, "mmap"),
    ],
)
def test_a_filesystem_without_what_every_node_needs_is_refused_with_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, call: str, number: int, what: str
) -> None:
    monkeypatch.setattr(module, call, failing(number))
    with pytest.raises(UnsuitableFilesystem, match=rf"{tmp_path}.* has no .*\({what}\).*choose a directory on a local"):
        prepare_data_directory(tmp_path / "data")


def test_a_full_disk_is_no_unsuitable_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(errno.ENOSPC))
    assert not prepare_data_directory(tmp_path / "data").punches
