"""What a user's directories may and may not replace."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from simnode.import_path import (
    DEPENDENCIES,
    OWN_ROOT,
    environment_for_children,
    needed_directories,
    with_users_last,
)


def test_users_directories_come_last_and_our_own_stays():
    path = ["/home/me", OWN_ROOT, "/usr/lib/python3", "/site-packages"]
    assert with_users_last(path, ["/home/me", OWN_ROOT]) == [OWN_ROOT, "/usr/lib/python3", "/site-packages", "/home/me"]


def test_a_directory_that_shadows_a_dependency_is_not_needed(tmp_path: Path):
    ours, users = tmp_path / "site-packages", tmp_path / "home"
    for directory in (ours, users):
        directory.mkdir()
        (directory / "websockets.py").touch()
    assert needed_directories([str(users), str(ours)], [str(users)]) == []


def test_a_directory_that_alone_has_a_dependency_is_needed(tmp_path: Path):
    package = tmp_path / "websockets"
    package.mkdir()
    (package / "__init__.py").touch()
    assert needed_directories([str(tmp_path)], [str(tmp_path)]) == [str(tmp_path)]


def test_children_get_no_directory_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    environment = environment_for_children()
    assert environment["PYTHONSAFEPATH"] == "1"
    assert str(tmp_path) not in environment.get("PYTHONPATH", "").split(os.pathsep)


def test_every_dependency_is_looked_for():
    listed = tomllib.loads((Path(OWN_ROOT) / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.split(r"[^\w-]", line)[0].replace("-", "_") for line in listed]
    assert sorted(names) == sorted(DEPENDENCIES)
