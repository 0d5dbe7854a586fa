"""One owner for a directory. Enters: a path. Leaves: a lock that dies with its process. Next: `pool.py`."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from simnode.storage.errors import DirectoryInUse

LOCK_FILE: Final = ".owner"


class DirectoryLock:
    """Exclusive ownership of a directory, which is made if need be.

    Raises:
        DirectoryInUse: a living process owns it (of another node, or of one that is still dying).
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise DirectoryInUse(f"{directory} belongs to a process that is still alive") from None
        except BaseException:
            os.close(self._descriptor)
            raise

    def close(self) -> None:
        """Lets it go."""
        os.close(self._descriptor)
