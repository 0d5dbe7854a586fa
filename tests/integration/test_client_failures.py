"""The public client when the connection fails, the node sends nonsense, or the program dawdles."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest
from websockets.exceptions import ConnectionClosed

import simnode
from simnode.client import (
    AuthenticationFailed,
    Backoff,
    Client,
    ClientClosed,
    ConnectionEvent,
    ConnectionFailed,
    ConnectionLost,
    GaveUp,
    HandshakeRefused,
    Lost,
    NotFound,
    ReplyBroken,
    RequestTimeout,
    Restored,
    Retrying,
    SubscriptionLost,
    link,
)
from simnode.protocol.blob import Blob
from simnode.protocol.messages import requests, responses
from simnode.protocol.messages.contracts import ContractKey
from tests.support.fake_node import NO_REPLY, Answer, ChunkSender, FakeNode, Peer

QUICK = Backoff(initial_s=0.001, max_s=0.001)
STATE = bytes(range(250)) * 8000


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    async with FakeNode() as node:
        yield node


@pytest.fixture
async def client(node: FakeNode) -> AsyncIterator[Client]:
    async with simnode.connect(node.url) as client:
        yield client


class Silence:
    """An `on_request` that answers nothing and says when it was asked."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    def __call__(self, peer: Peer, ticket: object, request: requests.ClientRequest) -> Answer:
        self.asked.set()
        return NO_REPLY


# ---- connecting --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST, HTTPStatus.SERVICE_UNAVAILABLE])
async def test_a_refused_handshake_says_which_status(node: FakeNode, status: HTTPStatus) -> None:
    node.refuse_with = [status]
    with pytest.raises(HandshakeRefused, match="not now") as caught:
        await simnode.connect(node.url).open()
    assert caught.value.status == status


async def test_nobody_there_is_a_failed_connection() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        with pytest.raises(ConnectionFailed, match=str(port)):
            await simnode.connect(f"ws://127.0.0.1:{port}", reconnect=True).open()


def test_a_wrong_url_or_encoding_fails_at_once() -> None:
    with pytest.raises(ValueError, match="is not a ws"):
        simnode.connect("http://127.0.0.1:7509")
    with pytest.raises(ValueError, match="'json' is not a valid Encoding"):
        simnode.connect("ws://127.0.0.1:7509", encoding="json")


async def test_a_client_that_is_not_open_can_ask_nothing(node: FakeNode) -> None:
    client = simnode.connect(node.url)
    with pytest.raises(ClientClosed, match="not open"):
        await client.get(bytes(32))
    async with client:
        with pytest.raises(ClientClosed, match="opened once"):
            await client.open()
    with pytest.raises(ClientClosed, match="was closed"):
        await client.get(bytes(32))
    with pytest.raises(ClientClosed):
        await client.recv()
    await client.close()


async def test_closing_fails_what_is_under_way(node: FakeNode, client: Client) -> None:
    node.on_request = silence = Silence()
    asking = asyncio.create_task(client.get(bytes(32)))
    await silence.asked.wait()
    await client.close()
    with pytest.raises(ClientClosed):
        await asking


async def test_a_peer_that_does_not_read_cannot_hold_up_closing(
    node: FakeNode, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "CLOSE_TIMEOUT_S", 0.05)
    await client.node.connected_peers()
    node.peers[0].stop_reading()
    upload = asyncio.create_task(client.put(code=b"code", state=bytes(60_000_000)))
    while client.unsent_bytes == 0:  # noqa: ASYNC110 - there is no event for it; it takes a few turns
        await asyncio.sleep(0)
    async with asyncio.timeout(8):  # the library itself would take ten seconds more
        await client.close()
    with pytest.raises(ClientClosed):
        await upload


async def test_a_farewell_ends_the_connection_from_the_other_side(node: FakeNode, client: Client) -> None:
    await client.disconnect("going home")
    assert node.requests == [requests.Disconnect(cause="going home")]


# ---- tokens ------------------------------------------------------------------------------------


