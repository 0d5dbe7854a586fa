"""What a node leaves if it is killed. Enters: the machine. Leaves: swept directories. Next: `node.py`.

Each node has a run directory in memory, and a directory of Ray's on disk that the run directory has
a link to. This module knows no Ray, so whoever only looks need not load it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from simnode.storage.run_directory import Leftover, leftovers, sweep_run_directories

RAY_LINK = "ray"
"""In the run directory; leads to Ray's."""


def runs_root() -> Path:
    """Where run directories are: in memory, one directory for each user."""
    return Path("/dev/shm") / f"simnode-{os.geteuid()}"


def dead_nodes() -> list[Leftover]:
    """The run directories whose node is gone."""
    return leftovers(runs_root())


def sweep_dead_nodes() -> list[Leftover]:
    """Removes them, with Ray's; safe beside nodes that start or run."""
    root = runs_root()
    # read beforehand, of the living too: one of them may die in between
    ray_dirs = {link.parent: link.readlink() for link in root.glob(f"*/{RAY_LINK}")}
    swept = sweep_run_directories(root)
    for leftover in swept:
        if leftover.path in ray_dirs:
            shutil.rmtree(ray_dirs[leftover.path], ignore_errors=True)
    return swept
