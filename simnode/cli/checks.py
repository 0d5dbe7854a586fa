"""What a node needs of a machine. Enters: the machine. Leaves: findings. Next: `actors/leftovers.py`.

Each check is a function of the figures it judges; `examine` gets them from the machine.
"""

from __future__ import annotations

import importlib.metadata
import resource
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from actors.leftovers import dead_nodes, sweep_dead_nodes
from actors.ray_directory import SHORT_DIRECTORIES, NoDirectoryForRay, choose_parent
from simnode.cli.output import format_size
from simnode.cli.ports import port_is_taken
from simnode.metrics.cgroups import cpu_quota, memory_limit, usable_cpus
from simnode.protocol.limits import MIB
from simnode.storage.run_directory import Leftover

GIB = 1024 * MIB

SHARED_MEMORY = Path("/dev/shm")

SHM_LEAST_BYTES = 256 * MIB
"""Ray's object store (80 MiB) and one message of 100 MiB."""
SHM_GOOD_BYTES = 2 * GIB

MEMORY_BASE_BYTES = 832 * MIB
"""Ray's own processes and the roles that a node has one of: 610 MiB when it is idle, and some for work."""
MEMORY_OF_A_HANDLER_BYTES = 96 * MIB
"""60 MiB when it is idle."""
MEMORY_FOR_PAYLOADS_BYTES = 3 * GIB
"""What a node should have beyond that: the default budget for messages in flight, and some contracts."""

FILES_LEAST = 1024
FILES_GOOD = 8192
"""Of one process: a thousand connections, and a segment for each of a few thousand states being read."""

PYTHON_LEAST = (3, 11)


class Status(StrEnum):
    """How it looks."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it (nothing if it is ok)."""

    status: Status
    name: str
    found: str
    mend: str = ""


def examine(*, handlers: int, port: int, metrics_port: int, sweep: bool) -> list[Finding]:
    """Looks at this machine.

    Args:
        handlers: that the node is to have.
        port: that the node is to have.
        metrics_port: that its exporter is to have.
        sweep: whether to remove what dead nodes left.
    """
    shm = shutil.disk_usage(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None
    found = sweep_dead_nodes() if sweep else dead_nodes()
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [
        judge_python(sys.version_info[:2]),
        judge_ray(_version_of("ray")),
        judge_shared_memory(None if shm is None else shm.free),
        judge_cpus(usable_cpus(), cpu_quota(), handlers),
        judge_memory_limit(memory_limit(), handlers),
        judge_open_files(files),
        judge_port(port, "--port", is_taken=port_is_taken("127.0.0.1", port)),
        judge_port(metrics_port, "--metrics-port", is_taken=port_is_taken("127.0.0.1", metrics_port)),
        judge_temporary_directory(Path(tempfile.gettempdir())),
        judge_leftovers(found, are_swept=sweep),
    ]


def judge_python(version: tuple[int, int]) -> Finding:
    """Whether simnode runs on this Python at all."""
    found = ".".join(str(part) for part in version)
    if version < PYTHON_LEAST:
        return Finding(Status.FAIL, "Python", found, "simnode needs Python 3.11 or newer")
    return Finding(Status.OK, "Python", found)


def judge_ray(version: str | None) -> Finding:
    """Whether there is a Ray."""
    if version is None:
        return Finding(Status.FAIL, "Ray", "not installed", "pip install ray, or simnode with its dependencies")
    return Finding(Status.OK, "Ray", version)


def judge_shared_memory(free_bytes: int | None) -> Finding:
    """Whether payloads fit where they are kept in memory mode; Ray's object store is there, too."""
    name = f"free in {SHARED_MEMORY}"
    if free_bytes is None:
        return Finding(Status.FAIL, name, "no such directory", f"mount a tmpfs at {SHARED_MEMORY}")
    found = format_size(free_bytes)
    mend = f"mount -o remount,size=4g {SHARED_MEMORY}; in a container: docker run --shm-size=4g"
    if free_bytes < SHM_LEAST_BYTES:
        return Finding(Status.FAIL, name, found, mend)
    if free_bytes < SHM_GOOD_BYTES:
        return Finding(Status.WARN, name, found, f"enough for a few large payloads; for more: {mend}")
    return Finding(Status.OK, name, found)


def judge_cpus(usable: int, quota: float | None, handlers: int) -> Finding:
    """Whether the handlers get in each other's way."""
    name = "CPUs to use"
    found = str(usable) if quota is None else f"{usable} (cgroup quota {quota:g})"
    if handlers > max(2, usable):
        return Finding(Status.WARN, name, found, f"{handlers} handlers take turns on them: fewer --handlers")
    return Finding(Status.OK, name, found)


def judge_memory_limit(limit_bytes: int | None, handlers: int) -> Finding:
    """Whether the control group lets a node have its memory; payloads in shared memory count."""
    name = "memory limit (cgroup)"
    if limit_bytes is None:
        return Finding(Status.OK, name, "none")
    found = format_size(limit_bytes)
    least = MEMORY_BASE_BYTES + handlers * MEMORY_OF_A_HANDLER_BYTES
    good = least + MEMORY_FOR_PAYLOADS_BYTES
    if limit_bytes < least:
        mend = f"a node of {handlers} handlers needs {format_size(least)} for its processes"
        return Finding(
            Status.FAIL, name, found, f"{mend}; fewer --handlers, or in a container: docker run --memory={_gib(good)}g"
        )
    if limit_bytes < good:
        return Finding(Status.WARN, name, found, "payloads in /dev/shm count; keep --memory-budget and contents small")
    return Finding(Status.OK, name, found)


def judge_open_files(limit: int) -> Finding:
    """Whether a process can hold its connections and segments."""
    name, found = "open files (ulimit -n)", "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
    if limit == resource.RLIM_INFINITY or limit >= FILES_GOOD:
        return Finding(Status.OK, name, found)
    mend = "ulimit -n 65536; in a container: docker run --ulimit nofile=65536"
    return Finding(Status.FAIL if limit < FILES_LEAST else Status.WARN, name, found, mend)


def judge_port(port: int, option: str, *, is_taken: bool) -> Finding:
    """Whether a node can listen there. No failure: it may be a node, and there are other ports."""
    if is_taken:
        return Finding(Status.WARN, f"port {port}", "in use", f"by a node already? Else serve with another {option}")
    return Finding(Status.OK, f"port {port}", "free")


def judge_temporary_directory(wanted: Path, others: Sequence[Path] = SHORT_DIRECTORIES) -> Finding:
    """Whether Ray's sockets, whose paths have 107 bytes at most, fit into the temporary directory."""
    name = "temporary directory"
    try:
        chosen = choose_parent(wanted, others)
    except NoDirectoryForRay as error:
        return Finding(Status.FAIL, name, str(wanted), str(error))
    if chosen != wanted:
        return Finding(Status.WARN, name, str(wanted), f"too long for Ray's sockets: {chosen} is used; set TMPDIR")
    return Finding(Status.OK, name, str(wanted))


def judge_leftovers(leftovers: Sequence[Leftover], *, are_swept: bool) -> Finding:
    """Whether dead nodes hold memory."""
    name = "left by dead nodes"
    if not leftovers:
        return Finding(Status.OK, name, "nothing")
    found = f"{len(leftovers)} run directories, {format_size(sum(leftover.nbytes for leftover in leftovers))}"
    if are_swept:
        return Finding(Status.OK, name, f"{found}: removed")
    return Finding(Status.WARN, name, found, "simnode doctor --sweep; the next serve does it, too")


def _gib(nbytes: int) -> int:
    return -(-nbytes // GIB)


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
