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


def test_beyond_the_budget_a_later_notification_of_the_contract_takes_over(inbox: Inbox) -> None:
    notify(inbox, A, state(b"1"), 60)
    notify(inbox, B, state(b"2"), 30)
    notify(inbox, A, delta(b"3"), 40)
    assert inbox.notification_bytes == 70
    assert notes(inbox) == [
        Notification(key=B, update=state(b"2")),
        Notification(key=A, update=delta(b"3"), gap=True),
    ]
    assert inbox.notification_bytes == 0


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


def test_an_empty_notification_is_replaced_by_the_next_of_its_contract(inbox: Inbox) -> None:
    inbox.put_gap(A)
    notify(inbox, B, state(b"1"))
    notify(inbox, A, delta(b"2"))
    assert notes(inbox) == [
        Notification(key=B, update=state(b"1")),
        Notification(key=A, update=delta(b"2"), gap=True),
    ]


def test_a_gap_supersedes_what_is_older(inbox: Inbox) -> None:
    notify(inbox, A, delta(b"1"))
    notify(inbox, A, delta(b"2"))
    inbox.put_gap(A)
    inbox.put_gap(A)
    assert notes(inbox) == [Notification(key=A, update=None, gap=True)]


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
