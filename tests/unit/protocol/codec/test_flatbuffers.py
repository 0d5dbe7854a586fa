import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table as StockTable

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.flatbuffers_contracts import UNKNOWN_CODE
from simnode.protocol.codec.flatbuffers_writer import Table, write
from simnode.protocol.errors import DecodeError, EncodeError
from simnode.protocol.keys import code_hash, contract_key
from simnode.protocol.limits import CHUNK_SIZE, KIB, MIB
from simnode.protocol.messages import contracts, delegates, error_kinds, requests, responses
from simnode.protocol.messages.contracts import ContractContainer, ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from tests.support.vectors import load_json, load_vectors, message_from_fields

FLATBUFFERS = codec_for(Encoding.FLATBUFFERS)
REQUESTS = load_vectors("flatbuffers", "request")
RESULTS = load_vectors("flatbuffers", "response")
NEGATIVE = [vector for vector in load_json("behaviour.json")["negative"] if vector["encoding"] == "flatbuffers"]
KEY = ContractKey(b"i" * 32, b"c" * 32)
PREFIX = "Failed decoding message from client request: "


def decoded(direction: str, message: bytes) -> Any:
    decode = FLATBUFFERS.decode_request if direction == "request" else FLATBUFFERS.decode_result
    return decode(Blob(message))


class Stock:
    """A table read with the stock runtime, which shares no code with ours."""

    def __init__(self, message: bytes, at: int | None = None) -> None:
        self._table = StockTable(message, encode.Get(packer.uoffset, message, 0) if at is None else at)

    def _at(self, slot: int) -> int:
        offset: int = self._table.Offset(4 + 2 * slot)
        return offset and offset + self._table.Pos

    def number(self, slot: int, flags: Any = number_types.Uint32Flags) -> int:
        at = self._at(slot)
        assert at % flags.bytewidth == 0
        value: int = self._table.Get(flags, at) if at else 0
        return value

    def tag(self, slot: int) -> int:
        return self.number(slot, number_types.Uint8Flags)

    def table(self, slot: int) -> "Stock":
        at = self._table.Indirect(self._at(slot))
        assert at % 4 == 0
        return Stock(self._table.Bytes, at)

    def bytes(self, slot: int) -> bytes | None:
        if not self._at(slot):
            return None
        start = self._table.Vector(self._at(slot) - self._table.Pos)
        assert start % 4 == 0
        length = self._table.VectorLen(self._at(slot) - self._table.Pos)
        return self._table.Bytes[start : start + length]

    def text(self, slot: int) -> str:
        text: bytes = self._table.String(self._at(slot))
        return text.decode()


def stock(rope: Rope) -> Stock:
    return Stock(bytes(rope))


# ---- golden messages of the reference ----------------------------------------------------------


@pytest.mark.parametrize("vector", [vector for vector in REQUESTS if vector.bytes], ids=str)
def test_a_golden_request_is_decoded(vector):
    message = vector.message
    if vector.name == "ContractOp.Subscribe.summary_some_empty":
        message = replace(message, summary=None)
    assert decoded("request", vector.bytes) == message
    assert decoded("request", bytes(FLATBUFFERS.encode_request(vector.message))) == message


EXPRESSIBLE = (delegates.ApplicationMessage, delegates.RequestUserInput, delegates.ContextUpdated)


@pytest.mark.parametrize(
    "vector",
    [vector for vector in RESULTS if vector.bytes and not isinstance(vector.message, responses.Err)],
    ids=str,
)
def test_a_golden_response_is_decoded(vector):
    message = sent = vector.message
    if isinstance(message, responses.SubscribeResponse):
        sent = responses.PutResponse(key=message.key)  # the reference's mistake
    if isinstance(message, responses.DelegateResponse):
        message = sent = replace(message, values=tuple(v for v in message.values if isinstance(v, EXPRESSIBLE)))
    assert decoded("response", vector.bytes) == sent
    assert decoded("response", bytes(FLATBUFFERS.encode_result(vector.message))) == message


