from __future__ import annotations

import os
from pathlib import Path

import pytest

from simnode.storage.cache import SegmentCache
from simnode.storage.errors import OutOfDescriptors, SegmentGone
from simnode.storage.segment_file import PAGE_BYTES, SegmentFile
from simnode.storage.segments import DESCRIPTORS_OF_A_SEGMENT
from tests.support.descriptors import descriptors_left


def store(directory: Path, *names: str) -> None:
    for name in names:
        SegmentFile.create(directory, name, PAGE_BYTES).write(0, name.encode())


def is_held(directory: Path, name: str) -> bool:
    return not SegmentFile.open(directory, name, writable=True).try_lock_exclusive()


def test_a_segment_is_mapped_once_and_held_for_each_reader(tmp_path: Path) -> None:
    store(tmp_path, "a")
    cache = SegmentCache(tmp_path, capacity=2)
    first, second = cache.read("a"), cache.read("a")
    assert first is second
    cache.release(first)
    assert is_held(tmp_path, "a")
    cache.release(second)
    assert not is_held(tmp_path, "a")
    assert cache.read("a") is first


def test_the_least_recently_used_mapping_falls_out(tmp_path: Path) -> None:
    store(tmp_path, "a", "b", "c")
    cache = SegmentCache(tmp_path, capacity=2)
    a, b = cache.read("a"), cache.read("b")
    assert cache.read("a") is a
    cache.read("c")
    assert cache.read("a") is a
    assert cache.read("b") is not b
    assert len(cache) == 2


def test_a_mapping_that_falls_out_while_held_lives_until_it_is_released(tmp_path: Path) -> None:
    store(tmp_path, "a", "b")
    cache = SegmentCache(tmp_path, capacity=1)
    a = cache.read("a")
    blob = a.blob(0, 1)
    cache.read("b")
    assert is_held(tmp_path, "a")
    assert bytes(blob) == b"a"
    cache.release(a)
    assert not is_held(tmp_path, "a")


def test_a_missing_segment_is_typed_and_takes_no_room(tmp_path: Path) -> None:
    cache = SegmentCache(tmp_path, capacity=1)
    with pytest.raises(SegmentGone):
        cache.read("a")
    assert len(cache) == 0


def test_a_mapping_of_a_recycled_segment_is_found_out_and_dropped(tmp_path: Path) -> None:
    """The pool may have given an idle mapping's file to another message, under another name."""
    store(tmp_path, "a")
    cache = SegmentCache(tmp_path, capacity=1)
    cache.release(cache.read("a"))
    SegmentFile.open(tmp_path, "a", writable=True).rename("b")
    with pytest.raises(SegmentGone):
        cache.read("a")
    assert len(cache) == 0
    assert not is_held(tmp_path, "b")


def test_a_segment_that_lost_its_name_is_forgotten_by_its_last_reader(tmp_path: Path) -> None:
    """An idle mapping would keep its memory, which nobody accounts for any more."""
    store(tmp_path, "a")
    cache = SegmentCache(tmp_path, capacity=2)
    first, second = cache.read("a"), cache.read("a")
    (tmp_path / "a").unlink()
    cache.release(first)
    assert len(cache) == 1
    cache.release(second)
    assert len(cache) == 0


def test_clearing_spares_what_is_held(tmp_path: Path) -> None:
    store(tmp_path, "a")
    cache = SegmentCache(tmp_path, capacity=2)
    held = cache.read("a")
    cache.clear()
    assert len(cache) == 0
    assert is_held(tmp_path, "a")
    cache.release(held)
    assert not is_held(tmp_path, "a")


def test_idle_mappings_of_unlinked_segments_are_forgotten_and_others_are_not(tmp_path: Path) -> None:
    """Where no holes can be punched, each would keep the space of a segment that nothing accounts for."""
    store(tmp_path, "idle", "held", "named")
    cache = SegmentCache(tmp_path, capacity=3)
    held, named = cache.read("held"), cache.read("named")
    for segment in (cache.read("idle"), named):
        cache.release(segment)
    for name in ("idle", "held"):
        (tmp_path / name).unlink()

    cache.forget_unlinked()

    assert len(cache) == 2
    assert cache.read("named") is named
    cache.release(held)
    assert len(cache) == 1


def test_without_a_descriptor_the_mappings_that_nobody_reads_go_first(tmp_path: Path) -> None:
    store(tmp_path, "held", "idle", "wanted", "mine")
    cache = SegmentCache(tmp_path, capacity=8)
    held = cache.read("held")
    cache.release(cache.read("idle"))
    with descriptors_left(os.getpid()):
        wanted = cache.read("wanted")
        assert cache.read("held") is held
        with pytest.raises(OutOfDescriptors):
            cache.read("idle")
        cache.release(wanted)
        assert cache.open("mine", writable=True).is_held
    assert len(cache) == 1


def test_segment_whose_mapping_finds_no_descriptor_leaves_none_open(tmp_path: Path) -> None:
    """The file opens, and its mapping wants another descriptor."""
    store(tmp_path, "a")
    cache = SegmentCache(tmp_path, capacity=1)
    with descriptors_left(os.getpid(), DESCRIPTORS_OF_A_SEGMENT - 1):
        for _ in range(3):
            with pytest.raises(OutOfDescriptors, match="mapped"):
                cache.read("a")
    assert len(cache) == 0
