from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3

from simnode.experiments.payloads import CUTS_OF_A_SIZE, PayloadError, choose_cuts, largest_binaries

ELF = b"\x7fELF"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lib.so"
    path.write_bytes(os.urandom(100_000))
    return path


def test_the_largest_binaries_come_first_and_only_binaries_come(tmp_path: Path):
    for name, content in {
        "small.so": ELF,
        "deep/large.so": ELF + bytes(5000),
        "archive.jar": b"PK\x03\x04" + bytes(2000),
        "text.py": b"#" * 9000,
        "empty": b"",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "link.so").symlink_to(tmp_path / "deep/large.so")

    found = largest_binaries(tmp_path)

    assert [path.name for path in found] == ["large.so", "archive.jar", "small.so"]


def test_a_cut_has_the_digest_of_its_bytes(file: Path):
    content = file.read_bytes()

    for cut in choose_cuts(30_000, [file], seed=1):
        assert cut.blake3 == blake3(content[cut.offset : cut.offset + cut.nbytes]).hexdigest()
        assert cut.nbytes == 30_000


def test_the_same_seed_makes_the_same_cuts_and_another_seed_others(file: Path):
    cuts = choose_cuts(30_000, [file], seed=1)

    assert cuts == choose_cuts(30_000, [file], seed=1)
    assert cuts != choose_cuts(30_000, [file], seed=2)


def test_cuts_of_a_size_differ_so_that_a_stale_answer_is_found_out(file: Path):
    assert len({cut.blake3 for cut in choose_cuts(30_000, [file], seed=1)}) == CUTS_OF_A_SIZE


def test_files_that_are_too_short_are_passed_over(tmp_path: Path, file: Path):
    short = tmp_path / "short.so"
    short.write_bytes(ELF)

    assert {cut.path for cut in choose_cuts(100_000, [short, file], seed=1)} == {file}


def test_no_file_that_is_long_enough_is_the_users_to_solve(file: Path):
    with pytest.raises(PayloadError, match=r"100001 bytes is needed and the longest file has 100000.*--payload"):
        choose_cuts(100_001, [file], seed=1)
