"""Real bytes to send. Enters: files and a seed. Leaves: cuts of them with their BLAKE3. Next: `node_process.py`."""

from __future__ import annotations

import mmap
import os
import random
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from blake3 import blake3

CUTS_OF_A_SIZE = 4
"""A client puts these by turns, so that each put changes the contract and a stale answer is found out."""

DEFAULT_FILES = 8
"""So many of the installed environment's largest binaries are cut from."""

HASHED_AT_ONCE_BYTES = 1024 * 1024


class PayloadError(Exception):
    """No file to cut a payload from (the user's fault); the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A run of a file's bytes.

    Attributes:
        blake3: of those bytes, in hex.
    """

    path: Path
    offset: int
    nbytes: int
    blake3: str


def largest_binaries(root: Path) -> list[Path]:
    """The largest files below `root` that are programs or libraries, largest first.

    Executable formats and archives of them are what a user would store, and barely compressible.
    """
    by_size = sorted(_files_below(root), key=lambda entry: (-entry[0], entry[1]))
    return list(islice((path for _, path in by_size if _is_binary(path)), DEFAULT_FILES))


def choose_cuts(size_bytes: int, paths: Sequence[Path], seed: int) -> list[Cut]:
    """`CUTS_OF_A_SIZE` cuts of one size, from files that are long enough, by turns.

    The same files and seed give the same cuts.

    Raises:
        PayloadError: no file is long enough.
    """
    lengths = [(path, path.stat().st_size) for path in paths]
    usable = [(path, length) for path, length in lengths if length >= size_bytes]
    if not usable:
        longest = max((length for _, length in lengths), default=0)
        raise PayloadError(
            f"a payload of {size_bytes} bytes is needed and the longest file has {longest}; "
            "name a longer one with --payload"
        )
    choice = random.Random(f"{seed}/{size_bytes}")
    cuts = []
    for turn in range(CUTS_OF_A_SIZE):
        path, length = usable[turn % len(usable)]
        offset = int(choice.random() * (length - size_bytes + 1))
        with mapped(path, offset, size_bytes) as view:
            cuts.append(Cut(path=path, offset=offset, nbytes=size_bytes, blake3=hash_of(view)))
    return cuts


def default_paths() -> list[Path]:
    """What payloads are cut from when nobody names a file: the running environment."""
    return largest_binaries(Path(sys.prefix))


@contextmanager
def mapped(path: Path, offset: int, nbytes: int) -> Iterator[memoryview]:
    """Some bytes of a file, without taking heap; the view must not be kept.

    Raises:
        OSError: the file cannot be mapped; it is named.
    """
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:  # which knows no name
            error.filename = str(path)
            raise
    with content as whole:
        view = memoryview(whole)[offset : offset + nbytes]
        try:
            yield view
        finally:
            view.release()


def hash_of(view: memoryview) -> str:
    """BLAKE3 in hex."""
    hasher = blake3()
    for at in range(0, len(view), HASHED_AT_ONCE_BYTES):
        hasher.update(view[at : at + HASHED_AT_ONCE_BYTES])
    return hasher.hexdigest()


def _files_below(root: Path) -> Iterator[tuple[int, Path]]:
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            facts = path.lstat()
            if stat.S_ISREG(facts.st_mode):
                yield facts.st_size, path


def _is_binary(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _MAGICS


_MAGICS = (b"\x7fELF", b"PK\x03\x04")
