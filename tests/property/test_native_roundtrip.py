from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import bincode_reader, codec_for, schema
from simnode.protocol.codec.base import Encoding
from simnode.protocol.errors import DecodeError
from tests.support.strategies import requests, results, stream_chunks

NATIVE = codec_for(Encoding.NATIVE)


@given(requests())
def test_a_request_comes_back_as_it_was(request):
    assert NATIVE.decode_request(Blob(bytes(NATIVE.encode_request(request)))) == request


@given(results())
def test_a_result_comes_back_as_it_was(result):
    assert NATIVE.decode_result(Blob(bytes(NATIVE.encode_result(result)))) == result


@given(stream_chunks())
def test_a_chunk_is_the_same_in_an_envelope_and_as_a_message(chunk):
    data = Rope([chunk.data])
    ids = {"stream_id": chunk.stream_id, "index": chunk.index, "total": chunk.total}
    assert bytes(NATIVE.encode_request_chunk(**ids, data=data)) == bytes(NATIVE.encode_request(chunk))
    assert bytes(NATIVE.encode_result_chunk(**ids, data=data)) == bytes(NATIVE.encode_result(chunk))


@given(requests(), st.data())
def test_any_prefix_of_a_request_is_refused(request, data):
    encoded = bytes(NATIVE.encode_request(request))
    stop = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(DecodeError):
        NATIVE.decode_request(Blob(encoded[:stop]))


def alterations() -> st.SearchStrategy[list[tuple[float, int]]]:
    """Where to alter a message (as a fraction of its length) and to which byte."""
    places = st.floats(0, 1, exclude_max=True)
    return st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)


def altered(message: bytes, changes: list[tuple[float, int]]) -> Blob:
    changed = bytearray(message)
    for place, byte in changes:
        changed[int(place * len(changed))] = byte
    return Blob(changed)


@given(requests(), alterations())
def test_an_altered_request_is_decoded_or_refused_and_nothing_else(request, changes):
    with suppress(DecodeError):
        NATIVE.decode_request(altered(bytes(NATIVE.encode_request(request)), changes))


@given(results(), alterations())
def test_an_altered_result_is_decoded_or_refused_and_nothing_else(result, changes):
    with suppress(DecodeError):
        NATIVE.decode_result(altered(bytes(NATIVE.encode_result(result)), changes))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_decoded_or_refused_and_nothing_else(message):
    with suppress(DecodeError):
        NATIVE.decode_request(Blob(message))
    with suppress(DecodeError):
        NATIVE.decode_result(Blob(message))


def outcome(decode: Callable[[Blob], object], message: Blob) -> object:
    try:
        return decode(message)
    except DecodeError as error:
        return str(error)


@pytest.fixture(scope="module")
def by_schema():
    """A reader of requests in which nothing is written out by hand."""
    with pytest.MonkeyPatch.context() as context:
        context.setattr(bincode_reader, "BY_HAND", {})
        context.setattr(bincode_reader, "BY_HAND_OVER_FIELDS", {})
        return bincode_reader.reader(schema.CLIENT_REQUEST)


@settings(max_examples=500)
@given(requests(), st.none() | alterations(), st.floats(0, 1))
def test_readers_written_out_by_hand_read_what_the_schema_says(by_schema, request, changes, kept):
    """And refuse the rest in the same words: they reach the client."""
    encoded = bytes(NATIVE.encode_request(request))
    message = Blob(encoded) if changes is None else altered(encoded, changes).slice(0, int(kept * len(encoded)))
    assert outcome(NATIVE.decode_request, message) == outcome(partial(bincode_reader.decode, by_schema), message)
