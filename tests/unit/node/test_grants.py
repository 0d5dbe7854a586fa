import pytest

from simnode.node.grants import STEP_BYTES, Grant


@pytest.fixture
def grant():
    return Grant()


def give(grant, held_bytes):
    wanted = grant.wanted(held_bytes)
    grant.granted(wanted)
    return wanted


def test_a_process_that_holds_nothing_asks_for_nothing(grant):
    assert grant.wanted(0) == 0


def test_the_first_byte_brings_a_step(grant):
    assert give(grant, 1) == STEP_BYTES
    assert grant.granted_bytes == STEP_BYTES


def test_more_is_asked_for_before_what_is_granted_is_used_up(grant):
    give(grant, 1)
    assert grant.wanted(STEP_BYTES // 2) == 0
    assert grant.wanted(STEP_BYTES // 2 + 1) == STEP_BYTES


def test_as_many_steps_are_asked_for_as_are_missing(grant):
    assert give(grant, 3 * STEP_BYTES) == 4 * STEP_BYTES


def test_one_request_is_under_way_at_a_time(grant):
    assert grant.wanted(1) == STEP_BYTES
    assert grant.wanted(10 * STEP_BYTES) == 0
    grant.granted(STEP_BYTES)
    assert grant.wanted(10 * STEP_BYTES) == 10 * STEP_BYTES


def test_after_a_refusal_it_is_asked_for_again(grant):
    grant.wanted(1)
    grant.refused()
    assert grant.granted_bytes == 0
    assert grant.wanted(1) == STEP_BYTES


def test_what_is_not_needed_goes_back_in_steps(grant):
    give(grant, 10 * STEP_BYTES)
    assert grant.surplus(10 * STEP_BYTES) == 0
    assert grant.surplus(STEP_BYTES) == 8 * STEP_BYTES
    assert grant.granted_bytes == 3 * STEP_BYTES
    assert grant.surplus(STEP_BYTES) == 0
    assert grant.surplus(0) == 3 * STEP_BYTES
    assert grant.granted_bytes == 0


def test_a_load_that_swings_within_a_step_neither_asks_nor_gives_back(grant):
    give(grant, STEP_BYTES)
    for held in (STEP_BYTES, STEP_BYTES // 2, STEP_BYTES + STEP_BYTES // 4, 1):
        assert grant.wanted(held) == 0
        assert grant.surplus(held) == 0


def test_a_new_owner_of_the_budget_is_told_what_was_granted(grant):
    give(grant, 1)
    grant.wanted(10 * STEP_BYTES)
    assert grant.lost() == STEP_BYTES
    assert grant.wanted(10 * STEP_BYTES) > 0
