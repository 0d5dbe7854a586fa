"""Bad input: each gets the error that protocol.md names, in the connection's encoding; the connection lives on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from simnode.protocol.blob import Blob
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import CHUNK_SIZE, MAX_STATE_SIZE, MIB
from simnode.protocol.messages.contracts import ContractContainer, ContractKey, Delta, RelatedState, State
from simnode.protocol.messages.error_kinds import (
    DeserializationError,
    MissingContract,
    PutError,
    Unhandled,
    UpdateError,
)
from simnode.protocol.messages.requests import Get, Put, StreamChunk, Subscribe, Update
from simnode.protocol.messages.responses import Err, GetResponse, NotFound, PutResponse, UpdateResponse
from tests.integration.conftest import MAX_MESSAGE_BYTES
from tests.support.live_node import LiveNode, wait_until
from tests.support.vectors import counting_bytes, load_json
from tests.support.wire import FrameClient, chunks_of, contract, get_of, put_of

NOWHERE = bytes(32)
Unique = Callable[[], bytes]

WRONG_CHUNKS = [case for case in load_json("behaviour.json")["reassembly"] if "error" in case["last"]]


def still_serves(client: FrameClient) -> bool:
    return client.ask(Get(key=NOWHERE)) == NotFound(instance_id=NOWHERE)


def text_of(answer: object) -> str:
    assert isinstance(answer, Err), answer
    return repr(answer.kind)


# ---- undecodable ---------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("message", [b"", b"\x00", b"\xff" * 40, bytes(range(256)) * 100, b"x" * 2 * MIB])
def test_undecodable_message_is_answered_and_the_connection_survives(
    node: LiveNode, encoding: Encoding, message: bytes
) -> None:
    with FrameClient(node.url, encoding=encoding) as client:
        client.send(message)
        answer = client.answer()
        assert isinstance(answer, Err)
        assert isinstance(answer.kind, DeserializationError)
        assert still_serves(client)


def test_undecodable_message_that_came_in_chunks_is_answered(node: LiveNode) -> None:
    with FrameClient(node.url) as client:
        for chunk in chunks_of(b"\xff" * 3 * CHUNK_SIZE, stream_id=0):
            client.send(chunk)
        answer = client.answer()
        assert isinstance(answer, Err)
        assert isinstance(answer.kind, DeserializationError)
        assert still_serves(client)


# ---- wrong chunks --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", WRONG_CHUNKS, ids=lambda case: case["name"])
def test_wrong_chunk_is_answered_with_the_references_bytes(node: LiveNode, case: dict[str, Any]) -> None:
    with FrameClient(node.url) as client:
        for stream_id, index, total, data in case["chunks"]:
            client.send(StreamChunk(stream_id=stream_id, index=index, total=total, data=Blob(bytes.fromhex(data))))
        assert client.message().data == bytes.fromhex(case["last"]["server_reply_hex"])
        assert still_serves(client)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_wrong_chunk_is_answered_in_the_connections_encoding(node: LiveNode, encoding: Encoding) -> None:
    with FrameClient(node.url, encoding=encoding) as client:
        answer = client.ask(StreamChunk(stream_id=1, index=0, total=0, data=Blob(b"x")))
        assert "stream reassembly error: total_chunks is zero" in text_of(answer)
        assert still_serves(client)


def test_stream_survives_a_duplicate_a_wrong_index_and_a_ninth_stream(node: LiveNode, unique: Unique) -> None:
    request = put_of(counting_bytes(MIB), params=unique())
    with FrameClient(node.url) as client:
        first, *rest = client.chunks(request, 100)
        client.send(first)
        for stream_id in range(7):
            client.send(StreamChunk(stream_id=stream_id, index=0, total=2, data=Blob(b"x")))
        assert "too many concurrent streams" in text_of(
            client.ask(StreamChunk(stream_id=8, index=0, total=2, data=Blob(b"x")))
        )
        assert "duplicate chunk index 0" in text_of(client.ask(first))
        wrong = StreamChunk(stream_id=100, index=first.total, total=first.total, data=Blob(b"x"))
        assert "out of range" in text_of(client.ask(wrong))
        for chunk in rest:
            client.send(chunk)
        assert client.answer() == PutResponse(key=request.contract.key)


def test_another_total_kills_the_stream_and_its_late_chunks_are_dropped_silently(
    node: LiveNode, unique: Unique
) -> None:
    request = put_of(counting_bytes(MIB), params=unique())
    with FrameClient(node.url) as client:
        first, *rest = client.chunks(request, 5)
        client.send(first)
        wrong = StreamChunk(stream_id=5, index=1, total=first.total + 1, data=Blob(b"x"))
        assert "total_chunks mismatch" in text_of(client.ask(wrong))
        for chunk in rest:
            client.send(chunk)
        assert still_serves(client)


def test_chunk_inside_a_chunk_is_refused(node: LiveNode) -> None:
    inner = StreamChunk(stream_id=1, index=0, total=1, data=Blob(b"x"))
    with FrameClient(node.url) as client:
        outer = StreamChunk(stream_id=2, index=0, total=1, data=Blob(client.encode(inner)))
        assert "is itself a StreamChunk" in text_of(client.ask(outer))
        assert still_serves(client)


def test_chunk_of_over_a_mebibyte_is_refused(node: LiveNode) -> None:
    with FrameClient(node.url) as client:
        chunk = StreamChunk(stream_id=1, index=0, total=2, data=Blob(bytes(MIB + 1)))
        assert "exceeds maximum" in text_of(client.ask(chunk))
        assert still_serves(client)


def test_idle_stream_expires_and_the_client_is_told(strict_url: str) -> None:
    with FrameClient(strict_url) as client:
        client.send(StreamChunk(stream_id=3, index=0, total=2, data=Blob(b"x")))
        assert "stream 3 expired: 1 of 2 chunks" in text_of(client.answer())
        client.send(StreamChunk(stream_id=3, index=1, total=2, data=Blob(b"x")))
        assert still_serves(client)


# ---- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fragment_bytes", [0, MIB])
def test_message_over_the_limit_closes_with_1009(strict_url: str, fragment_bytes: int) -> None:
    """The close frame arrives although the client is still sending: the rest is read and thrown away."""
    with FrameClient(strict_url) as client:
        client.send(bytes(2 * MAX_MESSAGE_BYTES), fragment_bytes=fragment_bytes)
        assert client.closed().code == 1009


def test_message_of_a_hundred_mebibytes_is_read_and_its_state_refused(node: LiveNode) -> None:
    request = put_of(bytes(99 * MIB))
    with FrameClient(node.url) as client:
        answer = client.ask(request)
        assert isinstance(answer, Err)
        assert isinstance(answer.kind, PutError)
        assert still_serves(client)


def test_state_of_over_fifty_mebibytes_is_refused(node: LiveNode, unique: Unique) -> None:
    request = put_of(bytes(MAX_STATE_SIZE + 1), params=unique())
    with FrameClient(node.url) as client:
        answer = client.ask(request)
        assert isinstance(answer, Err)
        assert isinstance(answer.kind, PutError)
        assert answer.kind.key == request.contract.key
        assert str(MAX_STATE_SIZE) in answer.kind.cause
        assert isinstance(client.ask(get_of(request.contract.key)), NotFound)


def test_delta_that_would_make_the_state_too_large_is_refused_and_the_state_stays(
    node: LiveNode, unique: Unique
) -> None:
    request = put_of(bytes(MAX_STATE_SIZE - 10), params=unique())
    key = request.contract.key
    with FrameClient(node.url) as client:
        assert client.ask(request) == PutResponse(key=key)
        assert isinstance(client.ask(Update(key=key, data=Delta(delta=Blob(bytes(11))))), Err)
        assert isinstance(client.ask(Update(key=key, data=Delta(delta=Blob(bytes(10))))), UpdateResponse)
        answer = client.ask(get_of(key))
        assert isinstance(answer, GetResponse)
        assert len(answer.state) == MAX_STATE_SIZE


def test_code_of_over_fifty_mebibytes_is_refused(node: LiveNode) -> None:
    request = put_of(b"state", code=bytes(MAX_STATE_SIZE + 1))
    with FrameClient(node.url) as client:
        assert "code of" in text_of(client.ask(request))
        assert still_serves(client)


def test_stream_that_the_node_has_no_room_for_is_refused_and_the_connection_lives(strict_url: str) -> None:
    """24 MiB for the whole node; each stream of 32 chunks wants 8 MiB before its first byte is kept.

    The slowest of the streams that are there is given up as well, so that the next one finds room.
    """
    with FrameClient(strict_url) as client:
        for stream_id in range(4):
            client.send(StreamChunk(stream_id=stream_id, index=0, total=32, data=Blob(b"x")))
        told = text_of(client.answer()) + text_of(client.answer())
        assert "no room" in told
        assert "this is the slowest" in told
        assert still_serves(client)


def test_large_frame_that_the_node_has_no_room_for_is_read_and_refused(strict_url: str) -> None:
    with FrameClient(strict_url) as holder, FrameClient(strict_url) as client:
        for stream_id in range(3):
            holder.send(StreamChunk(stream_id=stream_id, index=0, total=31, data=Blob(b"x")))
        assert still_serves(holder)
        client.send(put_of(bytes(4 * MIB)))
        assert "no room" in text_of(client.answer())
        assert still_serves(client)


def test_store_that_is_full_refuses_and_keeps_what_it_has(
    strict_node: LiveNode, strict_url: str, unique: Unique
) -> None:
    """32 MiB at rest; whatever was leased for a refused write goes back."""
    with FrameClient(strict_url) as client:
        stored = [put_of(counting_bytes(5 * MIB), params=unique())]
        while client.ask(stored[-1]) == PutResponse(key=stored[-1].contract.key):
            assert len(stored) < 8
            stored.append(put_of(counting_bytes(5 * MIB), params=unique()))
        refused = stored.pop()
        key = stored[0].contract.key
        # a delta and a code of their own are copied, where a state stays in the segment that it came in
        grown = client.ask(Update(key=key, data=Delta(delta=Blob(bytes(2 * MIB)))))
        assert isinstance(grown, Err)
        assert isinstance(grown.kind, UpdateError)
        assert isinstance(client.ask(put_of(b"x", code=counting_bytes(5 * MIB))), Err)
        assert isinstance(client.ask(refused), Err)
        wait_until("nothing is in flight", lambda: strict_node.metric("simnode_reserved_bytes") == 0, timeout_s=5)
        for request in stored:
            assert client.ask(get_of(request.contract.key)) == GetResponse(
                key=request.contract.key, contract=None, state=request.state
            )
        small = put_of(b"small", params=unique())
        assert client.ask(small) == PutResponse(key=small.contract.key)
        # and what is given up makes room again
        for request in stored:
            client.ask(Update(key=request.contract.key, data=State(state=Blob(b""))))
        assert client.ask(refused) == PutResponse(key=refused.contract.key)


def test_answer_of_over_sixty_four_mebibytes_is_an_error_that_names_the_sizes(node: LiveNode, unique: Unique) -> None:
    code, params = counting_bytes(40 * MIB), unique()
    request = put_of(counting_bytes(40 * MIB), code=code, params=params)
    with FrameClient(node.url) as client:
        assert client.ask(request) == PutResponse(key=request.contract.key)
        assert "exceeds the maximum of 67108864 bytes" in text_of(client.ask(get_of(request.contract.key, code=True)))
        assert client.got(request.contract.key).state == request.state


# ---- contracts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [10, 700_000])
def test_put_under_a_key_that_code_and_parameters_do_not_give_is_refused(
    node: LiveNode, unique: Unique, nbytes: int
) -> None:
    """Else one client could write another's contract."""
    victim = put_of(b"mine", params=unique())
    with FrameClient(node.url) as client:
        client.ask(victim)
        forged = ContractContainer(
            data=Blob(bytes(nbytes)),
            code_hash=victim.contract.code_hash,
            params=victim.contract.params,
            key=victim.contract.key,
        )
        answer = client.ask(Put(contract=forged, state=Blob(b"yours")))
        assert isinstance(answer, Err)
        assert isinstance(answer.kind, PutError)
        assert client.got(victim.contract.key).state == b"mine"


