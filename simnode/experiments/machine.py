"""Where and how an experiment ran. Enters: nothing but the machine. Leaves: `run.json`'s content. Next: `report.py`."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import psutil

from simnode.experiments.results import Record
from simnode.experiments.scenario import Mode
from simnode.metrics.cgroups import usable_cpus

VERSIONS_OF = ("simnode", "ray", "websockets", "uvloop", "lmdb", "blake3", "msgpack", "flatbuffers", "pydantic")


class Machine(Record):
    """The computer.

    Attributes:
        cores: that this process can keep busy, which a container may have fewer of than its host.
    """

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str


class ModeRun(Record):
    """How long one mode took.

    Attributes:
        phases_s: all of its turns.
    """

    mode: Mode
    node_start_s: float
    phases_s: float
    node_stop_s: float


class Run(Record):
    """One run of a scenario.

    Attributes:
        cpu_share_of_others: of all cores, while the nodes were up: what no process of the experiment used.
    """

    schema_version: Literal[1]
    command: tuple[str, ...]
    started_at: str
    duration_s: float
    cpu_share_of_others: float
    modes: tuple[ModeRun, ...]
    machine: Machine
    versions: dict[str, str]

    def to_json(self) -> str:
        """As it is written to `run.json`."""
        return self.model_dump_json(indent=1)


class CpuMeter:
    """Measures, from its making on, what others than this process and its descendants use of the CPUs."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._busy_s = _busy_seconds()
        self._ours_s = _seconds_of_descendants()

    def share_of_others(self) -> float:
        """Between 0 and 1, of all cores of the machine: others use those, too, that this process may not."""
        all_s = (time.monotonic() - self._began_s) * (psutil.cpu_count() or 1)
        others_s = _busy_seconds() - self._busy_s - (_seconds_of_descendants() - self._ours_s)
        return min(1.0, max(0.0, others_s / all_s))


def this_machine() -> Machine:
    """The computer that this process runs on."""
    return Machine(
        cpu=_cpu_model(),
        cores=usable_cpus(),
        memory_bytes=psutil.virtual_memory().total,
        kernel=platform.release(),
    )


def versions(packages: Sequence[str] = VERSIONS_OF) -> dict[str, str]:
    """Of Python and of what the figures depend on."""
    return {"python": platform.python_version(), **{package: version(package) for package in packages}}


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()  # ARM kernels name no model


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(getattr(times, part) for part in ("user", "nice", "system", "irq", "softirq", "steal")))


def _seconds_of_descendants() -> float:
    this = psutil.Process()
    seconds = 0.0
    for process in (this, *this.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue  # its parent has its time by now
        seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
