"""What a delegate of simnode says: application messages come back, everything else earns silence."""

from __future__ import annotations

from simnode.node.delegates import echo
from simnode.protocol.blob import Blob
from simnode.protocol.messages.delegates import ApplicationMessage, UserResponse


def message(payload: bytes, *, processed: bool = False) -> ApplicationMessage:
    return ApplicationMessage(payload=Blob(payload), context=Blob(b"context"), processed=processed)


def test_application_messages_come_back_in_order_and_marked_as_processed() -> None:
    assert echo([message(b"one"), message(b"two", processed=True)]) == (
        message(b"one", processed=True),
        message(b"two", processed=True),
    )


def test_other_messages_earn_no_answer() -> None:
    response = UserResponse(request_id=1, response=Blob(b"yes"), context=Blob(b""))
    assert echo([response, message(b"one")]) == (message(b"one", processed=True),)
    assert echo([]) == ()