async def test_the_right_token_is_let_in_and_a_wrong_one_is_not() -> None:
    async with FakeNode(token="secret") as node:
        async with simnode.connect(node.url, token="secret") as client:
            await client.node.connected_peers()
        events: list[ConnectionEvent] = []
        async with simnode.connect(node.url, token="wrong", reconnect=QUICK, on_event=events.append) as client:
            with pytest.raises(AuthenticationFailed):
                await client.recv()
            with pytest.raises(AuthenticationFailed):
                await client.get(bytes(32))
        assert [type(event) for event in events] == [Lost, GaveUp], "another attempt would fail the same way"


async def test_a_token_can_be_replaced_and_a_wrong_one_ends_the_connection() -> None:
    async with FakeNode(token="secret") as node, simnode.connect(node.url, token="secret") as client:
        await client.authenticate("secret")
        await client.node.connected_peers()
        node.on_request = lambda peer, ticket, request: NO_REPLY if isinstance(request, requests.Get) else None
        asking = asyncio.create_task(client.get(bytes(32)))
        await client.authenticate("wrong")
        with pytest.raises(AuthenticationFailed):
            await asking


# ---- losing the connection ---------------------------------------------------------------------


async def test_losing_the_connection_fails_everything_from_then_on(node: FakeNode, client: Client) -> None:
    node.on_request = silence = Silence()
    asking = asyncio.create_task(client.get(bytes(32)))
    await client.send(requests.Get(key=bytes(32)))
    await silence.asked.wait()
    node.lose_connections()
    with pytest.raises(ConnectionLost) as caught:
        await asking
    assert caught.value.code == 1006
    for _ in range(3):  # the answer to the send(), then the end
        with pytest.raises(ConnectionLost):
            await client.recv()
    with pytest.raises(ConnectionLost):
        await client.get(bytes(32))
    with pytest.raises(ConnectionLost):
        await client.next_notification()


async def test_a_lost_connection_is_made_anew_and_subscribed_again(node: FakeNode) -> None:
    events: list[ConnectionEvent] = []
    async with simnode.connect(node.url, reconnect=QUICK, on_event=events.append) as client:
        kept = await client.put(code=b"code", params=b"1", state=b"a", subscribe=True)
        forgotten = await client.put(code=b"code", params=b"2", state=b"b", subscribe=True)
        node.on_request = silence = Silence()
        asking = asyncio.create_task(client.get(kept))
        await silence.asked.wait()
        node.on_request = lambda peer, ticket, request: None
        del node.states[forgotten.instance]
        asked_before = len(node.requests)
        node.lose_connections()
        with pytest.raises(ConnectionLost):
            await asking
        assert (await client.get(kept)).state == b"a", "a request made meanwhile waits"
        note = await client.next_notification()
        assert note.key == kept
        assert note.update is None
        assert not note.is_current
        await client.update(kept, state=b"c")
        assert (await client.next_notification()).is_current
    assert [type(event) for event in events] == [Lost, Retrying, Restored, SubscriptionLost]
    lost = events[-1]
    assert isinstance(lost, SubscriptionLost)
    assert lost.instance == forgotten.instance
    assert isinstance(lost.error, NotFound)
    resubscribed = [request.key for request in node.requests[asked_before:] if isinstance(request, requests.Subscribe)]
    assert sorted(resubscribed) == sorted([kept.instance, forgotten.instance])
    gets = [request for request in node.requests[asked_before:] if isinstance(request, requests.Get)]
    assert len(gets) == 1, "the request that failed was not sent again"


async def test_a_client_gives_up_when_its_attempts_are_used_up(node: FakeNode) -> None:
    events: list[ConnectionEvent] = []
    backoff = Backoff(initial_s=0.001, max_s=0.001, max_attempts=2)
    async with simnode.connect(node.url, reconnect=backoff, on_event=events.append) as client:
        await client.node.connected_peers()
        node.refuse_with = [HTTPStatus.SERVICE_UNAVAILABLE] * 3
        node.lose_connections()
        with pytest.raises(HandshakeRefused):
            await client.next_notification()
        with pytest.raises(HandshakeRefused):
            await client.get(bytes(32))
    assert [type(event) for event in events] == [Lost, Retrying, Retrying, GaveUp]
    assert len(node.refuse_with) == 1


