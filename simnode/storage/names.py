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

EPOCH_FILE: Final = "epoch"
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
    """
    path = directory / EPOCH_FILE
    names = (SegmentName.parse(entry.name) for entry in directory.iterdir())
    seen = [name.epoch for name in names if name is not None]
    if path.exists():
        seen.append(int(path.read_text(encoding="ascii")))
    epoch = max(seen, default=0) + 1
    fresh = path.with_suffix(".new")
    fresh.write_text(str(epoch), encoding="ascii")
    os.replace(fresh, path)
    return epoch
