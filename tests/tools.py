"""Fetches what only some tests need: `make tools`. A test whose tool is absent is skipped with that reason.

- Debian packages: `prometheus` (promtool and a server to scrape with);
- crates: the programs under `tests/interop` and `tests/bench` on the reference's own client;
- npm packages: an independent WebSocket client.

Each step that cannot be done here (not root, no cargo, no npm, no network) says so and the next goes on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEBIAN_PACKAGES = {"promtool": "prometheus"}
CARGO_PROJECTS = ("tests/interop/rust_client", "tests/interop/fbs_check", "tests/bench/reference_peer")
NPM_PROJECT = ROOT / "tests/interop/npm_client"


def tools_dir() -> Path:
    """Where tools are built and installed: `$SIMNODE_TOOLS`, or `.tools/` in the checkout."""
    return Path(os.environ.get("SIMNODE_TOOLS", ROOT / ".tools")).absolute()


def run(command: Sequence[str | Path], *, cwd: Path | None = None, **environment: str) -> bool:
    """Whether the command succeeded; what it says is shown either way."""
    print("+", " ".join(map(str, command)), flush=True)
    return subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, check=False).returncode == 0


def fetch_debian_packages() -> str | None:
    """Installs what is missing; returns why not."""
    missing = [package for program, package in DEBIAN_PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return None
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return f"not root on a Debian machine: install {', '.join(missing)} by hand"
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    if not run(["apt-get", "update", "-qq"], **quiet):
        return "apt-get update failed"
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    return None if run(command, **quiet) else f"{', '.join(missing)} cannot be installed"


def build_crates() -> str | None:
    """Builds every Cargo project into one target directory; returns why not."""
    cargo = shutil.which("cargo")
    if cargo is None:
        return "cargo is not installed"
    target = str(tools_dir() / "cargo-target")
    for project in CARGO_PROJECTS:
        manifest = ROOT / project / "Cargo.toml"
        if not run([cargo, "build", "--quiet", "--release", "--manifest-path", manifest], CARGO_TARGET_DIR=target):
            return f"{project} does not build"
    return None


def install_npm_packages() -> str | None:
    """Installs the npm client's packages; returns why not."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "node and npm are not installed"
    prefix = tools_dir() / "npm"
    prefix.mkdir(parents=True, exist_ok=True)
    shutil.copy(NPM_PROJECT / "package.json", prefix / "package.json")
    done = run([npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"], cwd=prefix)
    return None if done else "npm install failed"


def main() -> int:
    """Does every step; 0 even if one cannot be done, because its tests are then skipped with the reason."""
    for step in (fetch_debian_packages, build_crates, install_npm_packages):
        reason = step()
        if reason is not None:
            print(f"{step.__name__}: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
