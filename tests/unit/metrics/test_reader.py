from __future__ import annotations

import os
from pathlib import Path

import pytest

from simnode.metrics.model import Role
from simnode.metrics.reader import LiveProcesses, SlabFormatError, read_slab, read_slot, scan_slabs, scan_slots
from simnode.metrics.slab import StatsSlab, slab_path
from tests.support.slabs import Clock, give_pid_away


def test_run_without_slabs_has_none(tmp_path: Path) -> None:
    assert scan_slabs(tmp_path).found == ()


def test_snapshot_says_whose_it_is(tmp_path: Path) -> None:
    with StatsSlab.open(tmp_path, Role.CONTRACT_STORE, 3, now_s=1000.0) as slab:
        slab.heartbeat(1001.5)
        found = read_slab(slab_path(tmp_path, Role.CONTRACT_STORE, 3))
    assert (found.role, found.slot, found.incarnation, found.heartbeat_s) == (Role.CONTRACT_STORE, 3, 1, 1001.5)
    assert found.process is not None
    assert found.process.pid == os.getpid()


def test_slabs_come_by_role_and_slot(tmp_path: Path) -> None:
    for role, slot in ((Role.CONTRACT_STORE, 0), (Role.CONNECTION_HANDLER, 10), (Role.CONNECTION_HANDLER, 9)):
        StatsSlab.open(tmp_path, role, slot, now_s=1000.0).close()
    assert [(slab.role, slab.slot) for slab in scan_slabs(tmp_path).found] == [
        (Role.CONNECTION_HANDLER, 9),
        (Role.CONNECTION_HANDLER, 10),
        (Role.CONTRACT_STORE, 0),
    ]


def test_header_alone_says_the_same(tmp_path: Path) -> None:
    """The supervisor looks at heartbeats often, and has no use for the cells."""
    StatsSlab.open(tmp_path, Role.CONTRACT_STORE, 3, now_s=1000.0).close()
    (header,) = scan_slots(tmp_path).found
    (slab,) = scan_slabs(tmp_path).found
    assert (header.role, header.slot, header.incarnation) == (slab.role, slab.slot, slab.incarnation)
    assert header.heartbeat_s == slab.heartbeat_s == 1000.0


def test_process_is_up_until_its_heartbeat_is_five_seconds_old(tmp_path: Path) -> None:
    with StatsSlab.open(tmp_path, Role.CONTRACT_STORE, 0, now_s=1000.0):
        found = read_slab(slab_path(tmp_path, Role.CONTRACT_STORE, 0))
    assert found.is_up(1004.9)
    assert not found.is_up(1005.0)


def test_pid_given_to_another_process_is_not_ours(tmp_path: Path) -> None:
    path = slab_path(tmp_path, Role.CONTRACT_STORE, 0)
    StatsSlab.open(tmp_path, Role.CONTRACT_STORE, 0, now_s=1000.0).close()
    give_pid_away(path)
    assert read_slab(path).process is None
    assert not read_slab(path).is_up(1000.0)


@pytest.mark.parametrize("content", [b"", b"x" * 63, b"x" * 64, bytes(4096)])
def test_file_that_is_no_slab_is_counted_and_the_others_are_read(tmp_path: Path, content: bytes) -> None:
    StatsSlab.open(tmp_path, Role.CONTRACT_STORE, 0, now_s=1000.0).close()
    path = slab_path(tmp_path, Role.FRONT_DOOR, 0)
    path.write_bytes(content)
    with pytest.raises(SlabFormatError):
        read_slab(path)
    with pytest.raises(SlabFormatError):
        read_slot(path)
    scan = scan_slabs(tmp_path)
    assert (len(scan.found), scan.unreadable) == (1, 1)


def test_live_processes_are_listed_anew_after_a_second(tmp_path: Path, clock: Clock) -> None:
    processes = LiveProcesses(tmp_path, clock=clock)
    assert processes() == {}
    StatsSlab.open(tmp_path, Role.CONTRACT_STORE, 0, now_s=1000.0).close()
    clock.now_s += 0.9
    assert processes() == {}
    clock.now_s += 0.2
    assert processes() == {Role.CONTRACT_STORE: [os.getpid()]}


def test_role_whose_processes_are_dead_stays_listed_without_pids(tmp_path: Path, clock: Clock) -> None:
    """So that its memory falls to 0 instead of staying where it was."""
    StatsSlab.open(tmp_path, Role.CONTRACT_STORE, 0, now_s=1000.0).close()
    give_pid_away(slab_path(tmp_path, Role.CONTRACT_STORE, 0))
    assert LiveProcesses(tmp_path, clock=clock)() == {Role.CONTRACT_STORE: []}
