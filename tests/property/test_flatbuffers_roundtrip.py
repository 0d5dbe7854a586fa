"""Whatever flatbuffers can express comes back as it was, but for what it leaves out or computes anew."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for, schema
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.display import display
from simnode.protocol.codec.flatbuffers_errors import error_from_text, error_text
from simnode.protocol.errors import DecodeError, EncodeError
from simnode.protocol.keys import code_hash, contract_key, delegate_key
from simnode.protocol.messages import delegates, error_kinds
from simnode.protocol.messages.contracts import ContractContainer
from simnode.protocol.messages.requests import ClientRequest, Put, RegisterDelegate, Subscribe
from simnode.protocol.messages.responses import DelegateResponse, Err, GetResponse, HostResult
from tests.support.strategies import requests, results, stream_chunks, values

FLATBUFFERS = codec_for(Encoding.FLATBUFFERS)


def computed(container: ContractContainer) -> ContractContainer:
    """The container with the hash and key that follow from its contents."""
    hashed = code_hash(container.data)
    return replace(container, code_hash=hashed, key=contract_key(hashed, container.params))


def as_decoded(message: ClientRequest | HostResult) -> ClientRequest | HostResult:
    """What is to come out when `message` went in."""
    match message:
        case Put():
            return replace(message, contract=computed(message.contract))
        case GetResponse(contract=ContractContainer() as contract):
            return replace(message, contract=computed(contract))
        case RegisterDelegate(delegate=container):
            hashed = code_hash(container.data)
            key = delegate_key(hashed, container.params)
            return replace(message, delegate=replace(container, code_hash=hashed, key=key))
        case Subscribe():
            return replace(message, summary=message.summary or None)
        case DelegateResponse():
            expressible = (delegates.ApplicationMessage, delegates.RequestUserInput, delegates.ContextUpdated)
            return replace(message, values=tuple(value for value in message.values if isinstance(value, expressible)))
        case Err(kind):
            return Err(error_from_text(error_text(kind)))
    return message


def encoded_request(request: ClientRequest) -> bytes:
    try:
        return bytes(FLATBUFFERS.encode_request(request))
    except EncodeError:
        reject()


def encoded_result(result: HostResult) -> bytes:
    try:
        return bytes(FLATBUFFERS.encode_result(result))
    except EncodeError:
        reject()


@given(requests())
def test_a_request_comes_back_as_it_was(request):
    assert FLATBUFFERS.decode_request(Blob(encoded_request(request))) == as_decoded(request)


@given(results())
def test_a_result_comes_back_as_it_was(result):
    assert FLATBUFFERS.decode_result(Blob(encoded_result(result))) == as_decoded(result)


NOT_READ_BACK = (
    error_kinds.ForbiddenSecretAccess,
    error_kinds.MissingSecret,
    error_kinds.UnknownClient,
)


@given(values(dict(schema.HOST_RESULT.variants)["Err"]))
def test_the_text_of_an_error_survives(error):
    understood = error_from_text(error_text(error.kind))
    if isinstance(error.kind, NOT_READ_BACK):
        assert understood == error_kinds.Unhandled(cause=display(error.kind).removeprefix("client error: "))
    else:
        assert display(understood) == display(error.kind)


@given(stream_chunks())
def test_a_chunk_in_an_envelope_comes_back_as_it_was(chunk):
    ids = {"stream_id": chunk.stream_id, "index": chunk.index, "total": chunk.total}
    request = FLATBUFFERS.encode_request_chunk(**ids, data=Rope([chunk.data]))
    assert FLATBUFFERS.decode_request(Blob(bytes(request))) == chunk
    result = FLATBUFFERS.encode_result_chunk(**ids, data=Rope([chunk.data]))
    assert FLATBUFFERS.decode_result(Blob(bytes(result))) == chunk


def alterations() -> st.SearchStrategy[list[tuple[float, int]]]:
    """Which words to alter (as a fraction of the message's length) and to what: offsets are where it hurts."""
    words = st.one_of(st.integers(0, 64), st.integers(0, 2**32 - 1), st.just(2**32 - 1))
    return st.lists(st.tuples(st.floats(0, 1, exclude_max=True), words), min_size=1, max_size=4)


def altered(message: bytes, changes: list[tuple[float, int]]) -> Blob:
    changed = bytearray(message)
    for place, word in changes:
        at = int(place * len(changed)) & ~1
        changed[at : at + 4] = word.to_bytes(4, "little")[: len(changed) - at]
    return Blob(changed)


@given(requests(), alterations())
def test_an_altered_request_is_decoded_or_refused_and_nothing_else(request, changes):
    message = altered(encoded_request(request), changes)
    with suppress(DecodeError):
        FLATBUFFERS.decode_request(message)


@given(results(), alterations())
def test_an_altered_result_is_decoded_or_refused_and_nothing_else(result, changes):
    message = altered(encoded_result(result), changes)
    with suppress(DecodeError):
        FLATBUFFERS.decode_result(message)


@given(requests(), st.data())
def test_a_request_without_its_second_half_is_refused(request, data):
    message = encoded_request(request)
    stop = data.draw(st.integers(0, len(message) // 2))
    with pytest.raises(DecodeError):
        FLATBUFFERS.decode_request(Blob(message[:stop]))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_decoded_or_refused_and_nothing_else(message):
    with suppress(DecodeError):
        FLATBUFFERS.decode_request(Blob(message))
    with suppress(DecodeError):
        FLATBUFFERS.decode_result(Blob(message))
