"""What a container is told about its host is not what it may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simnode.metrics.cgroups import cpu_quota, memory_limit, usable_cpus

GIB = 1 << 30


def write(root: Path, files: dict[str, str], membership: str) -> tuple[Path, Path]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    (root / "membership").write_text(membership)
    return root / "membership", root


def cgroup(root: Path, files: dict[str, str], membership: str) -> int | None:
    return memory_limit(*write(root, files, membership))


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


# ---- CPUs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "membership", "quota"),
    [
        ({"cpu.max": "150000 100000"}, "0::/docker/0123\n", 1.5),
        ({"cpu.max": "max 100000"}, "0::/\n", None),
        ({}, "0::/\n", None),
        (
            {"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000", "a/b/c/cpu.max": "max 100000"},
            "0::/a/b/c\n",
            2,
        ),
        ({"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/a\n0::/\n", 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/\n", None),
        (
            {"cpu,cpuacct/cpu.cfs_quota_us": "300000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            "3:cpu,cpuacct:/docker/0123\n2:cpuset:/\n",
            3,
        ),
    ],
)
def test_the_lowest_cpu_quota_of_all_groups_counts(tmp_path, files, membership, quota):
    assert cpu_quota(*write(tmp_path, files, membership)) == quota


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert cpu_quota(tmp_path / "nothing", tmp_path) is None
    assert memory_limit(tmp_path / "nothing", tmp_path) is None


@pytest.mark.parametrize(
    ("affinity", "cpu_max", "usable"),
    [
        (64, "max 100000", 64),
        (64, "200000 100000", 2),
        (64, "150000 100000", 2),
        (2, "800000 100000", 2),
        (4, "10000 100000", 1),
    ],
)
def test_cpus_to_use_are_those_of_the_affinity_and_of_the_quota_rounded_up(
    tmp_path, monkeypatch, affinity, cpu_max, usable
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)))

    assert usable_cpus(*write(tmp_path, {"cpu.max": cpu_max}, "0::/\n")) == usable
