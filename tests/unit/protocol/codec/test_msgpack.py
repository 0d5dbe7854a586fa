import itertools
import tracemalloc

import msgpack
import pytest

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.msgpack_names import REQUESTS, RESPONSES
from simnode.protocol.codec.msgpack_reader import MAX_FIELDS
from simnode.protocol.codec.source import MIN_BLOB_BYTES, SPARE_BLOBS
from simnode.protocol.errors import DecodeError, EncodeError
from simnode.protocol.limits import CHUNK_SIZE, MIB
from simnode.protocol.messages import contracts, delegates, error_kinds, requests, responses
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from tests.support.vectors import load_vectors

MSGPACK = codec_for(Encoding.MSGPACK)
GOLDEN_REQUESTS = load_vectors("native", "request")
GOLDEN_RESULTS = load_vectors("native", "response")
ID, HASH = b"i" * 32, b"h" * 32
KEY = ContractKey(ID, HASH)
KEY_MAP = {"instance": ID, "code": HASH}
DELEGATE_KEY = DelegateKey(ID, HASH)


def pack(value: object) -> Blob:
    """`value` by the msgpack package, which is not what we read with."""
    return Blob(msgpack.packb(value))


def unpack(rope: Rope) -> object:
    """What the msgpack package makes of our encoding."""
    return msgpack.unpackb(bytes(rope))


