"""Whose fault a failure is, and whom it costs, without a socket, a store or a clock."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from simnode.live.handlers.answers import INTERNAL_ERROR, UNREADABLE
from simnode.live.handlers.requests import Requests
from simnode.live.link import FAILED, LinkError, LinkLost, LinkRefusal
from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.connection import ServerConnection
from simnode.protocol.messages.error_kinds import OperationError, Unhandled
from simnode.protocol.messages.requests import ClientRequest
from simnode.protocol.messages.responses import Err, HostResult, NotFound, PutResponse
from simnode.storage.errors import IndexFailure, OutOfDescriptors, SegmentGone
from tests.support.wire import get_of, put_of

STORED = [1, None, False, None]


class Client:
    """Who asks; it can be made to fail when it is answered."""

    def __init__(self) -> None:
        self.connection = ServerConnection(codec=codec_for(Encoding.NATIVE), streaming=False)
        self.is_authorized = True
        self.subscriptions: dict[bytes, Any] = {}
        self.is_broken = False
        self.answers: list[HostResult] = []
        self.failures = 0

    def respond(
        self,
        ticket: object,
        result: HostResult,
        *,
        timer: object,
        encoded: Rope | None = None,
        token: object = None,
    ) -> None:
        if self.is_broken:
            raise RuntimeError("a bug of ours")
        self.answers.append(result)

    def requests_answered(self) -> None:
        pass

    def flush_late(self, instance: bytes) -> None:
        pass

    def failed(self) -> None:
        self.failures += 1


class World:
    """One client, its requests and what they asked of the store."""

    def __init__(self) -> None:
        self.client = Client()
        self.asked: list[tuple[str, Any, Any]] = []
        store = SimpleNamespace(ask=lambda *call: self.asked.append(call))
        counted = SimpleNamespace(answered=lambda *_: None, unanswered=lambda *_: None)
        #: how a stored contract is read, and room leased
        self.contracts = SimpleNamespace(state=lambda key, with_code: None)
        self.leased: list[Any] = []
        backend = SimpleNamespace(store=store, contracts=self.contracts, lease=lambda *call: self.leased.append(call))
        self.requests = Requests(
            self.client,
            backend=backend,
            subscribers=SimpleNamespace(),
            reports=SimpleNamespace(),
            stats=SimpleNamespace(of=lambda encoding: counted),
            max_subscriptions=1,
        )

    def receive(self, request: ClientRequest, *, origin: object = None) -> None:
        connection = self.client.connection
        message = Blob(bytes(connection.codec.encode_request(request)), origin=origin)
        connection.receive_message(message, 0.0)
        self.requests.begin(connection.next_event())


class Room:
    """What a message lies in; its memory is free when nobody refers to it any more."""


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What only the collector of cycles would find stays."""
    gc.disable()
    yield
    gc.enable()


def test_failure_while_a_client_is_answered_costs_that_client_and_not_the_link_to_the_store(world: World) -> None:
    world.receive(put_of(b"state"))
    world.client.is_broken = True
    _, _, answer = world.asked.pop()
    answer(STORED, None)
    assert world.client.failures == 1


def test_writes_of_one_contract_go_to_the_store_one_after_the_other(world: World) -> None:
    one, two = put_of(b"one"), put_of(b"two")
    other = put_of(b"other", params=b"of another contract")
    for request in (one, two, other):
        world.receive(request)
    assert [bytes(args[4]) for _, args, _ in world.asked] == [b"one", b"other"]
    world.asked[0][2](STORED, None)
    assert [bytes(args[4]) for _, args, _ in world.asked] == [b"one", b"other", b"two"]
    world.asked[2][2](STORED, None)
    assert world.client.answers == [PutResponse(key=one.contract.key)] * 2
    assert world.requests.in_hand == 1


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    "error",
    [None, LinkLost("gone", may_have_heard=True), LinkRefusal("full", "too much"), LinkRefusal("lost", "is gone")],
)
def test_room_of_a_message_is_free_as_soon_as_it_is_answered(world: World, error: LinkError | None) -> None:
    """A refusal that its own frames refer to used to keep it until the collector came by."""
    room = Room()
    is_there = weakref.ref(room)
    world.receive(put_of(b"state"), origin=room)
    del room
    world.asked.pop()[2](None if error else STORED, error)
    assert len(world.client.answers) == 1
    assert is_there() is None


def test_answer_to_a_client_that_is_gone_is_dropped(world: World) -> None:
    world.receive(put_of(b"state"))
    world.requests.abandon()
    world.asked[0][2](STORED, None)
    assert world.client.answers == []
    assert world.client.failures == 0


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (OutOfDescriptors("segment 1-0.seg cannot be opened"), OperationError(cause=UNREADABLE)),
        (SegmentGone("1-0.seg"), OperationError(cause=UNREADABLE)),
        (IndexFailure("/dev/shm/x/data.mdb: broken"), OperationError(cause=UNREADABLE)),
        (RuntimeError("a bug at 0x7f00"), Unhandled(cause=INTERNAL_ERROR)),
    ],
)
def test_get_that_cannot_be_read_is_an_error_to_that_request_alone(
    world: World, failure: Exception, kind: OperationError | Unhandled
) -> None:
    """Details are for the log: a client learns no path, no segment and no exception."""

    def fail(key: bytes, with_code: bool) -> None:
        raise failure

    key = put_of(b"state").contract.key
    world.contracts.state, readable = fail, world.contracts.state
    world.receive(get_of(key))
    world.contracts.state = readable
    world.receive(get_of(key))
    assert world.client.answers == [Err(kind), NotFound(instance_id=key.instance)]
    assert (world.client.failures, world.requests.in_hand) == (0, 0)


@pytest.mark.parametrize("code", [FAILED, "lost", "full"])
def test_refusal_of_the_store_is_an_answer(world: World, code: str) -> None:
    world.receive(put_of(b"state"))
    world.asked.pop()[2](None, LinkRefusal(code, "said for people"))
    (answer,) = world.client.answers
    assert isinstance(answer, Err)
    if code == FAILED:
        assert answer.kind == Unhandled(cause=INTERNAL_ERROR)
