import struct

import pytest
from blake3 import blake3

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.source import MAX_ITEMS
from simnode.protocol.errors import DecodeError, EncodeError
from simnode.protocol.limits import CHUNK_SIZE, MIB
from simnode.protocol.messages import error_kinds, requests, responses
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from tests.support.vectors import Vector, counting_bytes, load_json, load_vectors, message_from_fields

NATIVE = codec_for(Encoding.NATIVE)
REQUESTS = load_vectors("native", "request")
RESULTS = load_vectors("native", "response")
BEHAVIOUR = load_json("behaviour.json")
NEGATIVE = [vector for vector in BEHAVIOUR["negative"] if vector["encoding"] == "native"]
KEY = ContractKey(b"i" * 32, b"c" * 32)


@pytest.mark.parametrize("vector", REQUESTS, ids=str)
def test_a_golden_request_is_decoded_and_encoded_byte_for_byte(vector):
    assert NATIVE.decode_request(Blob(vector.bytes)) == vector.message
    assert bytes(NATIVE.encode_request(vector.message)) == vector.bytes


@pytest.mark.parametrize("vector", RESULTS, ids=str)
def test_a_golden_result_is_decoded_and_encoded_byte_for_byte(vector):
    assert NATIVE.decode_result(Blob(vector.bytes)) == vector.message
    assert bytes(NATIVE.encode_result(vector.message)) == vector.bytes


@pytest.mark.parametrize("vector", REQUESTS, ids=str)
def test_every_truncation_of_a_golden_request_is_refused(vector):
    for stop in range(len(vector.bytes)):
        with pytest.raises(DecodeError):
            NATIVE.decode_request(Blob(vector.bytes[:stop]))


@pytest.mark.parametrize("vector", NEGATIVE, ids=lambda vector: vector["name"])
def test_a_bad_request_is_refused_in_the_references_words(vector):
    message = Blob(bytes.fromhex(vector["hex"]))
    if vector["accepted"]:
        assert NATIVE.decode_request(message) == message_from_fields(vector["fields"], "request")
        return
    with pytest.raises(DecodeError) as refused:
        NATIVE.decode_request(message)
    assert str(refused.value) == vector["error"]
    reply = responses.Err(error_kinds.DeserializationError(cause=str(refused.value)))
    assert bytes(NATIVE.encode_result(reply)).hex() == vector["server_reply_hex"]


@pytest.mark.parametrize(
    "vector",
    [vector for vector in BEHAVIOUR["reassembly"] if "server_reply_hex" in str(vector["last"])],
    ids=lambda vector: vector["name"],
)
def test_a_reassembly_error_is_answered_in_the_references_bytes(vector):
    reply = error_kinds.Unhandled(cause=f"stream reassembly error: {vector['last']['error']}")
    assert bytes(NATIVE.encode_result(responses.Err(reply))).hex() == vector["last"]["server_reply_hex"]


@pytest.mark.parametrize("vector", BEHAVIOUR["chunking"], ids=lambda vector: str(vector["payload_len"]))
def test_a_chunked_payload_is_framed_as_in_the_reference(vector):
    payload = Rope([counting_bytes(vector["payload_len"])])
    for encode, side in ((NATIVE.encode_request_chunk, "request"), (NATIVE.encode_result_chunk, "response")):
        messages = [
            bytes(encode(stream_id=vector["stream_id"], index=index, total=vector["chunks"], data=piece))
            for index, piece in enumerate(payload.cut(CHUNK_SIZE))
        ]
        prefix = bytes.fromhex(vector[f"{side}_first_frame_prefix_hex"])
        assert len(messages) == vector["chunks"]
        assert messages[0].startswith(prefix)
        assert blake3(b"".join(messages)).hexdigest() == vector[f"{side}_frames_concat_blake3"]


@pytest.mark.parametrize("side", ["request", "result"])
def test_a_chunk_envelope_is_the_message_it_stands_for_without_a_copy(side):
    first, second = b"a" * 5000, memoryview(b"b" * 3000)
    chunk = requests.StreamChunk(stream_id=7, index=1, total=9, data=Blob(first + bytes(second)))
    envelope = getattr(NATIVE, f"encode_{side}_chunk")(stream_id=7, index=1, total=9, data=Rope([first, second]))
    assert bytes(envelope) == bytes(getattr(NATIVE, f"encode_{side}")(chunk))
    assert envelope.parts[1] is first
    assert envelope.parts[2] is second
    assert getattr(NATIVE, f"decode_{side}")(Blob(bytes(envelope))) == chunk


def test_a_large_state_is_encoded_as_a_header_and_a_view_of_it():
    state = Blob(bytes(50 * MIB))
    rope = NATIVE.encode_result(responses.GetResponse(key=KEY, contract=None, state=state))
    assert [len(part) for part in rope.parts] == [85, 50 * MIB]
    assert rope.parts[1] is state.view


def test_what_follows_a_large_field_comes_after_it():
    data = Blob(b"d" * 4096)
    update = requests.ApplicationMessages(key=DelegateKey(bytes(32), bytes(32)), params=data, inbound=())
    rope = NATIVE.encode_request(update)
    assert [len(part) for part in rope.parts] == [80, 4096, 8]
    assert NATIVE.decode_request(Blob(bytes(rope))) == update


def test_decoded_payloads_are_slices_that_remember_where_they_live():
    segment = object()
    encoded = bytes(
        NATIVE.encode_request(requests.StreamChunk(stream_id=0, index=0, total=1, data=Blob(bytes(CHUNK_SIZE))))
    )
    chunk = NATIVE.decode_request(Blob(encoded, origin=segment, start=1000))
    assert chunk.data.origin is segment
    assert (chunk.data.start, chunk.data.stop) == (1024, 1024 + CHUNK_SIZE)
    assert chunk.data.view.obj is encoded


