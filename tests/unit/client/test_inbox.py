from __future__ import annotations

from collections.abc import Iterator

import pytest

from simnode.client.exceptions import ClientError
from simnode.client.inbox import MAX_UNSOLICITED, Inbox, Notification
from simnode.client.streams import ResponseStream
from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.messages.contracts import ContractKey, Delta, State, UpdateData
from simnode.protocol.messages.responses import Ok, PutResponse, Raw, StreamHeader, UpdateNotification

A, B, C = (ContractKey(name * 32, b"c" * 32) for name in (b"a", b"b", b"c"))


def state(text: bytes) -> State:
    return State(state=Blob(text))


def delta(text: bytes) -> Delta:
    return Delta(delta=Blob(text))


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox(max_notification_bytes=100)
    yield inbox
    inbox.check_invariants()


def notify(inbox: Inbox, key: ContractKey, update: UpdateData, nbytes: int = 10) -> None:
    inbox.put_notification(UpdateNotification(key=key, update=update), nbytes)
    inbox.check_invariants()


def notes(inbox: Inbox) -> list[Notification]:
    taken = []
    while (note := inbox.take_notification()) is not None:
        inbox.check_invariants()
        taken.append(note)
    return taken


def a_stream() -> ResponseStream:
    header = StreamHeader(stream_id=1, total_bytes=9, content=Raw())
    return ResponseStream(header, codec=codec_for(Encoding.NATIVE), timeout_s=1.0, on_demand=lambda: None)


def test_everything_comes_out_in_the_order_it_came_in(inbox: Inbox) -> None:
    stream, error = a_stream(), ClientError("lost")
    inbox.put_owed(PutResponse(key=A), 40)
    notify(inbox, B, state(b"1"))
    inbox.put_unsolicited(Ok())
    inbox.put_owed(stream)
    inbox.put_owed(error)
    assert inbox.owed_bytes == 40
    assert inbox.take() == PutResponse(key=A)
    assert inbox.owed_bytes == 0
    assert inbox.take() == Notification(key=B, update=state(b"1"))
    assert inbox.take() == Ok()
    assert inbox.take() is stream
    assert inbox.take() is error
    assert inbox.take() is None


def test_a_stream_can_be_taken_past_everything_else(inbox: Inbox) -> None:
    stream = a_stream()
    inbox.put_owed(PutResponse(key=A), 40)
    inbox.put_owed(stream)
    assert inbox.take_stream() is stream
    assert inbox.take_stream() is None
    assert inbox.take() == PutResponse(key=A)


def test_unsolicited_results_are_kept_up_to_a_number() -> None:
    """A program that never calls recv() must not collect them for ever."""
    inbox = Inbox()
    for number in range(MAX_UNSOLICITED + 3):
        inbox.put_unsolicited(PutResponse(key=ContractKey(number.to_bytes(32), bytes(32))))
    first = inbox.take()
    assert isinstance(first, PutResponse)
    assert first.key.instance == (3).to_bytes(32)


def test_notifications_within_the_budget_are_all_kept(inbox: Inbox) -> None:
    for text in (b"1", b"2", b"3"):
        notify(inbox, A, state(text))
    assert [note.update for note in notes(inbox)] == [state(b"1"), state(b"2"), state(b"3")]


def test_beyond_the_budget_a_later_state_of_the_contract_takes_over(inbox: Inbox) -> None:
    notify(inbox, A, state(b"1"), 60)
    notify(inbox, A, delta(b"2"), 10)
    notify(inbox, B, state(b"3"), 10)
    notify(inbox, A, state(b"4"), 20)
    notify(inbox, A, delta(b"5"), 10)
    assert inbox.notification_bytes == 40
    assert notes(inbox) == [
        Notification(key=B, update=state(b"3")),
        Notification(key=A, update=state(b"4"), gap=True),
        Notification(key=A, update=delta(b"5")),
    ]
    assert inbox.notification_bytes == 0
    assert inbox.next_stale() is None


def test_beyond_the_budget_deltas_go_with_the_state_that_they_change(inbox: Inbox) -> None:
    """A delta after a dropped one would be applied to a state that it does not follow, flagged or not."""
    notify(inbox, A, state(b"1"), 60)
    notify(inbox, A, delta(b"2"), 10)
    notify(inbox, B, state(b"3"), 10)
    notify(inbox, A, delta(b"4"), 40)
    notify(inbox, A, delta(b"5"), 10)
    assert notes(inbox) == [Notification(key=A, update=None, gap=True), Notification(key=B, update=state(b"3"))]
    assert inbox.next_stale() == A.instance


def test_beyond_the_budget_the_last_word_about_a_contract_stays_as_an_empty_one(inbox: Inbox) -> None:
    notify(inbox, A, state(b"1"), 60)
    notify(inbox, B, state(b"2"), 60)
    assert notes(inbox) == [
        Notification(key=A, update=None, gap=True),
        Notification(key=B, update=state(b"2")),
    ]


def test_one_notification_larger_than_the_budget_is_still_kept(inbox: Inbox) -> None:
    notify(inbox, A, state(b"1"), 60)
    notify(inbox, B, state(b"2"), 1000)
    notify(inbox, C, state(b"3"), 1)
    assert notes(inbox) == [
        Notification(key=A, update=None, gap=True),
        Notification(key=B, update=None, gap=True),
        Notification(key=C, update=state(b"3")),
    ]


# ---- versions that may be missing ------------------------------------------------------------