@pytest.mark.parametrize(
    "vector",
    [vector for vector in [*REQUESTS, *RESULTS] if vector.bytes is None and vector.message != responses.Ok()],
    ids=str,
)
def test_what_the_reference_cannot_express_is_refused(vector):
    encode_it = FLATBUFFERS.encode_request if vector.direction == "request" else FLATBUFFERS.encode_result
    with pytest.raises(EncodeError, match="flatbuffers cannot express"):
        encode_it(vector.message)


def test_ok_has_an_empty_text():
    message = FLATBUFFERS.encode_result(responses.Ok())
    assert stock(message).tag(0) == 4
    assert stock(message).table(1).text(0) == ""
    assert decoded("response", bytes(message)) == responses.Ok()


# ---- bad messages ------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", NEGATIVE, ids=lambda vector: vector["name"])
def test_a_bad_request_gets_the_references_verdict_and_an_error_in_its_form(vector):
    message = bytes.fromhex(vector["hex"])
    if vector["accepted"]:
        assert decoded("request", message) == message_from_fields(vector["fields"], "request")
        return
    with pytest.raises(DecodeError) as refused:
        decoded("request", message)
    answer = FLATBUFFERS.encode_result(responses.Err(error_kinds.DeserializationError(cause=str(refused.value))))
    assert stock(answer).tag(0) == vector["server_reply_fbs"]["response_type"]
    assert stock(answer).table(1).text(0) == PREFIX + str(refused.value)
    golden = decoded("response", bytes.fromhex(vector["server_reply_hex"]))
    assert golden == responses.Err(error_kinds.DeserializationError(cause=vector["error"].removeprefix(PREFIX)))
    if "exactly 32 bytes" in vector["error"] or "discriminant" in vector["error"]:
        assert PREFIX + str(refused.value) == vector["error"]


@pytest.mark.parametrize("vector", [v for v in [*REQUESTS, *RESULTS] if v.bytes], ids=str)
def test_a_truncated_golden_message_is_decoded_or_refused_and_nothing_else(vector):
    """A cut may fall into padding or behind what is read, so it need not be refused."""
    refused = 0
    for stop in range(0, len(vector.bytes)):
        try:
            decoded(vector.direction, vector.bytes[:stop])
        except DecodeError:
            refused += 1
    assert refused >= len(vector.bytes) - 4


@pytest.mark.parametrize(
    ("request_", "length", "text"),
    [
        (requests.UnregisterDelegate(key=DelegateKey(b"k" * 31, b"h" * 32)), 31, "DelegateKey.key"),
        (requests.UnregisterDelegate(key=DelegateKey(b"k" * 32, b"h" * 33)), 33, "DelegateKey.code_hash"),
        (requests.Get(key=b"k" * 33), 33, "ContractKey.instance.data"),
        (requests.Subscribe(key=b""), 0, "ContractKey.instance.data"),
        (
            requests.Update(key=KEY, data=contracts.RelatedState(related_to=b"1", state=Blob())),
            1,
            "RelatedStateUpdate.related_to.data",
        ),
    ],
    ids=["delegate-key", "delegate-hash", "get", "subscribe", "related"],
)
def test_a_hash_of_another_length_is_refused(request_, length, text):
    with pytest.raises(DecodeError) as refused:
        decoded("request", bytes(FLATBUFFERS.encode_request(request_)))
    assert str(refused.value) == f"{text} must be exactly 32 bytes; got {length} bytes"


ANY = Table("o", b"")
FULL_KEY = Table("oo", Table("o", bytes(32)), bytes(32))


def contract_request(tag: int, table: Table) -> Table:
    return Table("bo", 1, Table("bo", tag, table))


def delegate_request(tag: int, table: Table) -> Table:
    return Table("bo", 2, Table("bo", tag, table))