def turned_around(value: object) -> object:
    """The same with every map's keys in the opposite order, as another language may write them."""
    if isinstance(value, dict):
        return {key: turned_around(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return [turned_around(item) for item in value]
    return value


# ---- what the messages look like ---------------------------------------------------------------

CONTRACT = contracts.ContractContainer(data=Blob(b"code"), code_hash=HASH, params=Blob(b"p"), key=KEY)
CONTRACT_MAP = {"data": b"code", "code_hash": HASH, "params": b"p", "key": KEY_MAP}
DELEGATE = delegates.DelegateContainer(params=Blob(b"p"), data=Blob(b"code"), code_hash=HASH, key=DELEGATE_KEY)

REQUESTS_AS_MAPS = [
    (
        requests.Put(contract=CONTRACT, state=Blob(b"s"), related_contracts=((ID, Blob(b"r")), (HASH, None))),
        {
            "type": "ContractOp.Put",
            "contract": CONTRACT_MAP,
            "related_contracts": [[ID, b"r"], [HASH, None]],
            "subscribe": False,
            "blocking_subscribe": False,
            "state": b"s",
        },
    ),
    (
        requests.Update(key=KEY, data=contracts.StateAndDelta(state=Blob(b"s"), delta=Blob(b"d"))),
        {
            "type": "ContractOp.Update",
            "key": KEY_MAP,
            "data": {"type": "StateAndDelta", "delta": b"d", "state": b"s"},
        },
    ),
    (requests.Close(), {"type": "Close"}),
    (requests.QueryConnectedPeers(), {"type": "NodeQueries.ConnectedPeers"}),
    (
        requests.RegisterDelegate(delegate=DELEGATE, cipher=HASH, nonce=b"n" * 24),
        {
            "type": "RegisterDelegate",
            "delegate": {
                "parameters": b"p",
                "data": b"code",
                "code_hash": HASH,
                "key": {"key": ID, "code_hash": HASH},
            },
            "cipher": HASH,
            "nonce": b"n" * 24,
        },
    ),
    (
        requests.ApplicationMessages(
            key=DELEGATE_KEY,
            params=Blob(),
            inbound=(
                delegates.Installed(),
                delegates.PutContractResponse(contract_id=ID, error=None, context=Blob(b"c")),
                delegates.PutContractResponse(contract_id=ID, error="no", context=Blob(b"c")),
            ),
        ),
        {
            "type": "ApplicationMessages",
            "key": {"key": ID, "code_hash": HASH},
            "params": b"",
            "inbound": [
                {"type": "Installed"},
                {"type": "PutContractResponse", "contract_id": ID, "result": {"Ok": None}, "context": b"c"},
                {"type": "PutContractResponse", "contract_id": ID, "result": {"Err": "no"}, "context": b"c"},
            ],
        },
    ),
]

RESULTS_AS_MAPS = [
    (
        responses.GetResponse(key=KEY, contract=None, state=Blob(b"s")),
        {"type": "GetResponse", "key": KEY_MAP, "contract": None, "state": b"s"},
    ),
    (
        responses.StreamHeader(
            stream_id=3, total_bytes=2**40, content=responses.GetResponseContent(key=KEY, includes_contract=True)
        ),
        {
            "type": "StreamHeader",
            "stream_id": 3,
            "total_bytes": 2**40,
            "content": {"type": "GetResponse", "key": KEY_MAP, "includes_contract": True},
        },
    ),
    (
        responses.Err(error_kinds.PutError(key=KEY, cause="why")),
        {"type": "Err.RequestError.ContractError.Put", "key": KEY_MAP, "cause": "why"},
    ),
    (responses.Err(error_kinds.Disconnected()), {"type": "Err.Disconnect"}),
    (responses.Err(error_kinds.RequestDisconnect()), {"type": "Err.RequestError.Disconnect"}),
    (responses.Err(error_kinds.Unhandled(cause="why")), {"type": "Unhandled", "cause": "why"}),
]


@pytest.mark.parametrize(
    ("message", "as_map"), REQUESTS_AS_MAPS, ids=[as_map["type"] for _, as_map in REQUESTS_AS_MAPS]
)
def test_a_request_is_the_published_map_with_its_fields_in_the_published_order(message, as_map):
    assert list(unpack(MSGPACK.encode_request(message)).items()) == list(as_map.items())
    assert MSGPACK.decode_request(pack(as_map)) == message


@pytest.mark.parametrize(("message", "as_map"), RESULTS_AS_MAPS, ids=[as_map["type"] for _, as_map in RESULTS_AS_MAPS])
def test_a_result_is_the_published_map_with_its_fields_in_the_published_order(message, as_map):
    assert list(unpack(MSGPACK.encode_result(message)).items()) == list(as_map.items())
    assert MSGPACK.decode_result(pack(as_map)) == message


@pytest.mark.parametrize("vector", GOLDEN_REQUESTS, ids=str)
def test_every_golden_request_survives_another_library_and_another_order_of_keys(vector):
    as_map = unpack(MSGPACK.encode_request(vector.message))
    assert MSGPACK.decode_request(pack(as_map)) == vector.message
    assert MSGPACK.decode_request(pack(turned_around(as_map))) == vector.message


@pytest.mark.parametrize("vector", GOLDEN_RESULTS, ids=str)
def test_every_golden_result_survives_another_library_and_another_order_of_keys(vector):
    as_map = unpack(MSGPACK.encode_result(vector.message))
    assert MSGPACK.decode_result(pack(as_map)) == vector.message
    assert MSGPACK.decode_result(pack(turned_around(as_map))) == vector.message


# ---- payloads stay where they are ---------------------------------------------------------------


def test_a_large_state_is_encoded_as_a_header_and_a_view_of_it():
    state = Blob(bytes(MIB))
    put = requests.Put(contract=CONTRACT, state=state)
    rope = MSGPACK.encode_request(put)
    assert len(rope.parts) == 2
    assert rope.parts[1] is state.view
    assert MSGPACK.decode_request(Blob(bytes(rope))) == put


@pytest.mark.parametrize("nbytes", [0, 1, 255, 256, 65_535, 65_536, CHUNK_SIZE])
@pytest.mark.parametrize("side", ["request", "result"])
def test_a_chunk_envelope_is_the_message_it_stands_for_without_a_copy(side, nbytes):
    data = bytes(nbytes)
    chunk = requests.StreamChunk(stream_id=2**32 - 1, index=1, total=9, data=Blob(data))
    envelope = getattr(MSGPACK, f"encode_{side}_chunk")(stream_id=2**32 - 1, index=1, total=9, data=Rope([data]))
    assert bytes(envelope) == bytes(getattr(MSGPACK, f"encode_{side}")(chunk))
    assert all(part is data for part in envelope.parts[1:])
    assert unpack(envelope) == {"type": "StreamChunk", "stream_id": 2**32 - 1, "index": 1, "total": 9, "data": data}
    assert getattr(MSGPACK, f"decode_{side}")(Blob(bytes(envelope))) == chunk


def test_decoded_payloads_are_slices_that_remember_where_they_live():
    segment = object()
    message = bytes(pack({"type": "StreamChunk", "stream_id": 0, "index": 0, "total": 1, "data": bytes(CHUNK_SIZE)}))
    chunk = MSGPACK.decode_request(Blob(message, origin=segment, start=1000))
    assert chunk.data.origin is segment
    assert chunk.data.stop == 1000 + len(message)
    assert chunk.data.view.obj is message


# ---- what may be left out, and what may not -----------------------------------------------------


def test_options_and_fields_with_defaults_may_be_absent():
    assert MSGPACK.decode_request(pack({"type": "ContractOp.Get", "key": ID})) == requests.Get(key=ID)
    assert MSGPACK.decode_request(pack({"type": "Disconnect"})) == requests.Disconnect()
    assert MSGPACK.decode_request(pack({"type": "NodeQueries.NodeDiagnostics"})) == requests.QueryNodeDiagnostics()
    answer = {"type": "GetResponse", "key": KEY_MAP, "state": b""}
    assert MSGPACK.decode_result(pack(answer)).contract is None


def test_the_last_of_equal_map_keys_wins():
    pairs = [[ID, b"first"], [HASH, None], [ID, b"last"]]
    put = {"type": "ContractOp.Put", "contract": CONTRACT_MAP, "state": b"", "related_contracts": pairs}
    assert MSGPACK.decode_request(pack(put)).related_contracts == ((ID, Blob(b"last")), (HASH, None))


def test_a_whole_number_is_a_float_too_because_javascript_writes_it_so():
    golden = next(vector for vector in GOLDEN_RESULTS if vector.name == "QueryResponse.NeighborHosting.empty")
    as_map = unpack(MSGPACK.encode_result(golden.message))
    for written, read in ((2, 2.0), (1.5, 1.5)):
        as_map["stats"]["avg_neighbor_hosting_size"] = written
        assert MSGPACK.decode_result(pack(as_map)).stats.avg_neighbor_hosting_size == read
    as_map["stats"]["avg_neighbor_hosting_size"] = "2"
    with pytest.raises(DecodeError, match="stats: avg_neighbor_hosting_size: float expected, found str"):
        MSGPACK.decode_result(pack(as_map))


GET = {"type": "ContractOp.Get", "key": ID}
CHUNK = {"type": "StreamChunk", "stream_id": 0, "index": 0, "total": 1, "data": b""}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({}, "field `type` is missing"),
        ({"key": ID}, "field `type` is missing"),
        ([1, 2], "map expected, found array"),
        ({"type": 3}, "str expected, found int"),
        ({"type": "Get", "key": ID}, "unknown type `Get`"),
        ({"type": "x" * 1000}, f"unknown type `{'x' * 40}`"),
        ({"type": "ContractOp.Get"}, "field `key` is missing"),
        (GET | {"kez": 1}, "unknown field `kez`"),
        (GET | {"key": "text"}, "key: bin expected, found str"),
        (GET | {"key": ID[:-1]}, "key: 32 bytes expected, found 31"),
        (GET | {"key": None}, "key: bin expected, found nil"),
        (GET | {"subscribe": 1}, "subscribe: bool expected, found int"),
        (CHUNK | {"index": -1}, "index: -1 is no unsigned integer of 32 bits"),
        (CHUNK | {"index": -100}, "index: -100 is no unsigned integer of 32 bits"),
        (CHUNK | {"total": 2**32}, "total: 4294967296 is no unsigned integer of 32 bits"),
        (CHUNK | {"total": 1.0}, "total: int expected, found float"),
        (CHUNK | {"data": msgpack.ExtType(1, b"abc")}, "data: bin expected, found an extension or an unused code"),
        ({"type": "Disconnect", "cause": b"bytes"}, "cause: str expected, found bin"),
        (
            {"type": "ContractOp.Update", "key": KEY_MAP, "data": {"type": "Stare"}},
            "data: unknown type `Stare`",
        ),
        (
            {"type": "ContractOp.Put", "contract": CONTRACT_MAP | {"key": {"instance": ID}}, "state": b""},
            "contract: key: field `code` is missing",
        ),
        (
            {"type": "ContractOp.Put", "contract": CONTRACT_MAP, "state": b"", "related_contracts": [[ID]]},
            "related_contracts: an array of 2 expected, found one of 1",
        ),
        ({str(number): 0 for number in range(MAX_FIELDS + 1)}, "a map of 16 fields at most expected, found one of 17"),
    ],
    ids=itertools.count(),
)
def test_a_map_that_is_no_request_is_refused_with_the_place_and_the_reason(message, text):
    with pytest.raises(DecodeError) as refused:
        MSGPACK.decode_request(pack(message))
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({}, "a map of `Ok` or `Err` alone expected"),
        ({"Ok": None, "Err": ""}, "a map of `Ok` or `Err` alone expected"),
        ({"Ok": 1}, "nil expected, found int"),
        ({"Error": ""}, "`Ok` or `Err` expected, found `Error`"),
    ],
    ids=["empty", "both", "value", "neither"],
)
def test_an_outcome_is_ok_or_err_and_nothing_else(result, text):
    inbound = {"type": "PutContractResponse", "contract_id": ID, "result": result, "context": b""}
    key = {"key": ID, "code_hash": HASH}
    message = {"type": "ApplicationMessages", "key": key, "params": b"", "inbound": [inbound]}
    with pytest.raises(DecodeError) as refused:
        MSGPACK.decode_request(pack(message))
    assert str(refused.value) == f"inbound: result: {text}"