def test_a_lost_connection_keeps_what_came_and_announces_the_gap_with_the_subscription(inbox: Inbox) -> None:
    notify(inbox, A, delta(b"1"))
    inbox.break_off([A.instance])
    assert notes(inbox) == [Notification(key=A, update=delta(b"1"))]
    inbox.subscribed(A)
    assert notes(inbox) == [Notification(key=A, update=None, gap=True)]
    inbox.subscribed(A)
    assert notes(inbox) == [], "one gap is announced once"


def test_a_gap_supersedes_what_is_older(inbox: Inbox) -> None:
    notify(inbox, A, delta(b"1"))
    notify(inbox, A, delta(b"2"))
    inbox.break_off([A.instance])
    inbox.subscribed(A)
    inbox.break_off([A.instance])
    inbox.subscribed(A)
    assert notes(inbox) == [Notification(key=A, update=None, gap=True)]


def test_deltas_are_dropped_until_a_state_comes(inbox: Inbox) -> None:
    inbox.break_off([A.instance])
    inbox.subscribed(A)
    notify(inbox, B, state(b"1"))
    notify(inbox, A, delta(b"2"))
    notify(inbox, A, state(b"3"))
    notify(inbox, A, delta(b"4"))
    assert notes(inbox) == [
        Notification(key=B, update=state(b"1")),
        Notification(key=A, update=state(b"3"), gap=True),
        Notification(key=A, update=delta(b"4")),
    ]
    assert inbox.next_stale() is None


@pytest.mark.parametrize("is_confirmed_first", [True, False])
def test_a_dropped_delta_has_the_state_asked_for_once_the_gap_was_taken(inbox: Inbox, is_confirmed_first: bool) -> None:
    asked: list[None] = []
    inbox.on_stale = lambda: asked.append(None)
    notify(inbox, A, delta(b"1"))
    inbox.break_off([A.instance])
    if is_confirmed_first:
        inbox.subscribed(A)
    notify(inbox, A, delta(b"3"))
    inbox.subscribed(A)
    assert inbox.next_stale() is None
    assert not asked, "the user may be slow, and the state old by then"
    assert notes(inbox) == [Notification(key=A, update=None, gap=True)]
    assert asked
    assert inbox.next_stale() == A.instance
    assert inbox.next_stale() is None
    notify(inbox, A, delta(b"4"))  # which the state holds: it is older than the answer
    inbox.put_refetched(A, Blob(b"1234"), 10)
    notify(inbox, A, delta(b"5"))
    assert notes(inbox) == [
        Notification(key=A, update=state(b"1234"), gap=True),
        Notification(key=A, update=delta(b"5")),
    ]
    assert inbox.next_stale() is None


def test_a_state_before_the_confirmation_is_the_gap_and_its_end(inbox: Inbox) -> None:
    inbox.break_off([A.instance])
    notify(inbox, A, state(b"1"))
    inbox.subscribed(A)
    notify(inbox, A, delta(b"2"))
    assert notes(inbox) == [Notification(key=A, update=state(b"1"), gap=True), Notification(key=A, update=delta(b"2"))]


def test_a_gap_that_was_taken_is_announced_again_after_another_loss(inbox: Inbox) -> None:
    for _ in range(2):
        inbox.break_off([A.instance])
        inbox.subscribed(A)
        assert notes(inbox) == [Notification(key=A, update=None, gap=True)]


def test_what_was_dropped_before_a_loss_is_not_asked_for_before_the_next_subscription(inbox: Inbox) -> None:
    """Its answer would pass for current, and what changes before the subscription would be missing."""
    notify(inbox, A, delta(b"1"), 60)
    notify(inbox, A, delta(b"2"), 30)
    inbox.break_off([A.instance])
    notify(inbox, B, state(b"3"), 60)
    assert [note.update for note in notes(inbox)] == [None, state(b"3")]
    assert inbox.next_stale() is None
    inbox.subscribed(A)
    assert notes(inbox) == [Notification(key=A, update=None, gap=True)]


def test_a_state_that_cannot_be_had_is_asked_for_again(inbox: Inbox) -> None:
    inbox.break_off([A.instance])
    notify(inbox, A, delta(b"1"))
    notes(inbox)
    assert inbox.next_stale() == A.instance
    inbox.not_refetched(A.instance)
    assert inbox.next_stale() == A.instance
    notify(inbox, A, state(b"2"))
    inbox.not_refetched(A.instance)
    assert inbox.next_stale() is None
    inbox.put_refetched(A, Blob(b"late"), 10)
    assert notes(inbox) == [Notification(key=A, update=state(b"2"), gap=True)]


def test_states_are_asked_for_one_at_a_time(inbox: Inbox) -> None:
    """Two that do not fit together would evict each other for ever."""
    for key in (A, B):
        inbox.break_off([key.instance])
        notify(inbox, key, delta(b"1"))
    notes(inbox)
    assert inbox.next_stale() == A.instance
    inbox.put_refetched(A, Blob(b"A"), 80)
    assert inbox.next_stale() is None
    notes(inbox)
    assert inbox.next_stale() == B.instance
    inbox.put_refetched(B, Blob(b"B"), 80)
    notify(inbox, C, state(b"C"), 80)
    assert notes(inbox) == [Notification(key=B, update=None, gap=True), Notification(key=C, update=state(b"C"))]


@pytest.mark.parametrize(
    ("note", "is_current"),
    [
        (Notification(key=A, update=state(b"1")), True),
        (Notification(key=A, update=state(b"1"), gap=True), True),
        (Notification(key=A, update=delta(b"1")), True),
        (Notification(key=A, update=delta(b"1"), gap=True), False),
        (Notification(key=A, update=None, gap=True), False),
    ],
)
def test_only_a_whole_state_bridges_a_gap(note: Notification, is_current: bool) -> None:
    assert note.is_current is is_current
