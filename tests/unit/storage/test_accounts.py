from __future__ import annotations

import pytest

from simnode.storage.accounts import Accounts, Condition, Entry
from simnode.storage.errors import UnknownSegment
from simnode.storage.names import SegmentName


def entry(serial: int = 0, capacity: int = 100) -> Entry:
    return Entry(name=SegmentName(1, serial, 0), capacity=capacity, condition=Condition.IN_FLIGHT, held_bytes=capacity)


def test_sums_follow_every_change_and_peaks_stay() -> None:
    accounts, first, second = Accounts(), entry(0), entry(1)
    accounts.add(first)
    accounts.add(second)
    accounts.move(first, Condition.STORED, payload_bytes=60)
    accounts.hold(first, 100, [(0, 10), (90, 100)])
    assert accounts.held == {Condition.IN_FLIGHT: 100, Condition.STORED: 80}
    assert accounts.payload_bytes == 60
    accounts.rename(first, first.name.next_life())
    accounts.drop(second)
    accounts.check_invariants()
    assert accounts.held[Condition.IN_FLIGHT] == 0
    assert accounts.peak == {Condition.IN_FLIGHT: 200, Condition.STORED: 100}
    assert accounts.number == {Condition.IN_FLIGHT: 0, Condition.STORED: 1}


def test_a_segment_is_found_only_in_the_condition_asked_for() -> None:
    accounts, one = Accounts(), entry()
    accounts.add(one)
    assert accounts.entry(str(one.name), Condition.FREE, Condition.IN_FLIGHT) is one
    with pytest.raises(UnknownSegment, match="is in_flight"):
        accounts.entry(str(one.name), Condition.FREE)
    with pytest.raises(UnknownSegment, match="no segment"):
        accounts.entry("1-000009-0.seg", Condition.FREE)


def test_moving_ends_ownership() -> None:
    accounts, one = Accounts(), entry()
    accounts.add(one)
    accounts.move(one, Condition.IN_FLIGHT, owner="handler")
    assert accounts.leased_to("handler") == [str(one.name)]
    accounts.move(one, Condition.STORED)
    assert accounts.leased_to("handler") == []
