"""Where Ray's directory goes when the user's temporary directory has too long a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.ray_directory import NoDirectoryForRay, choose_parent, has_room_for_sockets
from simnode.cli.checks import Status, judge_temporary_directory

LONG = Path("/tmp/" + "x" * 60)


def test_a_short_directory_is_taken():
    assert choose_parent(Path("/tmp")) == Path("/tmp")


def test_the_limit_is_that_of_a_unix_socket():
    longest = max(length for length in range(1, 107) if has_room_for_sockets(Path("/" + "x" * length)))
    name = "/simnode-XXXXXXXX/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
    assert len("/" + "x" * longest + name) == 107


def test_a_long_one_gives_way_to_the_first_that_is_writable(tmp_path: Path):
    assert choose_parent(LONG, [Path("/nowhere"), Path("/tmp")]) == Path("/tmp")


def test_nothing_suitable_is_an_error_that_names_the_directory_and_the_remedy():
    with pytest.raises(NoDirectoryForRay, match=f"{LONG} is too long.*TMPDIR"):
        choose_parent(LONG, [Path("/nowhere")])


def test_the_doctor_says_which_is_used():
    assert judge_temporary_directory(Path("/tmp")).status is Status.OK
    found = judge_temporary_directory(LONG, [Path("/tmp")])
    assert found.status is Status.WARN
    assert "/tmp is used" in found.mend
    assert judge_temporary_directory(LONG, [Path("/nowhere")]).status is Status.FAIL
