"""What a subscriber makes of its notifications when some are missing, in the worst order that a node may choose.

The node's contract grows by appending, so whatever a subscriber has must be how the state began; a
delta that is applied to another state than it changes shows at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

import simnode
from simnode.client import Backoff, Client, ConnectionEvent, Notification, RequestTimeout, SubscriptionLost
from simnode.protocol.blob import Blob
from simnode.protocol.codec.base import Encoding
from simnode.protocol.messages import error_kinds, requests
from simnode.protocol.messages.contracts import ContractKey, Delta, State
from simnode.protocol.messages.responses import Err, SubscribeResponse, UpdateNotification
from tests.support.eventually import eventually
from tests.support.fake_node import NO_REPLY, Answer, FakeNode, Peer

QUICK = Backoff(initial_s=0.001, max_s=0.001)
TIMEOUT_S = 10.0


@pytest.fixture(params=list(Encoding))
def encoding(request: pytest.FixtureRequest) -> Encoding:
    chosen: Encoding = request.param
    return chosen


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    async with FakeNode() as node:
        yield node


class Follower:
    """A program that keeps a contract's state by its notifications alone."""

    def __init__(self, node: FakeNode, client: Client, key: ContractKey) -> None:
        self.node = node
        self.client = client
        self.key = key
        #: None after a gap, until a State comes
        self.state: bytes | None = b"0"
        self.gaps = 0

    @property
    def real_state(self) -> bytes:
        return self.node.states[self.key.instance][1]

    async def take(self) -> Notification:
        note = await self.client.next_notification(timeout_s=TIMEOUT_S)
        assert note.key.instance == self.key.instance
        self.gaps += note.gap
        match note.update:
            case State(state=state):
                self.state = bytes(state)
            case Delta(delta=delta):
                assert self.state is not None, "a delta came after a gap"
                assert not note.gap
                self.state += bytes(delta)
            case _:
                assert not note.is_current
                self.state = None
        assert self.state is None or self.real_state.startswith(self.state), f"{self.state!r} was never the state"
        return note

    async def catch_up(self) -> None:
        """Takes notifications until they have led to the node's state."""
        while self.state != self.real_state:
            await self.take()

    def append(self, delta: bytes) -> None:
        """Somebody else changes the contract; who is subscribed is told."""
        self.node._update(self.key, Delta(delta=Blob(delta)))

    def miss(self, delta: bytes) -> None:
        """Somebody else changes the contract, and nobody is told."""
        container, state = self.node.states[self.key.instance]
        self.node.states[self.key.instance] = (container, state + delta)

    async def lose(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Loses the connection and returns when there is another, whose requests are not answered yet."""
        asked = len(self.node.queries)
        self.node.lose_connections()
        meanwhile()
        await eventually(lambda: len(self.node.queries) > asked and self.node.peers)


@asynccontextmanager
async def following(
    node: FakeNode,
    encoding: Encoding,
    *,
    on_event: Callable[[ConnectionEvent], None] | None = None,
    room: int = 1 << 20,
) -> AsyncIterator[Follower]:
    """A client that follows a contract by deltas."""
    async with simnode.connect(
        node.url, encoding=encoding, reconnect=QUICK, on_event=on_event, notification_buffer_bytes=room
    ) as client:
        key = await client.put(code=b"code", state=b"0", subscribe=True)
        await client.subscribe(key, summary=b"summary")
        follower = Follower(node, client, key)
        follower.append(b"1")
        await follower.take()
        assert follower.state == b"01"
        yield follower


def confirmed_with(follower: Follower, *, before: bytes, behind: bytes) -> Callable[[Peer, object, object], Answer]:
    """An `on_request` that answers the next SUBSCRIBE with deltas before and behind its reply, all in one write."""

    def on_request(peer: Peer, ticket: object, request: object) -> Answer:
        if not isinstance(request, requests.Subscribe):
            return None
        follower.node.on_request = lambda peer, ticket, request: None
        follower.node.answer_to(peer, request)
        peer.core.forget(ticket)
        for delta in before:
            follower.append(bytes([delta]))
        peer.core.send_unsolicited(SubscribeResponse(key=follower.key, subscribed=True))
        for delta in behind:
            follower.append(bytes([delta]))
        return NO_REPLY

    return on_request


@pytest.mark.parametrize(("before", "behind"), [(b"", b"345"), (b"34", b""), (b"34", b"56"), (b"", b"")])
async def test_deltas_around_the_confirmation_are_not_applied_to_what_was_before_the_loss(
    node: FakeNode, encoding: Encoding, before: bytes, behind: bytes
) -> None:
    async with following(node, encoding) as follower:
        node.on_request = confirmed_with(follower, before=before, behind=behind)
        await follower.lose(lambda: follower.miss(b"2"))
        note = await follower.take()
        assert note.update is None
        assert note.gap
        if not before and not behind:
            follower.append(b"7")
        await follower.catch_up()
        follower.append(b"8")
        assert (await follower.take()).update == Delta(delta=Blob(b"8")), "it follows again, by deltas"
        await follower.catch_up()
        assert follower.gaps == 2, "the empty one and the State"


async def test_a_state_before_the_confirmation_is_flagged_and_followed_by_deltas(
    node: FakeNode, encoding: Encoding
) -> None:
    async with following(node, encoding) as follower:

        def on_request(peer: Peer, ticket: object, request: object) -> Answer:
            if isinstance(request, requests.Subscribe):
                follower.miss(b"3")
                state = State(state=Blob(follower.real_state))
                peer.core.forget(ticket)
                peer.core.send_notification(UpdateNotification(key=follower.key, update=state))
                peer.core.send_unsolicited(SubscribeResponse(key=follower.key, subscribed=True))
                node.answer_to(peer, request)
                follower.append(b"4")
                return NO_REPLY
            return None

        node.on_request = on_request
        await follower.lose(lambda: follower.miss(b"2"))
        note = await follower.take()
        assert note.gap
        assert isinstance(note.update, State)
        await follower.catch_up()
        assert follower.gaps == 1


async def test_what_came_before_the_loss_is_applied_and_what_came_after_two_of_them_is_not(
    node: FakeNode, encoding: Encoding
) -> None:
    async with following(node, encoding) as follower:
        follower.append(b"2")
        await follower.client.get(follower.key)  # which is answered behind the delta
        await follower.lose(lambda: follower.miss(b"3"))
        await follower.lose(lambda: follower.miss(b"4"))
        follower.miss(b"5")
        await eventually(lambda: node.subscribers[follower.key.instance])
        follower.append(b"6")
        await follower.catch_up()
        follower.append(b"7")
        await follower.catch_up()


async def test_a_subscription_that_is_refused_and_made_again_by_the_program_starts_with_a_state(
    node: FakeNode, encoding: Encoding
) -> None:
    lost = asyncio.Event()

    def on_event(event: ConnectionEvent) -> None:
        if isinstance(event, SubscriptionLost):
            lost.set()

    async with following(node, encoding, on_event=on_event) as follower:
        refusal = Err(error_kinds.SubscribeError(key=follower.key, cause="too many"))
        node.on_request = lambda peer, ticket, request: refusal if isinstance(request, requests.Subscribe) else None
        await follower.lose(lambda: follower.miss(b"2"))
        await lost.wait()
        node.on_request = lambda peer, ticket, request: None
        follower.miss(b"3")
        await follower.client.subscribe(follower.key, summary=b"summary")
        follower.append(b"4")
        await follower.catch_up()
        assert follower.gaps == 2


async def test_a_node_whose_store_is_away_is_asked_for_the_subscription_again(
    node: FakeNode, encoding: Encoding
) -> None:
    """A store and a handler that are killed together are the usual case, and no reason to forget a subscription."""
    events: list[ConnectionEvent] = []
    async with following(node, encoding, on_event=events.append) as follower:
        refusals = [Err(error_kinds.NodeUnavailable())] * 2

        def on_request(peer: Peer, ticket: object, request: object) -> Answer:
            return refusals.pop() if isinstance(request, requests.Subscribe) and refusals else None

        node.on_request = on_request
        await follower.lose(lambda: follower.miss(b"2"))
        assert (await follower.take()).update is None
        assert not refusals
        follower.append(b"3")
        await follower.catch_up()
        assert not any(isinstance(event, SubscriptionLost) for event in events)


async def test_a_node_that_comes_back_with_an_older_state_is_followed_from_there(
    node: FakeNode, encoding: Encoding
) -> None:
    async with following(node, encoding) as follower:

        def roll_back() -> None:
            container, _ = node.states[follower.key.instance]
            node.states[follower.key.instance] = (container, b"0")

        await follower.lose(roll_back)
        assert (await follower.take()).update is None
        follower.append(b"x")
        await follower.catch_up()
        assert follower.state == b"0x"


async def test_deltas_that_found_no_room_are_made_up_for_by_a_state(node: FakeNode, encoding: Encoding) -> None:
    async with following(node, encoding, room=300) as follower:
        for number in range(50):
            follower.append(bytes([number]))
        await follower.client.get(follower.key)  # which is answered behind them
        await follower.catch_up()
        assert follower.gaps == 2
        follower.append(b"x")
        assert (await follower.take()).update == Delta(delta=Blob(b"x"))


async def test_a_state_that_cannot_be_had_at_once_is_asked_for_until_it_comes(
    node: FakeNode, encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simnode.client.link.RETRIES", QUICK)
    async with following(node, encoding) as follower:
        refusals = [Err(error_kinds.NodeUnavailable())] * 3
        node.on_request = lambda peer, ticket, request: (
            refusals.pop() if isinstance(request, requests.Get) and refusals else None
        )
        await follower.lose(lambda: follower.miss(b"2"))
        await follower.take()
        follower.append(b"3")
        await follower.catch_up()
        assert not refusals


async def test_a_subscription_counts_also_when_the_program_no_longer_waits_for_it(
    node: FakeNode, encoding: Encoding
) -> None:
    """The node sends notifications then; they must not end silently with the connection."""
    async with simnode.connect(node.url, encoding=encoding, reconnect=QUICK) as client:
        key = await client.put(code=b"code", state=b"0")
        held: list[tuple[Peer, object, requests.Subscribe]] = []

        def hold(peer: Peer, ticket: object, request: object) -> Answer:
            if not isinstance(request, requests.Subscribe):
                return None
            held.append((peer, ticket, request))
            return NO_REPLY

        node.on_request = hold
        with pytest.raises(RequestTimeout):
            await client.subscribe(key, summary=b"summary", timeout_s=0.01)
        node.on_request = lambda peer, ticket, request: None
        ((peer, ticket, request),) = held
        answer = node.answer_to(peer, request)
        assert isinstance(answer, SubscribeResponse)
        peer.answer(ticket, answer)
        follower = Follower(node, client, key)
        follower.append(b"1")
        await follower.catch_up()
        await follower.lose(lambda: follower.miss(b"2"))
        assert (await follower.take()).update is None
        follower.append(b"3")
        await follower.catch_up()


async def test_a_busy_writer_and_many_losses_never_make_a_state_that_was_not(
    node: FakeNode, encoding: Encoding
) -> None:
    async with following(node, encoding) as follower:
        over = False

        async def write() -> None:
            number = 0
            while not over:
                follower.append(number.to_bytes(4))
                number += 1
                await asyncio.sleep(0)

        async def follow() -> None:
            while not over:
                await follower.take()

        tasks = [asyncio.create_task(write()), asyncio.create_task(follow())]
        for _ in range(40):
            await follower.lose()
            gaps = follower.gaps
            await eventually(lambda gaps=gaps: tasks[1].done() or (follower.gaps > gaps and follower.state is not None))
        over = True
        await asyncio.gather(*tasks)
        await follower.catch_up()
