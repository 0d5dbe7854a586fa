from __future__ import annotations

import os
from pathlib import Path
from typing import get_type_hints

import pytest
import typer

from simnode.cli import contracts, run
from simnode.cli.paths import readable_file, user_path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("text", ["-", "a/~", "~no-such-user/x", "/dev/stdout"])
def test_a_path_without_a_home_directory_stays_what_it_is(text: str) -> None:
    assert user_path(text) == Path(text)


def test_a_file_in_the_home_directory_is_found(home: Path) -> None:
    (home / "state").touch()
    assert readable_file("~/state") == home / "state"


def test_a_pipe_can_be_read(home: Path) -> None:
    os.mkfifo(home / "pipe")
    assert readable_file("~/pipe") == home / "pipe"


@pytest.mark.parametrize(("text", "complaint"), [("~/x", "does not exist"), ("~", "is a directory")])
def test_what_cannot_be_read_is_named_as_it_was_understood(home: Path, text: str, complaint: str) -> None:
    with pytest.raises(typer.BadParameter, match=rf"{user_path(text)}' {complaint}"):
        readable_file(text)


@pytest.mark.parametrize("command", [contracts.put, contracts.get, contracts.update, run.run])
def test_every_option_that_takes_a_path_knows_the_home_directory(command: object) -> None:
    hints = {
        name: next(extra for extra in hint.__metadata__ if hasattr(extra, "parser"))
        for name, hint in get_type_hints(command, include_extras=True).items()
        if hasattr(hint, "__metadata__") and Path in (hint.__origin__, *getattr(hint.__origin__, "__args__", ()))
    }
    assert hints
    assert {extra.parser for extra in hints.values()} <= {user_path, readable_file}