def test_the_last_of_equal_map_keys_wins():
    golden = next(vector for vector in REQUESTS if vector.name == "ContractOp.Put.related_one_some")
    (pair,) = golden.message.related_contracts
    at = golden.bytes.index(struct.pack("<Q", 1) + pair[0])
    entry_bytes = 32 + 1 + 8 + len(pair[1])
    first = pair[0] + b"\0"
    twice = golden.bytes[:at] + struct.pack("<Q", 2) + first + golden.bytes[at + 8 : at + 8 + entry_bytes]
    decoded = NATIVE.decode_request(Blob(twice + golden.bytes[at + 8 + entry_bytes :]))
    assert decoded == golden.message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("0100000002000000" + "11" * 32 + "000200", "invalid u8 while decoding bool, expected 0 or 1, found 2"),
        ("0400000002000000" + "05", "invalid u8 while decoding bool, expected 0 or 1, found 5"),
        (
            "03000000" + "0200000000000000" + "61c3",
            "string is not valid utf8: incomplete utf-8 byte sequence from index 1",
        ),
        ("07000000", "invalid value: integer `7`, expected variant index 0 <= i < 7"),
    ],
    ids=["flag-of-get", "bool", "utf8", "variant"],
)
def test_other_bad_values_are_refused_in_bincodes_words(message, text):
    with pytest.raises(DecodeError) as refused:
        NATIVE.decode_request(Blob(bytes.fromhex(message)))
    assert str(refused.value) == text


def _golden(name: str, vectors: list[Vector]) -> bytes:
    (message,) = (vector.bytes for vector in vectors if vector.name == name)
    return message


@pytest.mark.parametrize(
    ("message", "tag_at"),
    [
        (_golden("Ok", RESULTS), 0),
        (_golden("DelegateResponse.ContextUpdated", RESULTS), 80),
        (_golden("QueryResponse.ConnectedPeers.v4_v6", RESULTS), 34),
        (_golden("StreamHeader.Raw.max", RESULTS), 20),
        (_golden("Err.RequestError.Disconnect", RESULTS), 8),
    ],
    ids=["result", "outbound", "address", "content", "request-error"],
)
def test_a_tag_that_the_enum_does_not_have_is_refused(message, tag_at):
    bad = message[:tag_at] + b"\x63\0\0\0" + message[tag_at + 4 :]
    with pytest.raises(DecodeError, match="integer `99`, expected variant index"):
        NATIVE.decode_result(Blob(bad))


def test_a_result_tag_in_a_delegates_message_is_checked():
    message = _golden("DelegateOp.ApplicationMessages.PutContractResponse_ok", REQUESTS)
    at = len(message) - 10 - 4
    assert message[at : at + 4] == bytes(4)
    with pytest.raises(DecodeError, match="integer `2`"):
        NATIVE.decode_request(Blob(message[:at] + b"\2\0\0\0" + message[at + 4 :]))


def _application_messages(count: int, items: bytes) -> Blob:
    return Blob(bytes(8) + bytes(64) + bytes(8) + struct.pack("<Q", count) + items)


@pytest.mark.parametrize("count", [1, 2**32, 2**64 - 1])
def test_a_count_of_more_items_than_bytes_remain_is_refused_at_once(count):
    with pytest.raises(DecodeError, match="unexpected end of file"):
        NATIVE.decode_request(_application_messages(count, b""))


def test_a_message_of_nothing_but_tiny_items_is_refused_before_they_are_made():
    def installed(times: int) -> Blob:
        return _application_messages(times, struct.pack("<II", 10, 0) * times)

    assert len(NATIVE.decode_request(installed(MAX_ITEMS)).inbound) == MAX_ITEMS
    with pytest.raises(DecodeError, match=f"maximum is {MAX_ITEMS}"):
        NATIVE.decode_request(installed(MAX_ITEMS + 1))


def test_a_text_of_more_than_a_mebibyte_is_refused():
    def authenticate(nbytes: int) -> Blob:
        return Blob(struct.pack("<IQ", 3, nbytes) + b"t" * nbytes)

    assert len(NATIVE.decode_request(authenticate(MIB)).token) == MIB
    with pytest.raises(DecodeError, match="maximum is 1048576"):
        NATIVE.decode_request(authenticate(MIB + 1))


@pytest.mark.parametrize(
    "request_",
    [
        requests.Get(key=b"short"),
        requests.StreamChunk(stream_id=1 << 32, index=0, total=1, data=Blob()),
        requests.StreamChunk(stream_id=-1, index=0, total=1, data=Blob()),
        responses.Ok(),
    ],
    ids=["id", "u32", "negative", "no-request"],
)
def test_a_request_that_does_not_fit_is_not_encoded(request_):
    with pytest.raises(EncodeError):
        NATIVE.encode_request(request_)


@pytest.mark.parametrize("address", ["localhost:7509", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:65536"])
def test_an_address_that_is_none_is_not_encoded(address):
    with pytest.raises(EncodeError):
        NATIVE.encode_result(responses.ConnectedPeers(peers=(("peer", address),)))


def test_the_codec_says_what_its_clients_can_do():
    assert NATIVE.encoding is Encoding.NATIVE
    assert NATIVE.has_stream_header
    assert not NATIVE.replies_match_by_kind


def test_a_node_with_more_subscriptions_than_a_request_may_have_items_can_say_so():
    subscription = responses.SubscriptionInfo(contract_key=KEY.instance, client_id=1)
    debug = responses.NetworkDebug(subscriptions=(subscription,) * 20_000, connected_peers=())
    assert NATIVE.decode_result(Blob(bytes(NATIVE.encode_result(debug)))) == debug
