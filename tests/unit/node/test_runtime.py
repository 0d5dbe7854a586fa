"""The `replace` runtime: what each kind of update does, and what it refuses."""

from __future__ import annotations

import pytest

from simnode.node.runtime import Merge, ReplaceRuntime, UpdateRefused, check_state_size
from simnode.protocol.blob import Blob
from simnode.protocol.limits import MAX_STATE_SIZE
from simnode.protocol.messages.contracts import (
    Delta,
    RelatedDelta,
    RelatedState,
    RelatedStateAndDelta,
    State,
    StateAndDelta,
    UpdateData,
)

ELSEWHERE = bytes(32)
STATE, DELTA = Blob(b"state"), Blob(b"delta")


@pytest.mark.parametrize(
    ("update", "merge"),
    [
        (State(state=STATE), Merge(keeps_current=False, parts=(STATE,))),
        (Delta(delta=DELTA), Merge(keeps_current=True, parts=(DELTA,))),
        (StateAndDelta(state=STATE, delta=DELTA), Merge(keeps_current=False, parts=(STATE, DELTA))),
    ],
)
def test_state_replaces_delta_appends_and_both_do_both(update: UpdateData, merge: Merge) -> None:
    assert ReplaceRuntime().plan_update(update) == merge


@pytest.mark.parametrize(
    "update",
    [
        RelatedState(related_to=ELSEWHERE, state=STATE),
        RelatedDelta(related_to=ELSEWHERE, delta=DELTA),
        RelatedStateAndDelta(related_to=ELSEWHERE, state=STATE, delta=DELTA),
    ],
)
def test_update_that_speaks_of_another_contract_is_refused_by_name(update: UpdateData) -> None:
    with pytest.raises(UpdateRefused, match=type(update).__name__):
        ReplaceRuntime().plan_update(update)


def test_parts_are_the_updates_own_bytes() -> None:
    """By reference: a state of 50 MiB is not copied to be planned with."""
    (part,) = ReplaceRuntime().plan_update(State(state=STATE)).parts
    assert part is STATE


def test_state_may_be_as_large_as_the_limit_and_not_a_byte_more() -> None:
    check_state_size(0)
    check_state_size(MAX_STATE_SIZE)
    with pytest.raises(UpdateRefused, match=f"{MAX_STATE_SIZE + 1} bytes exceeds the maximum of {MAX_STATE_SIZE}"):
        check_state_size(MAX_STATE_SIZE + 1)