@pytest.mark.parametrize(
    ("direction", "union", "tag", "root"),
    [
        ("request", "ClientRequestType", 6, Table("bo", 6, ANY)),
        ("request", "ClientRequestType", 0, Table("bo", 0, ANY)),
        ("request", "ContractRequestType", 5, contract_request(5, ANY)),
        ("request", "ContractType", 2, contract_request(1, Table("ooo", Table("bo", 2, ANY), b"", ANY))),
        ("request", "UpdateDataType", 7, contract_request(2, Table("oo", FULL_KEY, Table("bo", 7, ANY)))),
        ("request", "DelegateRequestType", 4, delegate_request(4, ANY)),
        ("request", "DelegateType", 2, delegate_request(2, Table("ooo", Table("bo", 2, ANY), bytes(32), bytes(24)))),
        (
            "request",
            "InboundDelegateMsgType",
            3,
            delegate_request(1, Table("ooo", Table("oo", bytes(32), bytes(32)), b"", [Table("bo", 3, ANY)])),
        ),
        ("response", "HostResponseType", 7, Table("bo", 7, ANY)),
        ("response", "ContractResponseType", 7, Table("bo", 1, Table("bo", 7, ANY))),
        (
            "response",
            "OutboundDelegateMsgType",
            4,
            Table("bo", 2, Table("oo", Table("oo", bytes(32), bytes(32)), [Table("bo", 4, ANY)])),
        ),
    ],
    ids=lambda value: "" if isinstance(value, Table) else None,
)
def test_a_tag_that_the_union_does_not_have_is_refused(direction, union, tag, root):
    with pytest.raises(DecodeError, match=f"^unknown {union} discriminant: {tag}$"):
        decoded(direction, bytes(write(root)))


def test_what_a_delegate_asks_its_user_may_be_empty():
    request = Table("bo", 2, Table("u--", 5))
    response = Table("bo", 2, Table("oo", Table("oo", bytes(32), bytes(32)), [request]))
    (value,) = decoded("response", bytes(write(response))).values
    assert value == delegates.RequestUserInput(request_id=5, message=Blob(), responses=())


@pytest.mark.parametrize(("cipher", "nonce"), [(31, 24), (32, 23), (32, 32)])
def test_a_cipher_or_nonce_of_another_length_is_refused(cipher, nonce):
    golden = next(vector.message for vector in REQUESTS if isinstance(vector.message, requests.RegisterDelegate))
    message = replace(golden, cipher=bytes(cipher), nonce=bytes(nonce))
    with pytest.raises(DecodeError, match="must be exactly"):
        decoded("request", bytes(FLATBUFFERS.encode_request(message)))


def test_a_key_in_a_response_may_come_without_code_but_not_with_half_of_it():
    def put_response(code: bytes) -> bytes:
        return bytes(FLATBUFFERS.encode_result(responses.PutResponse(key=ContractKey(b"i" * 32, code))))

    expected = responses.PutResponse(key=ContractKey(b"i" * 32, UNKNOWN_CODE))
    assert decoded("response", put_response(b"")) == expected
    assert decoded("response", put_response(bytes(32))) == expected
    with pytest.raises(DecodeError, match=r"^ContractKey\.code must be exactly 32 bytes; got 31 bytes$"):
        decoded("response", put_response(bytes(31)))


def test_the_embedded_key_and_hash_of_a_put_are_ignored_and_computed():
    golden = next(vector.message for vector in REQUESTS if isinstance(vector.message, requests.Put))
    lying = replace(golden.contract, code_hash=b"\0", key=ContractKey(b"short", b""))
    message = bytes(FLATBUFFERS.encode_request(replace(golden, contract=lying)))
    assert decoded("request", message) == golden


def test_the_last_of_equal_related_contracts_wins():
    golden = next(vector.message for vector in REQUESTS if isinstance(vector.message, requests.Put))
    twice = replace(golden, related_contracts=((b"r" * 32, Blob(b"1")), (b"r" * 32, Blob(b"2"))))
    message = decoded("request", bytes(FLATBUFFERS.encode_request(twice)))
    assert message.related_contracts == ((b"r" * 32, Blob(b"2")),)


# ---- large payloads and chunks -----------------------------------------------------------------


def test_a_large_state_is_encoded_as_a_header_and_a_view_of_it():
    state = Blob(bytes(50 * MIB))
    tracemalloc.start()
    try:
        rope = FLATBUFFERS.encode_result(responses.GetResponse(key=KEY, contract=None, state=state))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * KIB
    assert rope.parts[-1] is state.view
    assert len(rope) - len(state) < 256


