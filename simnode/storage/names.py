"""Names of segments: never the same one twice. Enters: a directory. Leaves: fresh names. Next: `accounts.py`.

A reader may hold a name for as long as it likes; it must never come to mean other bytes. A name
is `<epoch>-<serial>-<life>.seg`, in hex: the how-many-eth pool in this directory made the file,
the how-many-eth file of that pool it is, and how often it has been recycled.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from simnode.storage.errors import DataDamaged

EPOCH_FILE: Final = "epoch"
SEGMENT_SUFFIX: Final = ".seg"
PATTERN: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]+)\.seg")


@dataclass(frozen=True, slots=True)
class SegmentName:
    """A segment's name in parts; `str()` is the file's name."""

    epoch: int
    serial: int
    life: int

    def __str__(self) -> str:
        return f"{self.epoch:x}-{self.serial:06x}-{self.life:x}.seg"

    @classmethod
    def parse(cls, text: str) -> SegmentName | None:
        """The parts of a file's name, None if it is not a segment's."""
        match = PATTERN.fullmatch(text)
        return None if match is None else cls(*(int(part, 16) for part in match.groups()))

    @classmethod
    def sequence(cls, epoch: int) -> Iterator[SegmentName]:
        """The names of one pool's new files, without end."""
        return (cls(epoch, serial, 0) for serial in count())

    def next_life(self) -> SegmentName:
        """The name after recycling."""
        return SegmentName(self.epoch, self.serial, self.life + 1)


def next_epoch(directory: Path) -> int:
    """Count one more pool in this directory.

    In a file, because unlinked names leave no other trace; and never behind the names that are
    there, because a power failure may have taken the file's last change.

    Raises:
        DataDamaged: as `read_epoch`.
    """
    epoch = max(read_epoch(directory), _newest(directory)) + 1
    path = directory / EPOCH_FILE
    fresh = path.with_suffix(".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(str(epoch))
        file.flush()
        os.fsync(fd)  # else a power failure may leave the name with nothing in it
    os.replace(fresh, path)
    return epoch


def read_epoch(directory: Path) -> int:
    """The newest pool that worked in this directory, as its file says; 0 without one.

    Raises:
        DataDamaged: the file is there and is no count.
    """
    path = directory / EPOCH_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise DataDamaged(f"{path}: {error.strerror}; make it a file that user {os.geteuid()} can read") from error
    if not text.strip().isdigit():
        problem = f"{text[:20]!r} in it is no number" if text else "it is empty"
        # names of a pool that left no segment are not seen, but nothing refers to them, either
        raise DataDamaged(f"{path}: {problem}; write {_newest(directory) + 1} into it")
    return int(text)


def _newest(directory: Path) -> int:
    """The newest pool that a segment in the directory is of; 0 without any."""
    names = (SegmentName.parse(entry.name) for entry in directory.iterdir())
    return max((name.epoch for name in names if name is not None), default=0)
