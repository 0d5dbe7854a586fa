"""What control groups and affinity leave of a machine. Enters: /proc and /sys. Leaves: limits. Next: `reader.py`.

A container sees all CPUs and all memory of its host; what it may use is in its control group, of
version 1 or 2, and in those above it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")


def usable_cpus(membership: Path = MEMBERSHIP, root: Path = ROOT) -> int:
    """How many CPUs this process can keep busy: at most those of its affinity and its CPU quota, rounded up.

    Args:
        membership: the groups of this process.
        root: where control groups are mounted.
    """
    quota = cpu_quota(membership, root)
    allowed = len(os.sched_getaffinity(0))  # noqa: TID251  (the one place)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(membership: Path = MEMBERSHIP, root: Path = ROOT) -> float | None:
    """CPUs that the groups of this process may use, such as 1.5; None: no group sets a quota."""
    quotas = []
    for group, version in _groups(membership, root, "cpu"):
        try:
            if version == 2:
                quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
            else:
                quota = (group / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
                period = (group / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        except FileNotFoundError:  # the root of a hierarchy has none
            continue
        if quota not in ("max", "-1"):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_limit(membership: Path = MEMBERSHIP, root: Path = ROOT) -> int | None:
    """Bytes that the groups of this process may use; None: no group sets a limit."""
    limits = []
    for group, version in _groups(membership, root, "memory"):
        name = "memory.max" if version == 2 else "memory.limit_in_bytes"
        try:
            limit = (group / name).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            continue
        if limit != "max":
            limits.append(int(limit))
    return min((limit for limit in limits if limit < _UNLIMITED_BYTES), default=None)


def _groups(membership: Path, root: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """The groups that limit this process, innermost first, each with the version of its hierarchy."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:  # a kernel without control groups
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, version = root, 2
        elif controller in controllers.split(","):
            # the directory is called as all of its controllers, and mostly linked from each one's name
            top, version = root / controller, 1
            if not top.exists():
                top = root / controllers
        else:
            continue
        group = top / path.lstrip("/")
        # a container sees its own group at the root, whatever path it is told
        for directory in (group, *group.parents):
            if directory.is_relative_to(top):
                yield directory, version


_UNLIMITED_BYTES: Final = 1 << 62  # version 1 writes a number a little below 2**63 for no limit
