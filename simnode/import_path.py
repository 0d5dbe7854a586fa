"""Where a node's processes import from. Enters: `sys.path`, PYTHONPATH. Leaves: both in a safe order. Next: `cli`.

A user's directory may have an `actors`, a `websockets.py` or a `queue.py` of its own. It comes last
on the path of our processes, so that it can add modules but replace none. What this cannot mend: a
module of the standard library that Python itself imports before our first line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from importlib.machinery import PathFinder

OWN_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""The directory from which `simnode` was imported, and `actors` is to be."""

DEPENDENCIES = (
    *("base58", "blake3", "jinja2", "lmdb", "msgpack", "prometheus_client", "psutil", "pydantic"),
    *("ray", "rich", "typer", "uvloop", "websockets"),
)
"""The import names of what pyproject.toml lists."""


def users_directories() -> list[str]:
    """The current directory, and what PYTHONPATH lists."""
    listed = os.environ.get("PYTHONPATH", "")
    entries = listed.split(os.pathsep) if listed else []
    here = [] if sys.flags.safe_path else [""]
    return list(dict.fromkeys(os.path.abspath(entry) for entry in (*here, *entries)))


def with_users_last(path: Sequence[str], users: Collection[str]) -> list[str]:
    """Returns `path` with the users' directories at its end; the one with simnode itself stays where it is."""
    late = [entry for entry in path if os.path.abspath(entry) in users and os.path.abspath(entry) != OWN_ROOT]
    return [entry for entry in path if entry not in late] + [os.path.abspath(entry) for entry in late]


def put_users_directories_last() -> None:
    """Reorders this process's path, for what it imports from now on."""
    sys.path[:] = with_users_last(sys.path, users_directories())


def environment_for_children() -> dict[str, str]:
    """This process's environment, for a Python process that is to import simnode and nothing of the user's."""
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    needed = needed_directories(sys.path, users_directories())
    environment.pop("PYTHONPATH", None)
    if needed:
        environment["PYTHONPATH"] = os.pathsep.join(needed)
    return environment


def needed_directories(path: Sequence[str], users: Sequence[str]) -> list[str]:
    """Those of the users' directories from which simnode itself or a dependency comes."""
    safe = with_users_last(path, users)
    homes = {OWN_ROOT}
    for name in DEPENDENCIES:
        found = PathFinder.find_spec(name, safe)
        if found is not None and found.origin is not None:
            home = os.path.dirname(found.origin)
            homes.add(os.path.dirname(home) if found.submodule_search_locations is not None else home)
    return [entry for entry in users if entry in homes]
