"""Where Ray keeps its sockets and logs. Enters: the machine. Leaves: a directory. Next: `ray_session.py`.

This module does not import Ray, so that `simnode doctor` can use it without loading Ray.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from actors.leftovers import RAY_LINK

UNIX_PATH_BYTES = 107
"""The longest path of a unix socket on Linux, without the final zero byte."""

_OUTER_NAME = "simnode-XXXXXXXX"  # what `mkdtemp` makes of the prefix
_LONGEST_SOCKET = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"

SHORT_DIRECTORIES = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))
"""Used, in this order, when Ray's sockets do not fit into the user's temporary directory."""


class NoDirectoryForRay(OSError):
    """No temporary directory is both short enough and writable."""


def has_room_for_sockets(parent: Path) -> bool:
    """Whether the paths of Ray's sockets stay within a unix socket's limit below `parent`."""
    path = parent.absolute() / _OUTER_NAME / RAY_LINK / _LONGEST_SOCKET
    return len(os.fsencode(path)) <= UNIX_PATH_BYTES


def choose_parent(wanted: Path, others: Iterable[Path] = SHORT_DIRECTORIES) -> Path:
    """Returns `wanted` if Ray's sockets fit into it, else the first of the others that is writable.

    Raises:
        NoDirectoryForRay: no directory is suitable.
    """
    if has_room_for_sockets(wanted):
        return wanted
    for directory in others:
        if has_room_for_sockets(directory) and os.access(directory, os.W_OK | os.X_OK):
            return directory
    raise NoDirectoryForRay(f"{wanted} is too long for Ray's sockets, and no short directory is writable; set TMPDIR")


def make_outer_directory() -> Path:
    """Makes a directory of mode 0700 for Ray's own, which Ray opens to everybody.

    Raises:
        OSError: it cannot be made; `NoDirectoryForRay` if there is no place for it.
    """
    return Path(tempfile.mkdtemp(prefix="simnode-", dir=choose_parent(Path(tempfile.gettempdir()))))
