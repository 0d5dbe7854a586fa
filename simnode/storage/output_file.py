"""A file that a user asked for. Enters: a path. Leaves: the bytes under it, all or none where that can be.

What can be done with a path is found out by `OutputFile(path)`, before there is a byte to write: a
download of minutes does not end with "Permission denied". Where possible the bytes go to a temporary
file beside the target, which takes the target's place (and its mode, owner and attributes) when it is
complete. What cannot be replaced is written in place: devices, pipes, descriptors, mounted files,
files with several names, and files in a directory that takes no new ones.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

STANDARD_OUTPUT: Final = Path("-")
"""What a user writes for it; `/dev/stdout` and `/dev/fd/1` are the same."""
STANDARD_OUTPUT_FD: Final = 1

NEW_FILE_MODE: Final = 0o666  # less the umask, as any program makes a file
TEMPORARY_PREFIX: Final = ".simnode-"  # with 8 digits: short, whatever the target's name is
MAX_LINKS: Final = 40  # path_resolution(7)

_CLOSED_DIRECTORY: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_ATTRIBUTES: Final = frozenset({errno.ENOTSUP, errno.ENOSYS})


class OutputFile:
    """A target that can be written, as far as that can be known. A context manager: what is not committed is dropped.

    Args:
        path: as the user wrote it. Links are followed.

    Attributes:
        in_place: why a regular file is not replaced as a whole, so that an interrupted write leaves a part of
            the new content; None where it is replaced, or where there is no old content (a device, a pipe).

    Raises:
        OSError: the path cannot be written; its `filename` is `path`.
    """

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        #: where the bytes go: the target, or its replacement
        self._fd = -1
        self._file: BinaryIO | None = None
        self._replacement: str | None = None
        self._target: str | None = None
        self._truncates = False
        self.in_place: str | None = None
        try:
            self._plan()
        except OSError as error:
            self.discard()
            raise OSError(error.errno, error.strerror, str(path)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def begin(self) -> BinaryIO:
        """Empties a file that is written in place, and returns what to write to."""
        assert self._file is None, "it was begun"
        if self._truncates:
            os.ftruncate(self._fd, 0)
        fd, self._fd = self._fd, -1
        self._file = os.fdopen(fd, "wb")
        return self._file

    def commit(self) -> None:
        """All bytes are written: the target is complete from now on.

        Raises:
            OSError: the last bytes could not be written.
        """
        assert self._file is not None, "nothing was begun"
        self._file.close()
        if self._replacement is not None:
            assert self._target is not None
            os.replace(self._replacement, self._target)
            self._replacement = None

    def discard(self) -> None:
        """Removes what was not committed; a file that is written in place keeps what came so far. Idempotent."""
        if self._file is not None:
            with suppress(OSError):  # what it still buffers is not wanted any more, and a pipe may be gone
                self._file.close()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)
        if self._replacement is not None:
            with suppress(FileNotFoundError):
                os.unlink(self._replacement)
            self._replacement = None

    # -- the plan ---------------------------------------------------------------------------

    def _plan(self) -> None:
        target = STANDARD_OUTPUT_FD if self._path == STANDARD_OUTPUT else resolve(self._path)
        if isinstance(target, int):
            self._fd = _writable_duplicate(target)
            return
        self._target = target
        try:
            status = os.stat(target)
        except FileNotFoundError:
            self._fd, self._replacement = _temporary_beside(target, NEW_FILE_MODE)
            return
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._fd = os.open(target, os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
        if stat.S_ISREG(status.st_mode):
            self._truncates = True
            self.in_place = self._plan_replacement(target, status)

    def _plan_replacement(self, target: str, status: os.stat_result) -> str | None:
        """Makes the file that is to take the target's place; why there is none, if there cannot be one."""
        if status.st_nlink > 1:
            return f"it has {status.st_nlink} names, which are to stay one file"
        if _is_mount_point(self._fd, target):
            return "it is mounted where it is"
        try:
            fd, replacement = _temporary_beside(target, 0o600)
        except OSError as error:
            if error.errno not in _CLOSED_DIRECTORY:
                raise
            return "its directory takes no other file"
        if not _made_alike(fd, self._fd, status):
            os.close(fd)
            os.unlink(replacement)
            return "no other file can have its owner and attributes"
        os.close(self._fd)
        self._fd, self._replacement, self._truncates = fd, replacement, False
        return None


def is_standard_output(path: Path) -> bool:
    """Whether bytes written to `path` go to this process's standard output, by whatever name."""
    return path == STANDARD_OUTPUT or resolve(path) == STANDARD_OUTPUT_FD


def resolve(path: Path) -> str | int:
    """What `path` means once its links are followed: another path, or a descriptor of this process.

    `/dev/stdout`, `/dev/fd/N` and `/proc/self/fd/N` are descriptors: opening them anew would begin at
    the start of a file that a shell opened for appending, and some (sockets) cannot be opened at all.
    """
    here = os.fspath(path)
    own_descriptors = re.compile(rf"/proc/{os.getpid()}(/task/\d+)?/fd")
    for _ in range(MAX_LINKS):
        parent, name = os.path.split(here)
        parent = os.path.realpath(parent)
        here = os.path.join(parent, name)
        if own_descriptors.fullmatch(parent) and name.isdecimal():
            return int(name)
        if parent.startswith("/proc/"):  # another process's descriptors: their links are no paths
            return here
        try:
            link = os.readlink(here)
        except OSError:  # no link, or nothing there; `stat` will tell
            return here
        here = os.path.join(parent, link)
    return here  # `stat` will tell


def _writable_duplicate(fd: int) -> int:
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Not open for writing")
    return os.dup(fd)


def _temporary_beside(target: str, mode: int) -> tuple[int, str]:
    """A new file in the target's directory: its descriptor and path."""
    directory = os.path.dirname(target)
    while True:
        path = os.path.join(directory, f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}")
        with suppress(FileExistsError):
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), path


def _is_mount_point(fd: int, target: str) -> bool:
    """Whether a file system or a single file is mounted at `target`, whose name cannot be given to another file."""
    directory = os.open(os.path.dirname(target), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _mount_of(fd) != _mount_of(directory)
    finally:
        os.close(directory)


def _mount_of(fd: int) -> str:
    """Which mount an open file belongs to; the device does not tell where a directory of the same one is mounted."""
    lines = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
    return next(line for line in lines if line.startswith("mnt_id:"))


def _made_alike(fd: int, original: int, status: os.stat_result) -> bool:
    """Gives a file the owner, mode, access lists and other attributes of another; whether that was possible."""
    try:
        own = os.fstat(fd)
        if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
            os.fchown(fd, status.st_uid, status.st_gid)
        wanted, found = _attributes(original), _attributes(fd)
        for name in found.keys() - wanted.keys():  # a directory may have access lists for new files
            os.removexattr(fd, name)
        for name, value in wanted.items():
            if found.get(name) != value:
                os.setxattr(fd, name, value)
        os.fchmod(fd, stat.S_IMODE(status.st_mode))  # last: a new owner and new lists change it
    except OSError:
        return False
    return True


def _attributes(fd: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTES:
            raise
        return {}
