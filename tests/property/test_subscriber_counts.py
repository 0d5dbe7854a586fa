"""SubscriberCounts against a plain dictionary, over any sequence of what can happen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simnode.node.subscriptions import SubscriberCounts, SubscriptionCaps, SubscriptionRefused

ONE, TWO = b"1" * 32, b"2" * 32

steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "drop", "restore", "sweep"]),
        st.sampled_from([ONE, TWO]),
        st.sampled_from(["here", "there", "elsewhere"]),
    ),
    max_size=40,
)


@given(steps)
def test_total_is_always_the_sum_and_no_zero_is_kept(steps: list[tuple[str, bytes, str]]) -> None:
    counts = SubscriberCounts(SubscriptionCaps(per_contract=3))
    expected: dict[tuple[bytes, str], int] = {}
    for step, contract, place in steps:
        here = expected.get((contract, place), 0)
        match step:
            case "add":
                try:
                    counts.add(contract, place)
                except SubscriptionRefused:
                    continue
                expected[contract, place] = here + 1
            case "restore":
                counts.restore(contract, place, 2)
                expected[contract, place] = here + 2
            case "remove":
                counts.remove([contract], place)
                expected[contract, place] = max(0, here - 1)
            case "sweep":
                for _ in counts.sweep():
                    pass
            case _:
                counts.drop_place(place)
                expected.update({key: 0 for key in expected if key[1] == place})
        assert counts.total == sum(expected.values())
        for one in (ONE, TWO):
            places = {place for (other, place), number in expected.items() if other == one and number}
            assert set(counts.places_of(one)) == places
            assert counts.count_of(one) == sum(number for (other, _), number in expected.items() if other == one)
        end, listed = counts.contracts(0, 1000)
        assert end is None
        assert dict(listed) == {one: counts.count_of(one) for one in (ONE, TWO) if counts.count_of(one)}