def test_a_repeated_field_is_refused():
    key = msgpack.packb("key") + msgpack.packb(ID)
    with pytest.raises(DecodeError, match="field `key` comes twice"):
        MSGPACK.decode_request(Blob(b"\x83" + msgpack.packb("type") + msgpack.packb("ContractOp.Get") + key + key))
    kind = msgpack.packb("type") + msgpack.packb("Close")
    with pytest.raises(DecodeError, match="field `type` comes twice"):
        MSGPACK.decode_request(Blob(b"\x82" + kind + kind))


def test_bytes_after_the_message_are_refused():
    with pytest.raises(DecodeError, match="2 bytes after the message"):
        MSGPACK.decode_request(Blob(bytes(pack({"type": "Close"})) + b"\xc0\xc0"))


def test_text_that_is_no_utf8_is_refused():
    broken = bytes(pack({"type": "Disconnect", "cause": "##"})).replace(b"##", b"a\xff")
    with pytest.raises(DecodeError, match="cause: string is not valid utf8: invalid utf-8 sequence of 1 bytes from"):
        MSGPACK.decode_request(Blob(broken))


@pytest.mark.parametrize("vector", GOLDEN_REQUESTS, ids=str)
def test_every_truncation_of_a_request_is_refused(vector):
    encoded = bytes(MSGPACK.encode_request(vector.message))
    for stop in range(len(encoded)):
        with pytest.raises(DecodeError):
            MSGPACK.decode_request(Blob(encoded[:stop]))


