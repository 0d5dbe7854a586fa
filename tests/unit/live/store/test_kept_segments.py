"""What the store counts against its limit, where the pages around a state are given back and where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from simnode.live.link import LinkRefusal
from simnode.live.store.kept_segments import KeptSegments
from simnode.storage.rows import SegmentRef

STEP = 64 * 1024


class Service:
    """A link that takes what it is told."""

    def cast_later(self, method: str, *args: object) -> None:
        pass


def kept(directory: Path, *, trims: bool) -> KeptSegments:
    return KeptSegments(directory, Service(), limit_bytes=3 * STEP, trims=trims)  # type: ignore[arg-type]


def segment(directory: Path, name: str) -> SegmentRef:
    """A segment of two steps, of which a row is to have 100 bytes."""
    (directory / name).write_bytes(bytes(2 * STEP))
    return SegmentRef(name, 0, 100)


@pytest.mark.parametrize(("trims", "held"), [(True, 4096), (False, 2 * STEP)])
def test_a_segment_counts_for_what_stays_of_it_and_no_longer_when_it_is_retired(
    tmp_path: Path, trims: bool, held: int
) -> None:
    ref = segment(tmp_path, "1-000000-0.seg")
    store = kept(tmp_path, trims=trims)
    store.keep(ref)
    assert store.held_bytes == held
    store.retire([ref])
    assert store.held_bytes == 0


@pytest.mark.parametrize(("trims", "held"), [(True, 4096), (False, 2 * STEP)])
def test_after_a_restart_a_segment_counts_for_as_much(tmp_path: Path, trims: bool, held: int) -> None:
    ref = segment(tmp_path, "1-000000-0.seg")
    store = kept(tmp_path, trims=trims)
    store.found([ref])
    assert store.held_bytes == held
    (tmp_path / ref.name).unlink()  # the service may be quicker
    store.retire([ref])
    assert store.held_bytes == 0


def test_where_nothing_is_given_back_the_limit_is_one_of_whole_segments(tmp_path: Path) -> None:
    store = kept(tmp_path, trims=False)
    store.keep(segment(tmp_path, "1-000000-0.seg"))
    refused = segment(tmp_path, "1-000001-0.seg")
    with pytest.raises(LinkRefusal, match="what is stored would take"):
        store.keep(refused)
    assert store.held_bytes == 2 * STEP


def test_a_state_with_room_to_grow_counts_once(tmp_path: Path) -> None:
    ref = segment(tmp_path, "1-000000-0.seg")
    store = kept(tmp_path, trims=False)
    store.keep(ref, capacity=2 * STEP)
    assert (store.held_bytes, store.capacity_of(ref)) == (2 * STEP, 2 * STEP)
    store.retire([ref])
    assert (store.held_bytes, store.capacity_of(ref)) == (0, 0)


def test_a_lost_segment_is_no_reason_not_to_start(tmp_path: Path) -> None:
    store = kept(tmp_path, trims=False)
    store.found([SegmentRef("1-000000-0.seg", 0, 100)])
    assert store.held_bytes == 4096
