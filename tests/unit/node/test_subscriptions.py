"""SubscriberCounts: how many subscribers, and where, with the cap that they share."""

from __future__ import annotations

import pytest

from simnode.node.subscriptions import (
    MAX_SUBSCRIBERS_PER_CONTRACT,
    MAX_SUBSCRIPTIONS_PER_CLIENT,
    SubscriberCounts,
    SubscriptionCaps,
    SubscriptionRefused,
)

ONE, TWO = b"1" * 32, b"2" * 32


def everything(counts: SubscriberCounts, at_least: int = 1) -> list[tuple[bytes, int]]:
    """What a walk in pieces finds."""
    found: list[tuple[bytes, int]] = []
    shard: int | None = 0
    while shard is not None:
        shard, piece = counts.contracts(shard, at_least)
        found += piece
    return sorted(found)


@pytest.fixture
def counts() -> SubscriberCounts:
    return SubscriberCounts(SubscriptionCaps(per_contract=3))


def test_caps_are_the_protocols_unless_said_otherwise() -> None:
    assert SubscriptionCaps() == SubscriptionCaps(
        per_client=MAX_SUBSCRIPTIONS_PER_CLIENT, per_contract=MAX_SUBSCRIBERS_PER_CONTRACT
    )
    assert (MAX_SUBSCRIPTIONS_PER_CLIENT, MAX_SUBSCRIBERS_PER_CONTRACT) == (500, 256)


def test_subscribers_are_counted_by_contract_and_place(counts: SubscriberCounts) -> None:
    counts.add(ONE, "here")
    counts.add(ONE, "here")
    counts.add(ONE, "there")
    counts.add(TWO, "there")
    assert counts.count_of(ONE) == 3
    assert sorted(map(str, counts.places_of(ONE))) == ["here", "there"]
    assert counts.places_of(TWO) == ["there"]
    assert everything(counts) == [(ONE, 3), (TWO, 1)]
    assert counts.total == 4


def test_cap_counts_all_places_together_and_refusing_changes_nothing(counts: SubscriberCounts) -> None:
    for place in ("here", "there", "here"):
        counts.add(ONE, place)
    with pytest.raises(SubscriptionRefused, match="contract has 3 subscribers, maximum is 3"):
        counts.add(ONE, "elsewhere")
    assert counts.places_of(ONE) == ["here", "there"]
    assert counts.total == 3
    counts.add(TWO, "elsewhere")
    counts.remove([ONE], "here")
    counts.add(ONE, "elsewhere")
    assert counts.count_of(ONE) == 3


def test_refused_first_subscriber_leaves_no_trace() -> None:
    counts = SubscriberCounts(SubscriptionCaps(per_contract=0))
    with pytest.raises(SubscriptionRefused):
        counts.add(ONE, "here")
    assert everything(counts) == []


def test_what_is_restored_after_a_restart_may_pass_the_cap(counts: SubscriberCounts) -> None:
    """They were admitted before, and are there."""
    counts.restore(ONE, "here", 5)
    counts.restore(ONE, "there", 1)
    assert counts.count_of(ONE) == counts.total == 6
    with pytest.raises(SubscriptionRefused):
        counts.add(ONE, "here")


def test_removing_takes_one_of_each_and_what_is_not_there_is_none(counts: SubscriberCounts) -> None:
    counts.add(ONE, "here")
    counts.add(ONE, "here")
    counts.remove([ONE, TWO], "here")
    counts.remove([ONE], "there")
    assert counts.count_of(ONE) == counts.total == 1
    counts.remove([ONE], "here")
    counts.remove([ONE], "here")
    assert counts.count_of(ONE) == counts.total == 0
    assert everything(counts) == []
    assert counts.places_of(ONE) == []


def test_place_that_is_gone_takes_its_subscribers_along(counts: SubscriberCounts) -> None:
    for contract, place in ((ONE, "here"), (ONE, "there"), (TWO, "here")):
        counts.add(contract, place)
    counts.drop_place("here")
    assert everything(counts) == [(ONE, 1)]
    assert counts.total == 1
    counts.drop_place("nowhere")
    assert counts.total == 1


def test_place_that_is_gone_counts_for_nothing_before_its_memory_is_given_back(counts: SubscriberCounts) -> None:
    """Its clients are back at once, at another place or the same, and must not find the contract full of themselves."""
    for _ in range(3):
        counts.add(ONE, "here")
    counts.drop_place("here")
    assert (counts.total, counts.count_of(ONE), counts.places_of(ONE), everything(counts)) == (0, 0, [], [])
    assert counts.needs_sweep
    counts.add(ONE, "there")
    steps = counts.sweep()
    next(steps)
    counts.add(ONE, "here")
    for _ in steps:
        pass
    assert (counts.total, everything(counts), counts.needs_sweep) == (2, [(ONE, 2)], False)


def test_walk_in_pieces_meets_each_contract_once_while_others_come_and_go(counts: SubscriberCounts) -> None:
    stay = [number.to_bytes(32) for number in range(500)]
    for contract in stay:
        counts.add(contract, "here")
    found: list[tuple[bytes, int]] = []
    shard: int | None = 0
    pieces = 0
    while shard is not None:
        shard, piece = counts.contracts(shard, 50)
        assert len(piece) < 100
        found += piece
        passing = [(1000 + pieces * 10 + number).to_bytes(32) for number in range(10)]
        for contract in passing:
            counts.add(contract, "here")
        counts.remove(passing, "here")
        pieces += 1
    assert sorted(found) == [(contract, 1) for contract in stay]
    assert pieces > 5
