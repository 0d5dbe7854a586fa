"""Paths as users write them. Enters: text of options. Leaves: paths. Next: `contracts.py`, `run.py`.

A shell expands `~` only where a word begins with it: not in `--out=~/x`, and not in a TOML file.
"""

from __future__ import annotations

import os
from pathlib import Path

import typer


def user_path(text: str) -> Path:
    """A path with the home directory in the place of `~`, as in a shell: `~nobody` stays what it is."""
    return Path(os.path.expanduser(text))


def readable_file(text: str) -> Path:
    """A file that is there and can be read.

    Raises:
        typer.BadParameter: it is not.
    """
    path = user_path(text)
    if not path.exists():
        raise typer.BadParameter(f"file {str(path)!r} does not exist")
    if path.is_dir():
        raise typer.BadParameter(f"file {str(path)!r} is a directory")
    if not os.access(path, os.R_OK):
        raise typer.BadParameter(f"file {str(path)!r} is not readable")
    return path
