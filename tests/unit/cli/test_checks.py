from __future__ import annotations

import resource
from pathlib import Path

import pytest

from simnode.cli import checks
from simnode.cli.checks import GIB, Status
from simnode.protocol.limits import MIB
from simnode.storage.run_directory import Leftover


@pytest.mark.parametrize(
    ("free_bytes", "status"),
    [(None, Status.FAIL), (64 * MIB, Status.FAIL), (GIB, Status.WARN), (4 * GIB, Status.OK)],
)
def test_shared_memory_of_a_container_is_too_small_unless_somebody_asks_for_more(free_bytes, status):
    """Docker gives 64 MiB."""
    assert checks.judge_shared_memory(free_bytes).status is status


@pytest.mark.parametrize(
    ("limit_bytes", "status"),
    [(None, Status.OK), (512 * MIB, Status.FAIL), (2 * GIB, Status.WARN), (8 * GIB, Status.OK)],
)
def test_a_memory_limit_must_leave_room_for_the_processes(limit_bytes, status):
    assert checks.judge_memory_limit(limit_bytes).status is status


@pytest.mark.parametrize(
    ("limit", "status"),
    [(256, Status.FAIL), (1024, Status.WARN), (65536, Status.OK), (resource.RLIM_INFINITY, Status.OK)],
)
def test_open_files_must_be_enough_for_the_connections(limit, status):
    assert checks.judge_open_files(limit).status is status


def test_an_old_python_and_a_missing_ray_are_failures():
    assert checks.judge_python((3, 10)).status is Status.FAIL
    assert checks.judge_python((3, 11)).status is Status.OK
    assert checks.judge_ray(None).status is Status.FAIL
    assert checks.judge_ray("2.50.0").found == "2.50.0"


def test_a_port_in_use_is_no_failure_because_it_may_be_a_node():
    finding = checks.judge_port(7509, "--port", is_taken=True)

    assert finding.status is Status.WARN
    assert "--port" in finding.mend
    assert checks.judge_port(7509, "--port", is_taken=False).status is Status.OK


def test_leftovers_are_counted_and_told_how_to_be_removed():
    leftovers = [Leftover(Path("/a"), 3 * MIB), Leftover(Path("/b"), MIB)]

    finding = checks.judge_leftovers(leftovers, are_swept=False)

    assert finding.status is Status.WARN
    assert finding.found == "2 run directories, 4.0 MiB"
    assert "--sweep" in finding.mend
    assert checks.judge_leftovers(leftovers, are_swept=True).status is Status.OK
    assert checks.judge_leftovers([], are_swept=False).status is Status.OK


def test_whatever_is_not_ok_comes_with_something_to_do():
    findings = [
        checks.judge_python((3, 10)),
        checks.judge_ray(None),
        checks.judge_shared_memory(None),
        checks.judge_shared_memory(GIB),
        checks.judge_memory_limit(1),
        checks.judge_memory_limit(2 * GIB),
        checks.judge_open_files(1),
        checks.judge_port(1, "--port", is_taken=True),
    ]

    assert all(finding.status is not Status.OK and finding.mend for finding in findings)


def cgroup(root: Path, files: dict[str, str], membership: str) -> int | None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    (root / "membership").write_text(membership)
    return checks.memory_limit(root / "membership", root)


def test_the_lowest_limit_of_all_groups_above_counts(tmp_path):
    files = {"a/b/memory.max": "max", "a/memory.max": str(3 * GIB), "memory.max": str(8 * GIB)}

    assert cgroup(tmp_path, files, "0::/a/b\n") == 3 * GIB


def test_a_container_finds_its_limit_at_the_root_whatever_path_it_is_told(tmp_path):
    assert cgroup(tmp_path, {"memory.max": str(GIB)}, "0::/docker/0123\n") == GIB


def test_version_1_has_its_own_directory_and_a_huge_number_for_no_limit(tmp_path):
    files = {"memory/a/memory.limit_in_bytes": str(GIB), "memory/memory.limit_in_bytes": "9223372036854771712"}

    assert cgroup(tmp_path, files, "3:cpu,cpuacct:/a\n2:memory:/a\n") == GIB


@pytest.mark.parametrize("files", [{}, {"memory.max": "max"}, {"memory/memory.limit_in_bytes": "9223372036854771712"}])
def test_without_a_limit_there_is_none(tmp_path, files):
    assert cgroup(tmp_path, files, "2:memory:/\n0::/\n") is None