def test_put_with_a_wrong_code_hash_is_refused(node: LiveNode, unique: Unique) -> None:
    right = contract(params=unique())
    wrong = ContractContainer(data=right.data, code_hash=bytes(32), params=right.params, key=right.key)
    with FrameClient(node.url) as client:
        assert isinstance(client.ask(Put(contract=wrong, state=Blob(b"x"))), Err)
        assert isinstance(client.ask(get_of(right.key)), NotFound)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_unknown_contract_gets_the_error_of_its_request(node: LiveNode, unique: Unique, encoding: Encoding) -> None:
    key = contract(params=unique()).key
    with FrameClient(node.url, encoding=encoding) as client:
        assert client.ask(get_of(key)) == NotFound(instance_id=key.instance)
        assert client.ask(get_of(key, subscribe=True)) == NotFound(instance_id=key.instance)
        missing = client.ask(Subscribe(key=key.instance))
        update = client.ask(Update(key=key, data=State(state=Blob(b"x"))))
        assert isinstance(missing, Err)
        assert isinstance(update, Err)
        if encoding is not Encoding.FLATBUFFERS:
            assert missing.kind == MissingContract(key=key.instance)
            assert isinstance(update.kind, UpdateError)
        assert still_serves(client)


def test_related_updates_are_refused(node: LiveNode, unique: Unique) -> None:
    request = put_of(b"x", params=unique())
    key = request.contract.key
    with FrameClient(node.url) as client:
        client.ask(request)
        answer = client.ask(Update(key=key, data=RelatedState(related_to=NOWHERE, state=Blob(b"y"))))
        assert isinstance(answer, Err)
        assert isinstance(answer.kind, UpdateError)
        assert answer.kind.key == key