# ---- hostile messages ---------------------------------------------------------------------------

INBOUND = msgpack.packb({"type": "ApplicationMessages", "key": {"key": ID, "code_hash": HASH}, "params": b""})
INBOUND = b"\x84" + INBOUND[1:] + msgpack.packb("inbound")
TYPE_LAST = b"\x82" + msgpack.packb("x")

HOSTILE = {
    "arrays announced": INBOUND + b"\xdd\xff\xff\xff\xff",
    "empty arrays": INBOUND + b"\xdd" + (10**6).to_bytes(4, "big") + b"\x90" * 10**6,
    "empty arrays before the type": TYPE_LAST + b"\xdd" + (10**6).to_bytes(4, "big") + b"\x90" * 10**6,
    "nested arrays before the type": TYPE_LAST + b"\x91" * 10**6,
    "nested maps before the type": TYPE_LAST + b"\x81\xc0" * 10**6,
    "huge map": b"\xdf\xff\xff\xff\xff" + b"\xa0\xc0" * 10**6,
    "huge str": TYPE_LAST + b"\xdb\xff\xff\xff\xff",
    "huge bin": TYPE_LAST + b"\xc6\xff\xff\xff\xff",
    "extension before the type": TYPE_LAST + b"\xc9\xff\xff\xff\xff\x01",
    "nested inbound": INBOUND + b"\x91" * 10**6,
    "nothing": b"",
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_message_is_refused_without_using_memory(message):
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            MSGPACK.decode_request(Blob(message))
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


def test_a_value_of_any_kind_before_the_type_is_passed_over():
    values = [None, True, 1, -1, 2**63, 1.5, "text", b"bytes", [1, [2]], {"a": {"b": []}}]
    with pytest.raises(DecodeError, match="unknown field `x`"):
        MSGPACK.decode_request(pack({"x": values, "type": "Close"}))


# ---- our own mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        requests.Get(key=b"short"),
        requests.StreamChunk(stream_id=1 << 32, index=0, total=1, data=Blob()),
        responses.Ok(),
    ],
    ids=["id", "u32", "no-request"],
)
def test_a_request_that_does_not_fit_is_not_encoded(request_):
    with pytest.raises(EncodeError):
        MSGPACK.encode_request(request_)


