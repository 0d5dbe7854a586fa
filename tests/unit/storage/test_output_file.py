"""Files that a user asked for; how `simnode get` uses them is in tests/integration/test_cli_transfer.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from simnode.storage.output_file import OutputFile, is_standard_output


def write(path: Path, content: bytes) -> str | None:
    with OutputFile(path) as file:
        file.begin().write(content)
        file.commit()
        return file.in_place


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old"
    path.write_bytes(b"something older and longer")
    return path


def test_a_file_has_its_old_content_until_the_new_one_is_complete(old: Path) -> None:
    with OutputFile(old) as file:
        file.begin().write(b"new")
        assert old.read_bytes() == b"something older and longer"
        file.commit()
    assert old.read_bytes() == b"new"


def test_what_is_not_committed_leaves_nothing(old: Path, tmp_path: Path) -> None:
    with OutputFile(old) as file:
        file.begin().write(b"new")
    with OutputFile(tmp_path / "new"):
        pass
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_bytes() == b"something older and longer"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_in_a_directory_that_takes_no_new_file_the_old_one_is_written_in_place(
    old: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    really_open = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number), path)
        return really_open(path, flags, mode)

    before = old.stat().st_ino
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        assert write(old, b"new") == "its directory takes no other file"
        with pytest.raises(OSError, match="new") as caught:
            OutputFile(old.with_name("new"))
    assert caught.value.filename == str(old.with_name("new"))  # and not the temporary one
    assert (old.read_bytes(), old.stat().st_ino) == (b"new", before)


def test_a_full_disk_is_said_before_the_download(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really_open = os.open

    def refuse(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        return really_open(path, flags, mode)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        with pytest.raises(OSError, match="No space left"):
            OutputFile(old)
    assert old.read_bytes() == b"something older and longer"


@pytest.mark.parametrize("call", ["fchown", "fchmod", "setxattr"])
def test_a_file_whose_owner_or_attributes_no_other_can_have_is_written_in_place(
    old: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Another user's file that its group may write; in a directory like /tmp it could not be replaced, either."""
    os.setxattr(old, "user.origin", b"here")
    before = old.stat()
    with monkeypatch.context() as patched:
        if call == "fchown":
            really = os.fstat
            patched.setattr(
                os, "fstat", lambda fd: os.stat_result((*(status := really(fd))[:4], status.st_uid + 1, *status[5:]))
            )

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        patched.setattr(os, call, refuse)
        in_place = write(old, b"new")
    assert in_place == "no other file can have its owner and attributes"
    assert (old.read_bytes(), old.stat().st_ino, old.stat().st_mode) == (b"new", before.st_ino, before.st_mode)
    assert list(old.parent.iterdir()) == [old]


def test_a_device_takes_bytes_and_stays(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    assert write(link, b"gone") is None
    assert link.is_char_device()


def test_a_socket_is_refused_with_its_name(tmp_path: Path) -> None:
    os.mknod(tmp_path / "socket", 0o140600)
    with pytest.raises(OSError, match="No such device or address") as caught:
        OutputFile(tmp_path / "socket")
    assert caught.value.filename == str(tmp_path / "socket")


@pytest.mark.parametrize(
    ("path", "expected"),
    [("-", True), ("/dev/stdout", True), ("/dev/fd/1", True), ("/proc/self/fd/1", True), ("/dev/fd/2", False)],
)
def test_standard_output_has_many_names(path: str, expected: bool) -> None:
    assert is_standard_output(Path(path)) is expected


def test_a_path_of_no_descriptor_is_not_standard_output(old: Path, tmp_path: Path) -> None:
    (tmp_path / "1").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert [path for path in (old, tmp_path / "1", tmp_path / "loop") if is_standard_output(path)] == []
