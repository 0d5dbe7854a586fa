"""What `streaming=true` changes, and what it does not (protocol.md §2), counted on the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simnode.protocol.blob import Blob
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import CHUNK_SIZE, CHUNK_THRESHOLD, MIB
from simnode.protocol.messages.contracts import Delta, State
from simnode.protocol.messages.requests import Get, StreamChunk, Subscribe, Update
from simnode.protocol.messages.responses import (
    GetResponse,
    GetResponseContent,
    HostResult,
    NotFound,
    PutResponse,
    StreamHeader,
    SubscribeResponse,
    UpdateNotification,
    UpdateResponse,
)
from tests.support.live_node import LiveNode
from tests.support.vectors import counting_bytes
from tests.support.wire import FrameClient, contract, get_of, put_of

NOWHERE = bytes(32)
Unique = Callable[[], bytes]


def stored(node: LiveNode, params: bytes, state: bytes, *, code: bytes = b"code") -> None:
    with FrameClient(node.url) as client:
        request = put_of(state, code=code, params=params)
        client.send(request)
        assert client.answer() == PutResponse(key=request.contract.key)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_without_the_flag_a_large_answer_is_one_message_in_fragments(
    node: LiveNode, unique: Unique, encoding: Encoding
) -> None:
    """One message, as clients without chunks always got it; in fragments, because the Rust client refuses
    frames over 16 MiB."""
    params, state = unique(), counting_bytes(MIB)
    stored(node, params, state)
    with FrameClient(node.url, encoding=encoding) as client:
        client.send(get_of(contract(params=params).key))
        message = client.message()
        assert len(message.data) > MIB
        assert message.fragments[:-1] == (CHUNK_SIZE,) * 4
        assert 0 < message.fragments[-1] < 1024
        result = client.decode(message.data)
        assert isinstance(result, GetResponse)
        assert result.state == state
        assert client.ask(Get(key=NOWHERE)) == NotFound(instance_id=NOWHERE)


@pytest.mark.parametrize("encoding", [Encoding.NATIVE, Encoding.MSGPACK])
def test_with_the_flag_a_header_announces_the_chunks(node: LiveNode, unique: Unique, encoding: Encoding) -> None:
    params, state = unique(), counting_bytes(3 * MIB + 17)
    stored(node, params, state)
    key = contract(params=params).key
    with FrameClient(f"{node.url}?streaming=true", encoding=encoding) as client:
        client.send(get_of(key))
        header = client.result()
        assert isinstance(header, StreamHeader)
        assert header.content == GetResponseContent(key=key, includes_contract=False)
        total = -(-header.total_bytes // CHUNK_SIZE)
        pieces = []
        for index in range(total):
            message = client.message()
            assert len(message.fragments) == 1, "a chunk is one frame"
            chunk = client.decode(message.data)
            assert isinstance(chunk, StreamChunk)
            assert (chunk.stream_id, chunk.index, chunk.total) == (header.stream_id, index, total)
            assert len(chunk.data) == CHUNK_SIZE or index == total - 1
            pieces.append(bytes(chunk.data))
        whole = b"".join(pieces)
        assert len(whole) == header.total_bytes
        answer = client.decode(whole)
        assert isinstance(answer, GetResponse)
        assert answer.state == state


def test_flatbuffers_has_chunks_but_no_header(node: LiveNode, unique: Unique) -> None:
    params, state = unique(), counting_bytes(MIB)
    stored(node, params, state)
    with FrameClient(f"{node.url}?streaming=true", encoding=Encoding.FLATBUFFERS) as client:
        client.send(get_of(contract(params=params).key))
        first = client.result()
        assert isinstance(first, StreamChunk)
        assert first.total == 5


def test_code_of_a_contract_goes_in_the_stream_and_the_header_says_so(node: LiveNode, unique: Unique) -> None:
    params, code, state = unique(), counting_bytes(700_000), b"small"
    stored(node, params, state, code=code)
    container = contract(code, params)
    with FrameClient(f"{node.url}?streaming=true") as client:
        client.send(get_of(container.key, code=True))
        header = client.result()
        assert isinstance(header, StreamHeader)
        assert isinstance(header.content, GetResponseContent)
        assert header.content.includes_contract
        answer = client.answer()
        assert isinstance(answer, GetResponse)
        assert answer.contract == container
        assert answer.state == state


@pytest.mark.parametrize("nbytes", [CHUNK_THRESHOLD - 10_000, CHUNK_THRESHOLD])
def test_threshold_counts_the_serialized_message(node: LiveNode, unique: Unique, nbytes: int) -> None:
    """A state of exactly the threshold is chunked: its envelope makes the message longer."""
    params = unique()
    stored(node, params, counting_bytes(nbytes))
    with FrameClient(f"{node.url}?streaming=true") as client:
        client.send(get_of(contract(params=params).key))
        assert isinstance(client.result(), StreamHeader if nbytes >= CHUNK_THRESHOLD else GetResponse)


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("streaming", [False, True])
def test_chunked_requests_are_put_together_whatever_the_flag(
    node: LiveNode, unique: Unique, encoding: Encoding, streaming: bool
) -> None:
    params, state = unique(), counting_bytes(2 * MIB)
    request = put_of(state, params=params)
    with FrameClient(f"{node.url}?streaming={str(streaming).lower()}", encoding=encoding) as client:
        client.send_chunked(request, stream_id=7)
        assert client.answer() == PutResponse(key=request.contract.key)
        assert client.got(request.contract.key).state == state


def test_chunks_in_any_order_interleaved_with_another_stream_and_with_requests(node: LiveNode, unique: Unique) -> None:
    one, two = put_of(counting_bytes(MIB), params=unique()), put_of(counting_bytes(900_000), params=unique())
    with FrameClient(node.url) as client:
        streams = [client.chunks(one, 4_294_967_295)[::-1], client.chunks(two, 0)]
        for left, right in zip(*streams, strict=False):
            client.send(left)
            client.send(right)
            client.send(Get(key=NOWHERE))
        for rest in (streams[0][len(streams[1]) :], streams[1][len(streams[0]) :]):
            for chunk in rest:
                client.send(chunk)
        answers: list[HostResult] = []
        while len(answers) < 2:
            answer = client.answer()
            if not isinstance(answer, NotFound):
                answers.append(answer)
        assert PutResponse(key=one.contract.key) in answers
        assert PutResponse(key=two.contract.key) in answers
        for request in (one, two):
            assert client.got(request.contract.key).state == request.state


@pytest.mark.parametrize("fragment_bytes", [0, 1 * MIB, 100_003])
@pytest.mark.parametrize("nbytes", [600_000, 5 * MIB])
def test_large_request_in_one_message_is_accepted_however_it_is_framed(
    node: LiveNode, unique: Unique, nbytes: int, fragment_bytes: int
) -> None:
    """As clients sent it before chunks: one frame, or fragments."""
    request = put_of(counting_bytes(nbytes), params=unique())
    with FrameClient(node.url) as client:
        client.send(request, fragment_bytes=fragment_bytes)
        assert client.answer() == PutResponse(key=request.contract.key)
        assert client.got(request.contract.key).state == request.state


@pytest.mark.parametrize("encoding", list(Encoding))
def test_notifications_are_chunked_like_everything_else(node: LiveNode, unique: Unique, encoding: Encoding) -> None:
    params, state = unique(), counting_bytes(MIB)
    key = contract(params=params).key
    stored(node, params, b"old")
    with FrameClient(f"{node.url}?streaming=true", encoding=encoding) as client:
        assert isinstance(client.ask(Subscribe(key=key.instance)), SubscribeResponse)
        with FrameClient(node.url) as other:
            assert isinstance(other.ask(Update(key=key, data=State(state=Blob(state)))), UpdateResponse)
        first = client.chunk()  # a notification has no header
        assert (first.index, first.total) == (0, 5)
        pieces = [bytes(first.data)] + [bytes(client.chunk().data) for _ in range(first.total - 1)]
        assert client.decode(b"".join(pieces)) == UpdateNotification(key=key, update=State(state=Blob(state)))


def test_large_delta_reaches_a_subscriber_with_a_summary_as_a_delta(node: LiveNode, unique: Unique) -> None:
    params, delta = unique(), counting_bytes(700_000)
    key = contract(params=params).key
    stored(node, params, b"old")
    with FrameClient(f"{node.url}?streaming=true") as client:
        client.ask(Subscribe(key=key.instance, summary=Blob(b"anything")))
        with FrameClient(node.url) as other:
            other.ask(Update(key=key, data=Delta(delta=Blob(delta))))
        assert client.answer() == UpdateNotification(key=key, update=Delta(delta=Blob(delta)))


def test_small_answer_does_not_wait_for_the_end_of_a_chunked_one(node: LiveNode, unique: Unique) -> None:
    """Asked for when the stream had begun, it arrives before the stream ends."""
    params = unique()
    stored(node, params, bytes(40 * MIB))
    with FrameClient(f"{node.url}?streaming=true", receive_buffer_bytes=64 * 1024) as client:
        client.send(get_of(contract(params=params).key))
        header = client.result()
        assert isinstance(header, StreamHeader)
        assert isinstance(client.result(), StreamChunk)
        client.send(Get(key=NOWHERE))
        chunks = 0
        while isinstance(answer := client.result(), StreamChunk):
            chunks += 1
        assert answer == NotFound(instance_id=NOWHERE)
        # what the kernels hold, 1 MiB here and little there, is out of the node's hands
        assert chunks < 20
        rest = [client.result() for _ in range(-(-header.total_bytes // CHUNK_SIZE) - chunks - 1)]
        assert all(isinstance(piece, StreamChunk) for piece in rest)


def test_two_large_answers_share_the_connection_in_turn(node: LiveNode, unique: Unique) -> None:
    keys = []
    for _ in range(2):
        params = unique()
        stored(node, params, bytes(4 * MIB))
        keys.append(contract(params=params).key)
    with FrameClient(f"{node.url}?streaming=true") as client:
        for key in keys:
            client.send(get_of(key))
        ends, order = 0, []
        while ends < 2:
            piece = client.result()
            if isinstance(piece, StreamChunk):
                order.append(piece.stream_id)
                ends += piece.index == piece.total - 1
        first_end = len(order) - order[::-1].index(order[0])
        assert order[:first_end].count(order[0]) == 17
        assert len(set(order[: first_end - 1])) == 2, "the second began before the first ended"


def test_fifty_mebibytes_go_in_and_out(node: LiveNode, unique: Unique) -> None:
    params, state = unique(), counting_bytes(50 * MIB)
    stored(node, params, state)
    key = contract(params=params).key
    for url in (node.url, f"{node.url}?streaming=true"):
        with FrameClient(url) as client:
            assert client.got(key).state == state


def test_stream_ids_of_a_connection_count_up_from_zero(node: LiveNode, unique: Unique) -> None:
    params = unique()
    stored(node, params, bytes(MIB))
    with FrameClient(f"{node.url}?streaming=true") as client:
        ids = []
        for _ in range(3):
            client.send(get_of(contract(params=params).key))
            header = client.result()
            assert isinstance(header, StreamHeader)
            ids.append(header.stream_id)
            client.answer()
        assert ids == [0, 1, 2]


def test_no_data_follows_the_answer_to_a_close_frame(node: LiveNode, unique: Unique) -> None:
    """RFC 6455 §5.5.1; a client that leaves in the middle of 40 MiB must not be sent the rest."""
    params = unique()
    stored(node, params, bytes(40 * MIB))
    with FrameClient(f"{node.url}?streaming=true", receive_buffer_bytes=64 * 1024) as client:
        client.send(get_of(contract(params=params).key))
        assert isinstance(client.result(), StreamHeader)
        client.send_close()
        assert client.closed().code == 1000
        assert client.received_bytes < 10 * MIB
        assert client.bytes_after_close == 0
