"""The public client at its low level, as a stream, and without asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

import simnode
from simnode.client import (
    Client,
    ClientClosed,
    ConnectionFailed,
    NotFound,
    NotificationsDropped,
    RequestTimeout,
    connect_sync,
)
from simnode.client.replies import Replies
from simnode.client.session import READ_AHEAD_BYTES
from simnode.protocol.blob import Blob
from simnode.protocol.messages import error_kinds, requests, responses
from simnode.protocol.messages.contracts import ContractKey, Delta, State
from simnode.protocol.messages.delegates import ApplicationMessage, DelegateKey
from tests.support.fake_node import ChunkSender, FakeNode

STATE = bytes(range(250)) * 40_000


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    async with FakeNode() as node:
        yield node


@pytest.fixture
async def client(node: FakeNode) -> AsyncIterator[Client]:
    async with simnode.connect(node.url) as client:
        yield client


@pytest.fixture
async def key(client: Client) -> ContractKey:
    return await client.put(code=b"code", state=STATE)


# ---- send and recv -----------------------------------------------------------------------------


async def test_answers_to_send_come_from_recv_in_order(client: Client, key: ContractKey) -> None:
    for instance in (bytes(32), key.instance, bytes(32)):
        await client.send(requests.Get(key=instance))
        answer = await client.recv()
        if instance == key.instance:
            assert isinstance(answer, responses.GetResponse)
            assert answer.state == STATE
        else:
            assert answer == responses.NotFound(instance_id=instance)


async def test_an_error_in_answer_to_send_is_given_and_not_raised(client: Client) -> None:
    unknown = ContractKey(bytes(32), bytes(32))
    await client.send(requests.Update(key=unknown, data=State(state=Blob())))
    answer = await client.recv()
    assert isinstance(answer, responses.Err)
    assert isinstance(answer.kind, error_kinds.UpdateError)


async def test_answers_to_send_and_to_get_are_not_mixed_up(client: Client, key: ContractKey) -> None:
    await client.send(requests.Get(key=key.instance))
    await client.update(key, state=b"new")
    assert (await client.get(key)).state == b"new"
    got = await client.recv()
    assert isinstance(got, responses.GetResponse)
    assert got.state == STATE


async def test_recv_gives_notifications_too(client: Client, key: ContractKey) -> None:
    await client.subscribe(key)
    await client.update(key, state=b"new")
    assert await client.recv() == responses.UpdateNotification(key=key, update=State(state=Blob(b"new")))


async def test_recv_says_when_notifications_were_dropped(node: FakeNode) -> None:
    async with simnode.connect(node.url, notification_buffer_bytes=1000) as client:
        keys = [await client.put(code=b"code", params=name, state=b"", subscribe=True) for name in (b"1", b"2")]
        for key in keys:
            await client.update(key, state=bytes(900))
        with pytest.raises(NotificationsDropped) as caught:
            await client.recv()
        assert caught.value.instance == keys[0].instance
        assert isinstance(await client.recv(), responses.UpdateNotification)


async def test_recv_gives_what_nobody_asked_for(node: FakeNode, client: Client) -> None:
    await client.node.connected_peers()
    result = responses.DelegateResponse(key=DelegateKey(b"d" * 32, b"c" * 32), values=())
    node.peers[0].core.send_unsolicited(result)
    node.peers[0].due.set()
    assert await client.recv() == result


async def test_recv_waits_no_longer_than_it_is_told(client: Client) -> None:
    with pytest.raises(RequestTimeout, match=r"recv: no answer within 0\.001 s"):
        await client.recv(timeout_s=0.001)
    with pytest.raises(RequestTimeout):
        await client.recv_stream(timeout_s=0.001)
    with pytest.raises(RequestTimeout):
        await client.next_notification(timeout_s=0.001)


@pytest.mark.parametrize("encoding", ["native", "msgpack"])
async def test_recv_stream_hands_out_the_serialized_response(node: FakeNode, encoding: str) -> None:
    async with simnode.connect(node.url, encoding=encoding) as client:
        key = await client.put(code=b"code", state=STATE)
        await client.send(requests.Get(key=key.instance))
        stream = await client.recv_stream()
        assert stream.key == key
        assert stream.total_bytes > len(STATE)
        message = b"".join([bytes(chunk) async for chunk in stream])
        assert len(message) == stream.total_bytes == stream.received_bytes
        result = node.peers[0].core.codec.decode_result(Blob(message))
        assert isinstance(result, responses.GetResponse)
        assert result.state == STATE


# ---- pace --------------------------------------------------------------------------------------


async def test_a_stream_holds_one_chunk_while_its_reader_dawdles(client: Client, key: ContractKey) -> None:
    await client.send(requests.Get(key=key.instance))
    stream = await client.recv_stream()
    async for _ in stream:
        for _ in range(20):
            await asyncio.sleep(0)
            assert stream.unread_bytes <= READ_AHEAD_BYTES
    assert stream.received_bytes == stream.total_bytes


async def test_asking_from_inside_a_stream_is_no_deadlock(client: Client, key: ContractKey) -> None:
    small = await client.put(code=b"small", state=b"s")
    pieces = []
    async with client.get_stream(key) as stream:
        async for piece in stream:
            pieces.append(bytes(piece))
            assert (await client.get(small)).state == b"s"
            assert (await client.get(key)).state == STATE
    assert b"".join(pieces) == STATE


async def test_two_streams_can_be_read_in_turns(client: Client, key: ContractKey) -> None:
    other = await client.put(code=b"other", state=STATE[::-1])
    async with client.get_stream(key) as one, client.get_stream(other) as two:
        ones: list[bytes] = []
        twos: list[bytes] = []
        reading = [(aiter(one), ones), (aiter(two), twos)]
        while reading:
            for pair in list(reading):
                piece = await anext(pair[0], None)
                if piece is None:
                    reading.remove(pair)
                else:
                    pair[1].append(bytes(piece))
    assert b"".join(ones) == STATE
    assert b"".join(twos) == STATE[::-1]


async def test_a_stream_that_is_left_early_leaves_the_connection_usable(client: Client, key: ContractKey) -> None:
    async with client.get_stream(key) as stream:
        async for _ in stream:
            break
    assert (await client.get(key)).state == STATE


async def test_a_state_that_comes_with_its_code_is_still_streamed(
    node: FakeNode, client: Client, key: ContractKey
) -> None:
    """A node may send what nobody asked for; then the state begins elsewhere in the message."""
    container, _ = node.states[key.instance]
    node.on_request = lambda peer, ticket, request: responses.GetResponse(
        key=key, contract=container, state=Blob(STATE)
    )
    async with client.get_stream(key) as stream:
        assert stream.total_bytes == len(STATE)
        assert b"".join([bytes(piece) async for piece in stream]) == STATE


async def test_a_state_in_another_place_than_expected_is_still_found(
    node: FakeNode, client: Client, key: ContractKey
) -> None:
    """A header that does not tell of the code before the state."""
    container, _ = node.states[key.instance]
    sender = ChunkSender(node.peers[0], responses.GetResponse(key=key, contract=container, state=Blob(STATE)))
    node.on_request = lambda peer, ticket, request: sender.start()
    async with client.get_stream(key) as stream:
        assert stream.total_bytes == len(STATE)
        assert b"".join([bytes(piece) async for piece in stream]) == STATE


async def test_waiting_in_recv_reads_past_a_stream_that_nobody_reads(client: Client, key: ContractKey) -> None:
    await client.send(requests.Get(key=key.instance))
    stream = await client.recv_stream()
    await client.send(requests.Get(key=bytes(32)))
    assert await client.recv(timeout_s=30) == responses.NotFound(instance_id=bytes(32))
    assert len(b"".join([bytes(chunk) async for chunk in stream])) == stream.total_bytes


async def test_a_stream_that_nobody_got_does_not_stop_the_reader(
    node: FakeNode, client: Client, key: ContractKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader was cancelled in the very moment it was handed over."""
    small = await client.put(code=b"small", state=b"s", subscribe=True)

    async def read() -> None:
        async with client.get_stream(key):
            pytest.fail("was cancelled before")

    def open_and_cancel(self: Replies, header: responses.StreamHeader, now: float) -> None:
        open_stream(self, header, now)
        reading.cancel()

    open_stream = Replies._open_stream
    monkeypatch.setattr(Replies, "_open_stream", open_and_cancel)
    reading = asyncio.create_task(read())
    with pytest.raises(asyncio.CancelledError):
        await reading
    node.notify(small, Delta(delta=Blob(b"d")))
    assert (await client.next_notification(timeout_s=30)).key == small


