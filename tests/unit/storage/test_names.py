from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from simnode.storage.names import EPOCH_FILE, SegmentName, next_epoch


def test_a_name_survives_its_text() -> None:
    name = SegmentName(epoch=10, serial=0x1234567, life=255)
    assert str(name) == "a-1234567-ff.seg"
    assert SegmentName.parse(str(name)) == name


@pytest.mark.parametrize("text", ["epoch", "a-b.seg", "1-2-3.seg.tmp", "1-2-3", "x-1-1.seg", "../1-2-3.seg"])
def test_another_file_is_no_segment(text: str) -> None:
    assert SegmentName.parse(text) is None


def test_recycling_changes_the_name_and_a_sequence_never_repeats_one() -> None:
    first, second = islice(SegmentName.sequence(3), 2)
    assert len({first, second, first.next_life(), second.next_life(), first.next_life().next_life()}) == 5


def test_each_pool_in_a_directory_has_an_epoch_of_its_own(tmp_path: Path) -> None:
    assert [next_epoch(tmp_path) for _ in range(3)] == [1, 2, 3]


def test_an_epoch_file_that_a_power_failure_set_back_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / EPOCH_FILE).write_text("4")
    (tmp_path / str(SegmentName(7, 1, 0))).touch()
    assert next_epoch(tmp_path) == 8
