"""What a filesystem can do. Enters: a directory. Leaves: `FilesystemFacts`. Next: `data_directory.py`.

Every node needs locks, shared mappings and allocation. To give pages of a file back while it lives
on (`PUNCH_HOLE`) is a saving that some filesystems do not know (vfat, NFS before 4.2, many in user
space), so it is asked for once, before there are segments.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simnode.storage.errors import UnsuitableFilesystem
from simnode.storage.segment_file import NO_ROOM, PAGE_BYTES, punch_hole

UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.ENOLCK, errno.ENOTTY})
"""What filesystems say that cannot do a thing at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesystemFacts:
    """What a node should know of the filesystem it keeps segments on.

    Attributes:
        punches: whether pages of a file that lives on can be given back.
    """

    punches: bool


def examine(directory: Path) -> FilesystemFacts:
    """Tries what a node does to its files, with a file that has no name afterwards.

    Raises:
        UnsuitableFilesystem: something is missing that a node cannot do without.
        OSError: no file can be made there.
    """
    with tempfile.TemporaryFile(dir=directory, prefix=".probe-") as file:
        fd = file.fileno()
        _needed(directory, "locks (flock)", lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))
        _needed(directory, "locks (fcntl)", lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))
        try:
            # where a filesystem cannot allocate, the C library writes a byte into each block instead
            _needed(directory, "allocation (fallocate)", lambda: os.posix_fallocate(fd, 0, PAGE_BYTES))
            _needed(directory, "shared mappings (mmap)", lambda: mmap.mmap(fd, PAGE_BYTES).close())
            punch_hole(fd, 0, PAGE_BYTES)
        except OSError as error:
            # full: reading still works, and to expect less of the filesystem is right in any case
            if error.errno not in UNSUPPORTED | NO_ROOM:
                raise
            return FilesystemFacts(punches=False)
    return FilesystemFacts(punches=True)


def _needed(directory: Path, what: str, attempt: Callable[[], None]) -> None:
    try:
        attempt()
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        raise UnsuitableFilesystem(
            f"{directory}: its filesystem has no {what}, which a node needs; choose a directory on a local disk"
        ) from error