def test_update_under_another_code_hash_is_refused(node: LiveNode, unique: Unique) -> None:
    request = put_of(b"x", params=unique())
    key = ContractKey(request.contract.key.instance, bytes(32))
    with FrameClient(node.url) as client:
        client.ask(request)
        answer = client.ask(Update(key=key, data=State(state=Blob(b"y"))))
        assert isinstance(answer, Err)
        assert isinstance(answer.kind, UpdateError)


def test_nobody_else_notices_what_one_client_does_wrong(node: LiveNode, unique: Unique) -> None:
    request = put_of(counting_bytes(100_000), params=unique())
    with FrameClient(node.url) as bystander:
        first, second = bystander.chunks(put_of(counting_bytes(400_000), params=unique()), 0)
        bystander.ask(request)
        bystander.send(first)
        for bad in (b"\xff" * 9, b"", b"\x06" + b"\0" * 23):
            with FrameClient(node.url) as client:
                client.send(bad)
                client.answer()
                client.sock.sendall(b"\x83\x80\0\0\0\0")
                assert client.closed().code == 1002
        bystander.send(second)
        assert isinstance(bystander.answer(), PutResponse)
        assert bystander.got(request.contract.key).state == request.state


def test_unhandled_is_what_a_reassembly_error_is(node: LiveNode) -> None:
    with FrameClient(node.url) as client:
        answer = client.ask(StreamChunk(stream_id=1, index=9, total=2, data=Blob(b"x")))
        assert isinstance(answer, Err)
        assert isinstance(answer.kind, Unhandled)