def test_the_codec_says_what_its_clients_can_do():
    assert MSGPACK.encoding is Encoding.MSGPACK
    assert MSGPACK.has_stream_header
    assert not MSGPACK.replies_match_by_kind


def test_no_class_has_more_fields_than_a_map_may():
    records = itertools.chain(REQUESTS.values(), RESPONSES.values())
    assert max(len(record.fields) for record in records) + 1 <= MAX_FIELDS


def _user_input(responses: list[bytes], message: bytes = b"") -> Blob:
    """A question of a delegate; each empty answer takes two bytes, and 250 of memory."""
    question = {"type": "RequestUserInput", "request_id": 1, "message": message, "responses": responses}
    key = {"key": bytes(32), "code_hash": bytes(32)}
    return Blob(msgpack.packb({"type": "DelegateResponse", "key": key, "values": [question]}))


def test_tiny_byte_strings_are_counted_against_the_length_of_their_message():
    few = [b""] * SPARE_BLOBS
    many = [b""] * (2 * SPARE_BLOBS)
    assert len(MSGPACK.decode_result(_user_input(few)).values[0].responses) == SPARE_BLOBS
    with pytest.raises(DecodeError, match="more byte strings than a message of this length"):
        MSGPACK.decode_result(_user_input(many))
    among_others = _user_input(many, message=bytes(MIN_BLOB_BYTES * SPARE_BLOBS))
    assert len(MSGPACK.decode_result(among_others).values[0].responses) == 2 * SPARE_BLOBS


@pytest.mark.parametrize("head", [b"\xd9\x04", b"\xda\x00\x04", b"\xdb\x00\x00\x00\x04"])
def test_a_name_may_be_written_with_any_head_that_a_str_has(head):
    assert MSGPACK.decode_request(Blob(b"\x81" + head + b"type\xa5Close")) == requests.Close()


@pytest.mark.parametrize(
    "message", [b"\x81", b"\x81\xa5type", b"\x81\xd9", b"\x81\xd9\x05type", b"\x81\xa4type\xa6Close"]
)
def test_a_name_that_ends_with_the_message_is_refused(message):
    with pytest.raises(DecodeError, match="unexpected end of message"):
        MSGPACK.decode_request(Blob(message))


def test_a_name_that_is_no_utf8_is_shown_to_the_peer_as_far_as_it_goes():
    with pytest.raises(DecodeError, match="unknown type `Cl\N{REPLACEMENT CHARACTER}se`"):
        MSGPACK.decode_request(Blob(b"\x81\xa4type\xa5Cl\xffse"))
