from __future__ import annotations

import os
from pathlib import Path

import pytest

from simnode.storage.run_directory import RunDirectory, leftovers, sweep_run_directories


def test_a_held_directory_is_no_leftover(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "root", "node-1")
    assert leftovers(tmp_path / "root") == []
    assert sweep_run_directories(tmp_path / "root") == []
    assert run.path.is_dir()
    run.close()
    run.close()


def test_an_abandoned_directory_is_listed_with_its_size_and_swept(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, "node-1")
    (run.path / "segments").mkdir()
    (run.path / "segments" / "a.seg").write_bytes(b"x" * 100_000)
    run.close()
    (leftover,) = leftovers(tmp_path)
    assert leftover.path == run.path
    assert leftover.nbytes >= 100_000
    assert sweep_run_directories(tmp_path) == [leftover]
    assert not run.path.exists()
    assert leftovers(tmp_path) == []


def test_a_directory_lives_as_long_as_anyone_of_its_node(tmp_path: Path) -> None:
    """The process that made it may be restarting this very moment."""
    owner = RunDirectory.create(tmp_path, "node-1")
    other = RunDirectory.join(owner.path)
    owner.close()
    assert leftovers(tmp_path) == []
    other.close()
    assert len(leftovers(tmp_path)) == 1


def test_other_things_in_the_root_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (tmp_path / "notes").touch()
    assert sweep_run_directories(tmp_path) == []
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_no_root_has_no_leftovers(tmp_path: Path) -> None:
    assert leftovers(tmp_path / "nowhere") == []
    assert sweep_run_directories(tmp_path / "nowhere") == []


def test_names_are_not_shared_and_only_run_directories_are_joined(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, "node-1")
    with pytest.raises(FileExistsError):
        RunDirectory.create(tmp_path, "node-1")
    with pytest.raises(FileNotFoundError):
        RunDirectory.join(tmp_path)


def test_a_root_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under /dev/shm everybody may make a directory of the name that we would use."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError):
        RunDirectory.create(tmp_path, "node-1")