async def test_unread_answers_stop_the_reader_and_asking_starts_it_again(client: Client, key: ContractKey) -> None:
    for _ in range(3):
        await client.send(requests.Get(key=key.instance))
    assert (await client.get(key)).state == STATE
    for _ in range(3):
        got = await client.recv()
        assert isinstance(got, responses.GetResponse)
        assert got.state == STATE


# ---- without asyncio ---------------------------------------------------------------------------


async def test_the_synchronous_client_does_the_same(node: FakeNode) -> None:
    def use() -> None:
        with connect_sync(node.url) as client:
            key = client.put(code=b"code", state=STATE, subscribe=True)
            assert client.get(key).state == STATE
            with client.get_stream(key) as stream:
                assert (stream.key, stream.total_bytes) == (key, len(STATE))
                assert b"".join(bytes(piece) for piece in stream) == STATE
            with pytest.raises(NotFound):
                client.get(bytes(32))
            client.update(key, delta=b"1")
            client.update(key, delta=b"2")
            notes = client.notifications()
            assert next(notes).update == State(state=Blob(STATE + b"1"))
            assert client.next_notification(timeout_s=60).update == State(state=Blob(STATE + b"12"))
            client.send(requests.Get(key=key.instance))
            raw = client.recv_stream(timeout_s=60)
            assert raw.key == key
            assert sum(len(chunk) for chunk in raw) == raw.total_bytes == raw.received_bytes
            client.send(requests.Get(key=key.instance))
            collected = client.recv_stream().collect()
            assert isinstance(collected, responses.GetResponse)
            client.send(requests.Get(key=key.instance))
            client.recv_stream().close()
            client.send(requests.Get(key=bytes(32)))
            assert isinstance(client.recv(), responses.NotFound)
            delegate = client.delegates.register(code=b"d", cipher=bytes(32), nonce=bytes(24))
            (echo,) = client.delegates.send(delegate, [b"hello"])
            assert isinstance(echo, ApplicationMessage)
            client.delegates.unregister(delegate)
            assert client.node.connected_peers().peers
            assert client.full_key(key.instance) == key
            assert client.unsent_bytes == 0
            client.disconnect("done")
        with pytest.raises(ClientClosed):
            client.get(bytes(32))
        with pytest.raises(ClientClosed):
            next(client.notifications())

    await asyncio.to_thread(use)


async def test_a_synchronous_client_that_cannot_connect_leaves_no_thread(node: FakeNode) -> None:
    def use() -> None:
        before = threading.active_count()
        with pytest.raises(ConnectionFailed):
            connect_sync("ws://127.0.0.1:1").open()
        assert threading.active_count() == before

    await asyncio.to_thread(use)