@pytest.mark.parametrize("odd", range(4))
def test_large_fields_stand_aligned_at_the_end_in_the_callers_memory(odd):
    code, state, related = (Blob(bytes([number]) * (3000 + odd)) for number in (1, 2, 3))
    hashed = code_hash(code)
    put = requests.Put(
        contract=ContractContainer(
            data=code, code_hash=hashed, params=Blob(b"p"), key=contract_key(hashed, Blob(b"p"))
        ),
        state=state,
        related_contracts=((b"r" * 32, related),),
    )
    rope = FLATBUFFERS.encode_request(put)
    assert decoded("request", bytes(rope)) == put
    for payload in (code, state, related):
        before = 0
        for part in rope.parts:
            if part is payload.view:
                assert before % 4 == 0
                break
            before += len(part)
        else:
            pytest.fail("the payload was copied")
    table = stock(rope).table(1).table(1)
    assert table.bytes(1) == bytes(state)
    assert table.table(0).table(1).table(0).bytes(0) == bytes(code)


@pytest.mark.parametrize(("side", "tag"), [("request", 5), ("result", 6)])
@pytest.mark.parametrize("nbytes", [0, 1, 2, 3, 4, CHUNK_SIZE])
def test_a_chunk_envelope_is_a_header_around_the_callers_data(side, tag, nbytes):
    first, second = b"a" * nbytes, memoryview(b"b" * 3000)
    envelope = getattr(FLATBUFFERS, f"encode_{side}_chunk")(
        stream_id=2**32 - 1, index=255, total=256, data=Rope([first, second])
    )
    assert envelope.parts[-1] is second
    assert nbytes == 0 or envelope.parts[1] is first
    chunk = requests.StreamChunk(stream_id=2**32 - 1, index=255, total=256, data=Blob(first + bytes(second)))
    assert getattr(FLATBUFFERS, f"decode_{side}")(Blob(bytes(envelope))) == chunk
    assert getattr(FLATBUFFERS, f"decode_{side}")(Blob(bytes(getattr(FLATBUFFERS, f"encode_{side}")(chunk)))) == chunk
    table = stock(envelope)
    assert table.tag(0) == tag
    assert [table.table(1).number(slot) for slot in range(3)] == [2**32 - 1, 255, 256]
    assert table.table(1).bytes(3) == bytes(chunk.data)


def test_an_empty_chunk_is_a_chunk():
    envelope = FLATBUFFERS.encode_request_chunk(stream_id=0, index=0, total=1, data=Rope())
    chunk = requests.StreamChunk(stream_id=0, index=0, total=1, data=Blob())
    assert decoded("request", bytes(envelope)) == chunk


def test_decoded_payloads_are_slices_that_remember_where_they_live():
    segment = object()
    encoded = bytes(FLATBUFFERS.encode_request_chunk(stream_id=0, index=0, total=1, data=Rope([bytes(CHUNK_SIZE)])))
    chunk = FLATBUFFERS.decode_request(Blob(encoded, origin=segment, start=1000))
    assert chunk.data.origin is segment
    assert (chunk.data.start, chunk.data.stop) == (1060, 1060 + CHUNK_SIZE)
    assert chunk.data.view.obj is encoded


# ---- the reference's mistakes, not repeated ----------------------------------------------------


def test_a_subscribe_response_is_one():
    rope = FLATBUFFERS.encode_result(responses.SubscribeResponse(key=KEY, subscribed=True))
    assert stock(rope).tag(0) == 1
    assert stock(rope).table(1).tag(0) == 6
    assert stock(rope).table(1).table(1).tag(1) == 1
    assert stock(rope).table(1).table(1).table(0).table(0).bytes(0) == KEY.instance
    assert stock(rope).table(1).table(1).table(0).bytes(1) == KEY.code


def test_clients_match_replies_by_kind_and_get_no_stream_header():
    assert FLATBUFFERS.replies_match_by_kind
    assert not FLATBUFFERS.has_stream_header
