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
    assert checks.judge_memory_limit(limit_bytes, handlers=2).status is status


def test_each_handler_needs_memory():
    assert checks.judge_memory_limit(2 * GIB, handlers=8).status is Status.WARN
    finding = checks.judge_memory_limit(2 * GIB, handlers=16)
    assert finding.status is Status.FAIL
    assert "16 handlers" in finding.mend
    assert "--memory=6g" in finding.mend
    assert checks.judge_memory_limit(5 * GIB, handlers=2).status is Status.OK
    assert checks.judge_memory_limit(5 * GIB, handlers=32).status is Status.WARN


@pytest.mark.parametrize(
    ("usable", "quota", "handlers", "status"),
    [(8, None, 8, Status.OK), (1, None, 2, Status.OK), (2, 1.5, 2, Status.OK), (2, 1.5, 8, Status.WARN)],
)
def test_handlers_should_have_a_cpu_each(usable, quota, handlers, status):
    finding = checks.judge_cpus(usable, quota, handlers)

    assert finding.status is status
    assert finding.found.startswith(str(usable))
    assert ("1.5" in finding.found) is (quota is not None)


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
        checks.judge_memory_limit(1, handlers=2),
        checks.judge_memory_limit(2 * GIB, handlers=2),
        checks.judge_cpus(2, None, handlers=3),
        checks.judge_open_files(1),
        checks.judge_port(1, "--port", is_taken=True),
    ]

    assert all(finding.status is not Status.OK and finding.mend for finding in findings)
