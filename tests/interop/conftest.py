"""Programs in other languages that speak to simnode, built from source where their toolchain is.

In: a Cargo project of this repository, and a running node (`simnode_node`, of `simnode.testing`).
Out: `rust_client`, to be called like a function; `node_url`. A test whose tool is absent is skipped
and says why; a tool that is here and does not build is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

ROOT = Path(__file__).parents[2]
FETCH_TIMEOUT_S = 300.0
BUILD_TIMEOUT_S = 900.0


class RustClientFailed(RuntimeError):
    """The program found what it checks to be wrong, or could not reach the node; its own words."""


@dataclass(frozen=True, slots=True)
class RustClient:
    """`tests/interop/rust_client`, built."""

    binary: Path

    def __call__(self, *arguments: str | int, timeout_s: float = 60.0) -> dict[str, Any]:
        """Run one subcommand.

        Args:
            arguments: as on the command line.
            timeout_s: limit of the whole run; each single wait has its own (`--timeout-s`).

        Returns:
            The line of JSON that it printed.

        Raises:
            RustClientFailed: it exited with an error.
            subprocess.TimeoutExpired: it did not end in time, and was killed.
        """
        command = [str(self.binary), *map(str, arguments)]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        if finished.returncode != 0:
            raise RustClientFailed(finished.stderr.strip() or f"exit code {finished.returncode}")
        report: dict[str, Any] = json.loads(finished.stdout)
        return report


@pytest.fixture(scope="session")
def cargo_binary() -> Callable[[Path], Path]:
    """Builds a Cargo project of this repository, all of them in one target directory; gives its binary."""
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("cargo is not installed")
    target = Path(os.environ.get("SIMNODE_TOOLS", ROOT / ".tools")).absolute() / "cargo-target"
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "CARGO_TERM_COLOR": "never"}

    def run(subcommand: list[str], project: Path, timeout_s: float) -> subprocess.CompletedProcess[str]:
        command = [cargo, *subcommand, "--manifest-path", str(project / "Cargo.toml")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)

    def build(project: Path) -> Path:
        fetched = run(["fetch"], project, FETCH_TIMEOUT_S)
        if fetched.returncode != 0:
            reason = " ".join(fetched.stderr.split())[-200:]
            pytest.skip(f"the crates of {project.name} cannot be fetched: {reason}")
        built = run(["build", "--release", "--offline"], project, BUILD_TIMEOUT_S)
        if built.returncode != 0:
            pytest.fail(f"{project.name} does not build:\n{built.stderr[-4000:]}")
        return target / "release" / project.name

    return build


@pytest.fixture(scope="session")
def rust_client(cargo_binary: Callable[[Path], Path]) -> RustClient:
    """The program on the reference's own Rust client."""
    return RustClient(cargo_binary(Path(__file__).parent / "rust_client"))


class RunningNode(Protocol):
    """What the tests here need of `simnode_node`."""

    @property
    def url(self) -> str:
        """`ws://HOST:PORT/v1/contract/command`, without a query."""
        ...


@pytest.fixture
def node_url(simnode_node: RunningNode) -> str:
    """A running node's address for a native client that has not opted in to chunked responses."""
    return f"{simnode_node.url}?encodingProtocol=native"
