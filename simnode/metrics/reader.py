"""Reading slabs. Enters: a run directory. Leaves: snapshots of slabs and of their processes. Next: `memory.py`.

Nothing here asks a process anything: a blocked one is read as well as a dead one.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from simnode.metrics.layout import layout_of
from simnode.metrics.model import Role
from simnode.metrics.process import ProcessStat, read_process_stat
from simnode.metrics.slab import HEADER, HEADER_BYTES, MAGIC, slab_bytes, slab_directory

HEARTBEAT_STALE_S = 5.0
"""A process whose heartbeat is older is stuck."""


ROLES = tuple(Role)

Found = TypeVar("Found", bound="SlotRecord")


class SlabFormatError(ValueError):
    """A file that is no slab of this catalogue (another version of simnode wrote it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotRecord:
    """A slot and the process in it, as a slab's header tells."""

    role: Role
    slot: int
    incarnation: int
    """How many processes have had the slot: 1 + restarts."""
    heartbeat_s: float
    """The monotonic clock at the latest heartbeat."""
    process: ProcessStat | None
    """The process that writes the slab; None when it is dead."""

    def is_up(self, now_s: float) -> bool:
        """Whether the process exists and its loop turns."""
        return self.process is not None and now_s - self.heartbeat_s < HEARTBEAT_STALE_S

    def held_until_s(self, now_s: float) -> float:
        """Until when the gauges keep their values: for ever while the process exists, else until its last heartbeat."""
        return self.heartbeat_s if self.process is None else now_s


@dataclass(frozen=True, slots=True, kw_only=True)
class SlabSnapshot(SlotRecord):
    """A slab as it was at one moment: whose it is, and every value."""

    cells: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Scan(Generic[Found]):
    """What the slabs of a run have told."""

    found: tuple[Found, ...]
    """By role and slot."""
    unreadable: int
    """Files of another version."""


def read_slot(path: Path) -> SlotRecord:
    """The header of one slab.

    Raises:
        FileNotFoundError: it is gone.
        SlabFormatError: another version of simnode wrote it.
    """
    with path.open("rb", buffering=0) as file:
        return _record(file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size, path.name)


def read_slab(path: Path) -> SlabSnapshot:
    """All of one slab. Raises what `read_slot` raises."""
    with path.open("rb", buffering=0) as file:
        # The header first: an empty file cannot be mapped.
        record = _record(file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size, path.name)
        with (
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
            memoryview(mapped) as view,
            view[HEADER_BYTES:] as body,
            body.cast("d") as cells,
        ):
            # `tolist` loads each double by itself, where a copy of the bytes might move half a cell at a time.
            values = tuple(cells.tolist())
    return SlabSnapshot(
        role=record.role,
        slot=record.slot,
        incarnation=record.incarnation,
        heartbeat_s=record.heartbeat_s,
        process=record.process,
        cells=values,
    )


def scan_slots(run_dir: Path) -> Scan[SlotRecord]:
    """The header of every slab of the run in `run_dir`, which may have none yet; 40 µs each."""
    return _scan(run_dir, read_slot)


def scan_slabs(run_dir: Path) -> Scan[SlabSnapshot]:
    """Every slab of the run in `run_dir`, which may have none yet; 200 µs each."""
    return _scan(run_dir, read_slab)


class LiveProcesses:
    """The living processes of a run by role, for who asks often: listed anew once in `refresh_s` seconds."""

    def __init__(self, run_dir: Path, *, clock: Callable[[], float], refresh_s: float = 1.0) -> None:
        self._run_dir = run_dir
        self._clock = clock
        self._refresh_s = refresh_s
        self._stale_at_s = float("-inf")
        self._pids: dict[Role, list[int]] = {}

    def __call__(self) -> dict[Role, list[int]]:
        """The pids of every role that has ever had a process; an empty list when none lives."""
        now_s = self._clock()
        if now_s >= self._stale_at_s:
            self._stale_at_s = now_s + self._refresh_s
            pids: dict[Role, list[int]] = {}
            for record in scan_slots(self._run_dir).found:
                living = pids.setdefault(record.role, [])
                if record.process is not None:
                    living.append(record.process.pid)
            self._pids = pids
        return self._pids


def _scan(run_dir: Path, read: Callable[[Path], Found]) -> Scan[Found]:
    found = []
    unreadable = 0
    for path in slab_directory(run_dir).glob("*.slab"):
        try:
            found.append(read(path))
        except FileNotFoundError:
            continue  # swept since it was listed
        except SlabFormatError:
            unreadable += 1
    found.sort(key=lambda record: (ROLES.index(record.role), record.slot))
    return Scan(tuple(found), unreadable)


def _record(header: bytes, file_bytes: int, name: str) -> SlotRecord:
    if len(header) < HEADER_BYTES:
        raise SlabFormatError(f"{name} is too short for a slab")
    magic, fingerprint, pid, start_ticks, incarnation, heartbeat_s, slot, role_index = HEADER.unpack(header)
    if magic != MAGIC or role_index >= len(ROLES):
        raise SlabFormatError(f"{name} is no slab")
    role = ROLES[role_index]
    layout = layout_of(role)
    if fingerprint != layout.fingerprint or file_bytes != slab_bytes(layout):
        raise SlabFormatError(f"{name} has another version's layout")
    process = read_process_stat(pid)
    if process is not None and process.start_ticks != start_ticks:
        process = None  # the pid has been given to somebody else
    return SlotRecord(role=role, slot=slot, incarnation=incarnation, heartbeat_s=heartbeat_s, process=process)
