"""The public client against a fake node, over real sockets: what it promises when all goes well."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import AsyncIterator, Callable

import pytest

import simnode
from simnode.client import (
    CannotEncode,
    Client,
    ContractFailed,
    NodeUnavailable,
    NotFound,
    RequestFailed,
    RequestTimeout,
)
from simnode.client.session import Session
from simnode.protocol.blob import Blob
from simnode.protocol.keys import encode_base58
from simnode.protocol.messages import error_kinds, requests, responses
from simnode.protocol.messages.contracts import ContractKey, Delta, State
from simnode.protocol.messages.delegates import ApplicationMessage
from tests.support.fake_node import NO_REPLY, Answer, ChunkSender, FakeNode, Peer

WAYS = [(encoding, streaming) for encoding in ("native", "msgpack", "flatbuffers") for streaming in (True, False)]


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    async with FakeNode() as node:
        yield node


@pytest.fixture
async def client(node: FakeNode) -> AsyncIterator[Client]:
    async with simnode.connect(node.url) as client:
        yield client


@pytest.fixture
async def advance() -> Callable[[float], None]:
    """Moves the event loop's clock on, so that no test has to wait for a timeout."""
    loop = asyncio.get_running_loop()
    real, offset = loop.time, 0.0

    def move(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    loop.time = lambda: real() + offset  # type: ignore[method-assign]
    return move


def some_bytes(nbytes: int) -> bytes:
    return (bytes(range(251)) * (nbytes // 251 + 1))[:nbytes]


async def some_of_it_is_queued(client: Client) -> None:
    while client.unsent_bytes == 0:  # noqa: ASYNC110 - there is no event for it; it takes a few turns
        await asyncio.sleep(0)


# ---- all goes well -----------------------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "streaming"), WAYS)
@pytest.mark.parametrize("nbytes", [0, 1000, 700_000, 3_000_000])
async def test_what_was_put_is_what_is_got(node: FakeNode, encoding: str, streaming: bool, nbytes: int) -> None:
    state = some_bytes(nbytes)
    async with simnode.connect(node.url, encoding=encoding, streaming=streaming) as client:
        key = await client.put(code=b"code", params=b"params", state=state)
        got = await client.get(key, return_code=True)
        assert got.key == key
        assert got.state == state
        assert got.contract is not None
        assert got.contract.data == b"code"
        assert (await client.get(encode_base58(key.instance))).contract is None
        async with client.get_stream(key.instance) as stream:
            assert stream.key == key
            assert stream.total_bytes == nbytes
            assert b"".join([bytes(piece) async for piece in stream]) == state
    assert node.queries == [{"encodingProtocol": [encoding], "streaming": ["true" if streaming else "false"]}]


@pytest.mark.parametrize(("encoding", "streaming"), WAYS)
async def test_subscribers_hear_of_updates(node: FakeNode, encoding: str, streaming: bool) -> None:
    async with simnode.connect(node.url, encoding=encoding, streaming=streaming) as client:
        key = await client.put(code=b"code", state=some_bytes(600_000))
        assert await client.subscribe(key.instance) == key
        summaries = [await client.update(key, delta=b"1"), await client.update(key, state=b"new", delta=b"2")]
        assert len(set(summaries)) == 2
        notes = [await client.next_notification(timeout_s=10) for _ in range(2)]
        assert [note.update for note in notes] == [
            State(state=Blob(some_bytes(600_000) + b"1")),
            State(state=Blob(b"new2")),
        ]
        assert all(note.key.instance == key.instance and note.is_current for note in notes)


async def test_a_subscriber_with_a_summary_gets_deltas_as_deltas(client: Client) -> None:
    key = await client.put(code=b"code", state=b"a", subscribe=True)
    await client.subscribe(key, summary=b"summary")
    await client.update(key, delta=b"b")
    async for note in client.notifications():
        assert note.update == Delta(delta=Blob(b"b"))
        break


async def test_notifications_end_when_the_client_is_closed(client: Client) -> None:
    async def collect() -> list[object]:
        return [note async for note in client.notifications()]

    collecting = asyncio.create_task(collect())
    key = await client.put(code=b"code", state=b"a")
    await client.get(key, subscribe=True)
    await client.update(key, state=b"b")
    await client.close()
    assert len(await collecting) == 1


async def test_a_hundred_pipelined_requests_get_their_own_answers(client: Client) -> None:
    states = [str(number).encode() * 9000 for number in range(100)]
    puts = (client.put(code=b"code", params=bytes([number]), state=state) for number, state in enumerate(states))
    keys = await asyncio.gather(*puts)
    answers = await asyncio.gather(*(client.get(key) for key in keys))
    assert [bytes(answer.state) for answer in answers] == states


async def test_a_small_request_overtakes_a_large_upload(node: FakeNode, client: Client) -> None:
    small = await client.put(code=b"small", state=b"s")
    upload = asyncio.create_task(client.put(code=b"large", state=bytes(20_000_000)))
    await some_of_it_is_queued(client)
    await client.get(small)
    await upload
    assert [type(request) for request in node.requests] == [requests.Put, requests.Get, requests.Put]
    assert client.unsent_bytes == 0


async def test_a_mapping_can_be_put_and_closed_afterwards(node: FakeNode, client: Client) -> None:
    """Nobody may hold on to a view of it, or closing it is an error."""
    mapping = mmap.mmap(-1, 5_000_000)
    mapping[:5] = b"hello"
    key = await client.put(code=b"code", state=mapping)
    mapping.close()
    assert node.states[key.instance][1][:6] == b"hello\0"


async def test_delegates_are_registered_asked_and_removed(client: Client) -> None:
    key = await client.delegates.register(code=b"delegate", cipher=bytes(32), nonce=bytes(24))
    (echo,) = await client.delegates.send(key, [b"hello"])
    assert isinstance(echo, ApplicationMessage)
    assert echo.payload == b"hello"
    await client.delegates.unregister(key)


async def test_the_node_can_be_asked_about_itself(client: Client) -> None:
    key = ContractKey(b"k" * 32, b"c" * 32)
    assert (await client.node.connected_peers()).peers == (("peer", "127.0.0.1:1"),)
    assert (await client.node.subscriptions()).subscriptions == ()
    assert (await client.node.diagnostics(contracts=[key])).contract_states[0][0] == key.instance.hex()
    assert (await client.node.neighbor_hosting()).my_hosted == ()


async def test_the_full_key_is_learned_without_keeping_the_state(client: Client) -> None:
    key = await client.put(code=b"code", state=bytes(2_000_000))
    assert await client.full_key(encode_base58(key.instance)) == key
    assert await client.full_key(key) is key


# ---- the node says no --------------------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "streaming"), WAYS)
async def test_an_unknown_contract_is_an_error_of_its_own(node: FakeNode, encoding: str, streaming: bool) -> None:
    unknown = ContractKey(b"u" * 32, b"c" * 32)
    async with simnode.connect(node.url, encoding=encoding, streaming=streaming) as client:
        with pytest.raises(NotFound) as caught:
            await client.get(unknown)
        assert caught.value.instance == unknown.instance
        with pytest.raises(NotFound):
            await client.subscribe(unknown)
        with pytest.raises(ContractFailed, match="missing contract"):
            await client.update(unknown, state=b"")
        with pytest.raises(NotFound):
            async with client.get_stream(unknown):
                pass


async def test_a_node_that_is_unavailable_fails_the_request_and_not_the_connection(
    node: FakeNode, client: Client
) -> None:
    key = await client.put(code=b"code", state=b"s")
    node.on_request = lambda peer, ticket, request: responses.Err(error_kinds.NodeUnavailable())
    with pytest.raises(NodeUnavailable) as caught:
        await client.get(key)
    assert caught.value.kind == error_kinds.NodeUnavailable()
    node.on_request = lambda peer, ticket, request: None
    assert (await client.get(key)).state == b"s"


async def test_a_subscription_that_is_not_confirmed_is_an_error(node: FakeNode, client: Client) -> None:
    key = await client.put(code=b"code", state=b"s")
    node.on_request = lambda peer, ticket, request: responses.SubscribeResponse(key=key, subscribed=False)
    with pytest.raises(RequestFailed, match="did not subscribe"):
        await client.subscribe(key)


async def test_flatbuffers_cannot_ask_the_node_about_itself(node: FakeNode) -> None:
    async with simnode.connect(node.url, encoding="flatbuffers") as client:
        with pytest.raises(CannotEncode):
            await client.node.connected_peers()
        with pytest.raises(NotFound):
            await client.get(bytes(32))


async def test_a_request_over_64_mib_is_refused_before_it_is_sent(client: Client) -> None:
    with mmap.mmap(-1, 70_000_000) as mapping, pytest.raises(CannotEncode, match="exceeds the maximum"):
        await client.put(code=b"code", state=mapping)


async def test_an_update_needs_something_to_update_with(client: Client) -> None:
    with pytest.raises(ValueError, match="a state or a delta"):
        await client.update(ContractKey(bytes(32), bytes(32)))


# ---- timeouts and late answers -----------------------------------------------------------------


async def test_a_late_answer_is_not_given_to_the_next_request(
    node: FakeNode, client: Client, advance: Callable[[float], None]
) -> None:
    key = await client.put(code=b"code", state=b"new")
    held: list[tuple[Peer, object]] = []
    asked = asyncio.Event()

    def hold(peer: Peer, ticket: object, request: requests.ClientRequest) -> Answer:
        held.append((peer, ticket))
        asked.set()
        return NO_REPLY

    node.on_request = hold
    late = asyncio.create_task(client.get(key, timeout_s=5))
    await asked.wait()
    advance(5.1)
    with pytest.raises(RequestTimeout, match=r"Get of .*no answer within 5 s"):
        await late

    def release(peer: Peer, ticket: object, request: requests.ClientRequest) -> Answer:
        peer, ticket = held.pop()
        peer.answer(ticket, responses.GetResponse(key=key, contract=None, state=Blob(b"old")))
        return None

    node.on_request = release
    assert (await client.get(key)).state == b"new"


async def test_a_large_upload_that_proceeds_does_not_time_out(
    node: FakeNode, client: Client, advance: Callable[[float], None]
) -> None:
    upload = asyncio.create_task(client.put(code=b"code", state=some_bytes(20_000_000), timeout_s=5))
    await some_of_it_is_queued(client)
    unsent, advanced = client.unsent_bytes, 0
    while not upload.done():
        if client.unsent_bytes < unsent:
            unsent, advanced = client.unsent_bytes, advanced + 4
            advance(4)
        await asyncio.sleep(0)
    await upload
    assert advanced > 5


async def test_an_upload_that_stops_in_the_middle_times_out(
    node: FakeNode, client: Client, advance: Callable[[float], None]
) -> None:
    await client.node.connected_peers()
    node.peers[0].stop_reading()
    upload = asyncio.create_task(client.put(code=b"code", state=some_bytes(60_000_000), timeout_s=5))
    unsent = -1
    while unsent != client.unsent_bytes:  # until the kernel takes no more
        unsent = client.unsent_bytes
        for _ in range(50):
            await asyncio.sleep(0)
    advance(5.1)
    with pytest.raises(RequestTimeout, match="Put of"):
        await upload
    node.lose_connections()


async def test_the_late_answer_to_a_cancelled_request_is_dropped_chunk_by_chunk(node: FakeNode, client: Client) -> None:
    key = await client.put(code=b"code", state=b"s", subscribe=True)
    asked = asyncio.Event()
    held: list[tuple[Peer, object]] = []

    def hold(peer: Peer, ticket: object, request: requests.ClientRequest) -> Answer:
        held.append((peer, ticket))
        asked.set()
        return NO_REPLY

    node.on_request = hold
    cancelled = asyncio.create_task(client.get(key))
    await asked.wait()
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    peer, ticket = held.pop()
    peer.answer(ticket, responses.GetResponse(key=key, contract=None, state=Blob(bytes(3_000_000))))
    node.notify(key, Delta(delta=Blob(b"d")))
    # it is behind some chunks, and waiting for a notification alone does not make the client read ahead
    assert (await client.next_notification(timeout_s=30)).key == key


@pytest.mark.parametrize("header", [True, False])
async def test_a_large_answer_that_proceeds_does_not_time_out(
    node: FakeNode, client: Client, advance: Callable[[float], None], header: bool
) -> None:
    """The timeout is for requests for which nothing moves; a slow link is no reason to give up."""
    key = await client.put(code=b"code", state=some_bytes(1_000_000))
    getting, chunks = await asking(node, client, key)
    node.on_request = lambda peer, ticket, request: None
    if header:
        await chunks.send_header()
    for index in range(chunks.total):
        await chunks.send_chunk(index)
        await client.node.connected_peers()  # now the chunk has arrived, too
        advance(4)
    assert (await getting).state == some_bytes(1_000_000)


async def asking(
    node: FakeNode, client: Client, key: ContractKey, *, timeout_s: float = 5
) -> tuple[asyncio.Task[responses.GetResponse], ChunkSender]:
    """A GET that is under way, and the means to answer it chunk by chunk."""
    asked = asyncio.Event()

    def hold(peer: Peer, ticket: object, request: requests.ClientRequest) -> Answer:
        asked.set()
        return NO_REPLY

    node.on_request = hold
    getting = asyncio.create_task(client.get(key, timeout_s=timeout_s))
    await asked.wait()
    response = responses.GetResponse(key=key, contract=None, state=Blob(some_bytes(1_000_000)))
    return getting, ChunkSender(node.peers[0], response)


async def test_an_answer_that_stops_in_the_middle_times_out(
    node: FakeNode, client: Client, advance: Callable[[float], None]
) -> None:
    key = await client.put(code=b"code", state=some_bytes(1_000_000))
    getting, chunks = await asking(node, client, key)
    node.on_request = lambda peer, ticket, request: None
    await chunks.send_header()
    await chunks.send_chunk(0)
    await client.node.connected_peers()
    advance(5.1)
    with pytest.raises(RequestTimeout):
        await getting


@pytest.mark.parametrize("header", [True, False])
async def test_an_answer_may_pause_for_as_long_as_its_request_may_wait(
    node: FakeNode, client: Client, advance: Callable[[float], None], header: bool
) -> None:
    """A node gives its clients 60 s for the next chunk; how patient a client is, it says itself."""
    key = await client.put(code=b"code", state=some_bytes(1_000_000))
    getting, chunks = await asking(node, client, key, timeout_s=300)
    node.on_request = lambda peer, ticket, request: None
    if header:
        await chunks.send_header()
    for index in range(chunks.total):
        await chunks.send_chunk(index)
        await client.node.connected_peers()
        advance(250)
        await client.node.connected_peers()
    assert (await getting).state == some_bytes(1_000_000)


async def test_an_answer_does_not_expire_while_the_client_itself_does_not_read(
    node: FakeNode, client: Client, advance: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_still = asyncio.Event()

    async def stand_still(session: Session) -> None:
        is_still.set()
        await really_stand_still(session)

    really_stand_still = Session._stand_still
    monkeypatch.setattr(Session, "_stand_still", stand_still)
    key = await client.put(code=b"code", state=b"")
    node.on_request = lambda peer, ticket, request: NO_REPLY if isinstance(request, requests.Get) else None
    states = [some_bytes(1_000_000), some_bytes(1_100_000)]
    first, second = (
        ChunkSender(node.peers[0], responses.GetResponse(key=key, contract=None, state=Blob(state))) for state in states
    )
    second.stream_id = 71
    for _ in states:
        await client.send(requests.Get(key=key.instance), timeout_s=5)
    await second.send_chunk(0)
    for index in range(first.total):
        await first.send_chunk(index)
    await is_still.wait()  # an answer lies unread
    for index in range(1, second.total):
        await second.send_chunk(index)
    for _ in range(3):
        advance(50)
        await asyncio.sleep(0)  # timers go off
    for state in states:
        answer = await client.recv(timeout_s=1000)
        assert isinstance(answer, responses.GetResponse)
        assert answer.state == state