async def test_a_client_that_waits_for_its_next_attempt_can_be_closed(node: FakeNode) -> None:
    trying = asyncio.Event()
    client = simnode.connect(
        node.url,
        reconnect=Backoff(initial_s=1000, max_s=1000),
        on_event=lambda event: trying.set() if isinstance(event, Retrying) else None,
    )
    await client.open()
    await client.node.connected_peers()
    node.lose_connections()
    await trying.wait()
    with pytest.raises(RequestTimeout, match="connecting again"):
        await client.get(bytes(32), timeout_s=0.001)
    asking = asyncio.create_task(client.get(bytes(32)))
    await client.close()
    with pytest.raises(ClientClosed):
        await asking


async def test_a_stream_that_loses_its_connection_says_so(node: FakeNode, client: Client) -> None:
    sender = await a_sender(node, client)
    sender.indices = (0, 1)
    async with client.get_stream(KEY) as stream:
        received = 0
        with pytest.raises(ConnectionLost):  # noqa: PT012 - the chunks before the loss still come
            async for piece in stream:
                received += len(piece)
                node.lose_connections()
        assert 0 < received < len(STATE)


KEY = ContractKey(b"k" * 32, b"c" * 32)


async def a_sender(node: FakeNode, client: Client) -> ChunkSender:
    """Of a GetResponse about `KEY`; the next GET starts it."""
    await client.node.connected_peers()
    sender = ChunkSender(node.peers[0], responses.GetResponse(key=KEY, contract=None, state=Blob(STATE)))
    node.on_request = lambda peer, ticket, request: sender.start() if isinstance(request, requests.Get) else None
    return sender


async def test_a_message_over_the_limit_ends_the_connection_with_its_code(node: FakeNode, client: Client) -> None:
    await client.node.connected_peers()
    fragment = bytes(20_000_000)
    with contextlib.suppress(ConnectionClosed):  # the last of it may or may not be on its way by then
        await node.peers[0].websocket.send([fragment] * 6)
    with pytest.raises(ConnectionLost) as caught:
        await client.recv()
    assert caught.value.code == 1009


# ---- nonsense ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("indices", "announced", "text"),
    [
        ((0, 2), None, "chunk 2 came in place of chunk 1"),
        (tuple(range(8)), len(STATE) - 5000, "more than the announced"),
        (tuple(range(8)), len(STATE) + 5000, "the last chunk came after"),
        ((0,), 1 << 60, "is announced with"),
    ],
)
async def test_a_stream_that_is_not_what_its_header_said_is_broken(
    node: FakeNode, client: Client, indices: tuple[int, ...], announced: int | None, text: str
) -> None:
    sender = await a_sender(node, client)
    sender.indices, sender.total_bytes = indices, announced or sender.total_bytes
    with pytest.raises(ReplyBroken, match=text):
        await read(client)
    await client.node.connected_peers()


async def read(client: Client) -> None:
    async with client.get_stream(KEY) as stream:
        async for _ in stream:
            pass


async def test_an_undecodable_answer_fails_the_request_it_may_have_been_for(node: FakeNode, client: Client) -> None:
    await client.node.connected_peers()
    node.on_request = silence = Silence()
    asking = asyncio.create_task(client.get(bytes(32)))
    await silence.asked.wait()
    await node.peers[0].send(b"\xff" * 20)
    with pytest.raises(ReplyBroken, match="cannot be decoded"):
        await asking
    node.on_request = lambda peer, ticket, request: None
    await client.node.connected_peers()


async def test_a_reassembled_answer_with_a_wrong_total_fails_its_request(node: FakeNode, client: Client) -> None:
    sender = await a_sender(node, client)
    sender.indices = (0,)
    asking = asyncio.create_task(client.get(KEY))
    await sender.sent.wait()
    sender.total += 1
    await sender.send_chunk(1)
    with pytest.raises(ReplyBroken, match="total_chunks mismatch"):
        await asking
