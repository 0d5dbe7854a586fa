"""JavaScript in tests: installs the packages of `tests/interop/npm_client` and runs a program with them.

Enters: an ES module. Leaves: what it printed. Skips, with the reason, where there is no node or no registry.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tools import NPM_PROJECT, install_npm_packages, tools_dir

RUN_TIMEOUT_S = 120.0


def npm_directory() -> Path:
    """Where the packages are, with our modules beside them; Node looks for packages from there upwards."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    directory = tools_dir() / "npm"
    wanted = (NPM_PROJECT / "package.json").read_bytes()
    installed = directory / "package.json"
    if not (directory / "node_modules").is_dir() or not installed.exists() or installed.read_bytes() != wanted:
        reason = install_npm_packages()
        if reason is not None:
            pytest.skip(reason)
    for module in NPM_PROJECT.glob("*.mjs"):
        shutil.copy(module, directory)
    return directory


def run_node(module: Path, *arguments: str) -> str:
    """Runs a module and returns its standard output.

    Raises:
        AssertionError: it exited with an error; what it said is in the message.
    """
    command = ["node", str(module), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
