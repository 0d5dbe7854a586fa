from __future__ import annotations

from simnode.storage.free_list import FreeList


def free_list(*capacities: int, limit: int = 1000) -> FreeList:
    free = FreeList(limit)
    for capacity in capacities:
        assert free.add(str(capacity), capacity) == []
    return free


def test_the_smallest_that_fits_is_taken() -> None:
    free = free_list(130, 100, 110)
    assert free.take(105, at_most=1000) == "110"
    assert (len(free), free.nbytes) == (2, 230)


def test_one_that_is_half_as_large_again_is_taken_and_a_larger_one_is_not() -> None:
    assert free_list(150).take(100, at_most=1000) == "150"
    assert free_list(151).take(100, at_most=1000) is None


def test_one_that_is_too_small_is_not_taken() -> None:
    assert free_list(99).take(100, at_most=1000) is None


def test_one_for_which_the_budget_has_no_room_is_not_taken() -> None:
    free = free_list(120)
    assert free.take(100, at_most=119) is None
    assert free.take(100, at_most=120) == "120"


def test_the_oldest_goes_when_there_is_too_much() -> None:
    free = free_list(100, 200, 300, limit=600)
    assert free.add("new", 150) == ["100", "200"]
    assert (len(free), free.nbytes) == (2, 450)


def test_one_that_is_larger_than_the_limit_goes_itself() -> None:
    free = free_list(100, limit=600)
    assert free.add("huge", 601) == ["huge"]
    assert (len(free), free.nbytes) == (1, 100)


def test_clearing_gives_up_all_of_them() -> None:
    free = free_list(100, 200)
    assert free.clear() == ["100", "200"]
    assert (len(free), free.nbytes) == (0, 0)
    assert free.take(100, at_most=1000) is None
