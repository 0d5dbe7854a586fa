"""A directory for each running node, swept when it is gone. Enters: a root. Leaves: `RunDirectory`. Next: `pool.py`.

Every process of a node holds a shared lock on its run directory; the kernel drops it however the
process dies. So a directory whose lock can be had exclusively belongs to nobody, without asking
which process ids are alive.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simnode.storage.segment_file import STAT_BLOCK_BYTES

OWNER_FILE: Final = "owner"
ROOT_LOCK_FILE: Final = ".lock"


class RunDirectory:
    """A process's share in a run directory: held until `close` or the process's death."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path: Final = path
        self._lock_fd = lock_fd

    @classmethod
    def create(cls, root: Path, name: str) -> RunDirectory:
        """A new directory under `root` (made if need be, for this user only).

        Raises:
            FileExistsError: the name is taken.
            PermissionError: `root` belongs to somebody else, who could swap our files.
        """
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if root.stat().st_uid != os.geteuid():
            raise PermissionError(f"{root} belongs to another user")
        root.chmod(0o700)  # it may be older than this rule
        with _locked(root):
            path = root / name
            path.mkdir(mode=0o700)
            (path / OWNER_FILE).touch(mode=0o600)
            return cls.join(path)

    @classmethod
    def join(cls, path: Path) -> RunDirectory:
        """Share in an existing run directory, as each process of the node does.

        Raises:
            FileNotFoundError: it is no run directory (any more).
        """
        fd = os.open(path / OWNER_FILE, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_SH)
        if os.fstat(fd).st_nlink == 0:
            os.close(fd)
            raise FileNotFoundError(f"{path} was swept this very moment")
        return cls(path, fd)

    def close(self) -> None:
        """Let go of the directory; whoever sweeps next removes it, if nobody else holds it. Idempotent."""
        if self._lock_fd >= 0:
            fd, self._lock_fd = self._lock_fd, -1
            os.close(fd)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A run directory that nobody holds."""

    path: Path
    nbytes: int
    """Memory or disk that its files occupy."""


def leftovers(root: Path) -> list[Leftover]:
    """The run directories under `root` whose node is gone; other things in `root` are none of ours."""
    if not root.is_dir():
        return []
    with _locked(root):
        return [Leftover(path, _occupied_bytes(path)) for path in _abandoned(root)]


def sweep_run_directories(root: Path) -> list[Leftover]:
    """Remove the `leftovers` and return them. Safe beside nodes that are starting or running."""
    if not root.is_dir():
        return []
    swept = []
    with _locked(root):
        for path in _abandoned(root):
            swept.append(Leftover(path, _occupied_bytes(path)))
            shutil.rmtree(path)
    return swept


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """One creator or sweeper at a time: a new directory is never seen before its owner holds it."""
    fd = os.open(root / ROOT_LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _abandoned(root: Path) -> Iterator[Path]:
    for owner in sorted(root.glob(f"*/{OWNER_FILE}")):
        fd = os.open(owner, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            yield owner.parent
        finally:
            os.close(fd)


def _occupied_bytes(directory: Path) -> int:
    return sum(path.lstat().st_blocks * STAT_BLOCK_BYTES for path in directory.rglob("*"))
