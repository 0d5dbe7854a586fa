"""Who hears of what, and in which form, without a socket, a store or a clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from simnode.live.handlers.requests import Requests
from simnode.live.handlers.session import Session
from simnode.live.handlers.subscribers import Subscription
from simnode.node.ledger import Ledger, Shares
from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.connection import ServerConnection
from simnode.protocol.messages.contracts import ContractKey, Delta, State, UpdateData
from simnode.protocol.messages.requests import Get
from simnode.protocol.messages.responses import GetResponse, UpdateNotification

KEY = ContractKey(b"k" * 32, b"c" * 32)


class Notice:
    """A version of the contract that appended one byte to the one before."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.stored = SimpleNamespace(mapped_bytes=0)

    def encoded_for(self, codec: Any, *, as_delta: bool) -> tuple[UpdateNotification, Any]:
        update = Delta(delta=Blob(b"%d" % self.version)) if as_delta else State(state=Blob(b"%d" % self.version))
        notification = UpdateNotification(key=KEY, update=update)
        return notification, codec.encode_result(notification)

    def take(self) -> Notice:
        return self

    def release(self) -> None:
        pass


class Told:
    """A session that subscribed with a summary at version 7, and what its client has been sent."""

    def __init__(self) -> None:
        nothing = SimpleNamespace(inc=lambda *_: None)
        stats: Any = SimpleNamespace(
            notifications_sent=nothing,
            notifications_coalesced=nothing,
            of=lambda encoding: SimpleNamespace(answered=lambda *_: None),
        )
        websocket: Any = SimpleNamespace(send_soon=lambda: None, unsent_bytes=0, peer_address="")
        #: the version that the index has now
        self.committed = 7
        backend: Any = SimpleNamespace(contracts=SimpleNamespace(state=self._stored))
        settings: Any = SimpleNamespace(caps=SimpleNamespace(per_client=10))
        self.session = Session(
            websocket,
            settings=settings,
            rules=SimpleNamespace(),  # type: ignore[arg-type]
            backend=backend,
            subscribers=SimpleNamespace(),  # type: ignore[arg-type]
            reports=SimpleNamespace(),  # type: ignore[arg-type]
            stats=stats,
            host=SimpleNamespace(),  # type: ignore[arg-type]
            ledger=Ledger(Shares()),
        )
        self.session._backlog = SimpleNamespace(note_outbound=lambda *_: None)  # type: ignore[assignment]
        self.connection = ServerConnection(codec=codec_for(Encoding.NATIVE), streaming=True)
        self.session.connection = self.connection
        self.session.subscriptions[KEY.instance] = Subscription(True, 7)

    def _stored(self, instance: bytes, *, with_code: bool) -> Any:
        return SimpleNamespace(
            key=KEY,
            version=self.committed,
            state=[Blob(b"%d" % self.committed)],
            mapped_bytes=0,
            release=lambda: None,
        )

    def get(self) -> None:
        codec = self.connection.codec
        self.connection.receive_message(Blob(bytes(codec.encode_request(Get(key=KEY.instance)))), 0.0)
        requests: Requests = self.session._requests
        requests.begin(self.connection.next_event())  # type: ignore[arg-type]

    def sent(self) -> list[UpdateData | bytes]:
        """What went out: updates, and the states of GetResponses as bytes."""
        found: list[UpdateData | bytes] = []
        while (message := self.connection.next_message()) is not None:
            result = self.connection.codec.decode_result(Blob(bytes(message.data)))
            assert isinstance(result, UpdateNotification | GetResponse)
            found.append(result.update if isinstance(result, UpdateNotification) else bytes(result.state))
        return found


def delta(version: int) -> Delta:
    return Delta(delta=Blob(b"%d" % version))


def state(version: int) -> State:
    return State(state=Blob(b"%d" % version))


@pytest.fixture
def told() -> Told:
    return Told()


def test_a_delta_goes_only_to_who_was_told_the_version_before(told: Told) -> None:
    for version in (8, 10, 10, 9, 11):
        told.session.contract_changed(KEY.instance, Notice(version))  # type: ignore[arg-type]
    assert told.sent() == [delta(8), state(10), delta(11)]


def test_a_get_that_is_ahead_of_the_notice_is_not_followed_by_the_delta_that_it_holds(told: Told) -> None:
    """The index has a row before the handler hears of it; the client would append the same bytes twice."""
    told.committed = 8
    told.get()
    told.session.contract_changed(KEY.instance, Notice(8))  # type: ignore[arg-type]
    told.session.contract_changed(KEY.instance, Notice(9))  # type: ignore[arg-type]
    assert told.sent() == [b"8", state(8), delta(9)]


def test_a_get_of_what_was_told_changes_nothing(told: Told) -> None:
    told.get()
    told.session.contract_changed(KEY.instance, Notice(8))  # type: ignore[arg-type]
    told.committed = 8
    told.get()
    told.session.contract_changed(KEY.instance, Notice(9))  # type: ignore[arg-type]
    assert told.sent() == [b"7", delta(8), b"8", delta(9)]
