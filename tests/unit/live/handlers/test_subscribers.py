"""Who hears of what, and in which form, without a socket, a store or a clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from simnode.live.handlers import subscribers as subscribers_module
from simnode.live.handlers.requests import Requests
from simnode.live.handlers.session import Session
from simnode.live.handlers.subscribers import Subscribers, Subscription
from simnode.live.link import LinkLost
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
        websocket: Any = SimpleNamespace(send_soon=lambda: None, unsent_bytes=0)
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
            stats=stats,
            host=SimpleNamespace(),  # type: ignore[arg-type]
        )
        self.session._backlog = SimpleNamespace(note_outbound=lambda *_: None)  # type: ignore[assignment]
        self.connection = ServerConnection(codec=codec_for(Encoding.NATIVE), streaming=True)
        self.session.connection = self.connection
        self.session.subscriptions[KEY.instance] = Subscription(True, 7)

    def _stored(self, instance: bytes, *, with_code: bool) -> Any:
        return SimpleNamespace(
            key=KEY, version=self.committed, state=[Blob(b"%d" % self.committed)], release=lambda: None
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


class Listener:
    """A subscriber that notes which versions it hears of."""

    def __init__(self) -> None:
        self.subscriptions: dict[bytes, Subscription] = {}
        self.heard: list[int] = []

    def contract_changed(self, contract: bytes, notice: Any) -> None:
        self.heard.append(notice.version)


class Turn:
    """Of the event loop: what is called when it passes."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def pass_by(self) -> None:
        calls, self.calls = self.calls, []
        for call, *args in calls:
            call(*args)


class Store:
    """A link to a store that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[Any], Any]] = []

    def ask(self, method: str, args: list[Any], answer: Any) -> None:
        self.asked.append((method, args, answer))


@pytest.fixture
def turn(monkeypatch: pytest.MonkeyPatch) -> Turn:
    turn = Turn()
    loop = SimpleNamespace(call_soon=lambda *call: turn.calls.append(call))
    monkeypatch.setattr(subscribers_module, "asyncio", SimpleNamespace(get_running_loop=lambda: loop))
    return turn


def test_a_new_store_counts_the_subscribers_before_they_are_told_where_they_stand(turn: Turn) -> None:
    """Else a change that it commits in between reaches nobody: not by its notice, and not by this look."""
    committed = [5]
    backend: Any = SimpleNamespace(notice_of=lambda contract, version=0, delta=None: Notice(committed[0]))
    subscribers, listener, store = Subscribers(backend), Listener(), Store()
    subscribers.begin(listener, KEY.instance, takes_deltas=True)
    subscribers.agreed(listener, KEY.instance, 5)
    subscribers.introduce(store)  # type: ignore[arg-type]
    turn.pass_by()
    assert listener.heard == [], "the store does not know the subscriber yet"
    committed[0] = 6  # and does not tell
    ((method, args, answer),) = store.asked
    assert (method, args) == ("resubscribe", [[[KEY.instance, 1]]])
    answer(None, None)
    turn.pass_by()
    assert listener.heard == [6]


def test_who_was_being_subscribed_when_the_store_died_is_not_counted_by_the_next(turn: Turn) -> None:
    subscribers, agreed, asked, store = Subscribers(SimpleNamespace()), Listener(), Listener(), Store()  # type: ignore[arg-type]
    subscribers.begin(agreed, KEY.instance, takes_deltas=False)
    subscribers.agreed(agreed, KEY.instance, 5)
    subscribers.begin(asked, KEY.instance, takes_deltas=False)
    subscribers.begin(asked, b"o" * 32, takes_deltas=False)
    subscribers.introduce(store)  # type: ignore[arg-type]
    ((_, args, answer),) = store.asked
    assert args == [[[KEY.instance, 1]]]
    answer(None, LinkLost("gone, too"))
    turn.pass_by()
    assert agreed.heard == asked.heard == []
