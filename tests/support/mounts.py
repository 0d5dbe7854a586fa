"""Other file systems than the machine's own, where a test may mount them (as root, with the right to)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(what: str | Path, at: Path, *options: str) -> Iterator[None]:
    """Something mounted at a path for as long as the block lasts; skips the test where that is not allowed."""
    try:
        subprocess.run(["mount", *options, what, at], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"no mount here: {error}")
    except subprocess.CalledProcessError as error:
        pytest.skip(error.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)
