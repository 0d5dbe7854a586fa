"""What `/proc` says about a process. Enters: a pid. Leaves: identity, CPU time. Next: `memory.py`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """A process that exists, as of one reading of `/proc/<pid>/stat`."""

    pid: int
    start_ticks: int
    """When it started, in clock ticks since boot; together with the pid this names one process for ever."""
    cpu_seconds: float
    """User and system time."""


def read_process_stat(pid: int) -> ProcessStat | None:
    """The process, or None when it is gone or only a zombie is left of it."""
    text = read_proc_file(pid, "stat")
    if text is None:
        return None
    # The second field is the command in parentheses, which may itself contain spaces and parentheses.
    state, *fields = text.rpartition(")")[2].split()
    if state in "ZX":
        return None
    user_ticks, system_ticks, start_ticks = int(fields[10]), int(fields[11]), int(fields[18])
    return ProcessStat(pid, start_ticks, (user_ticks + system_ticks) / CLOCK_TICKS_PER_SECOND)


def read_proc_file(pid: int, name: str) -> str | None:
    """The text of `/proc/<pid>/<name>`, or None when the process is gone.

    Raises:
        PermissionError: the process is another user's.
    """
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):  # gone before opening; gone between opening and reading
        return None
