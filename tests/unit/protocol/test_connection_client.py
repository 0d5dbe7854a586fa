import pytest
from blake3 import blake3

from simnode.protocol.blob import Blob
from simnode.protocol.codec.native import NativeCodec
from simnode.protocol.connection import ClientConnection
from simnode.protocol.errors import EncodeError, LocalProtocolError, ReassemblyErrorKind
from simnode.protocol.events import (
    ChunkReceived,
    ChunkRefused,
    Event,
    MessageRefused,
    ResponseReceived,
    SinkRequested,
    StreamCompleted,
    StreamOpened,
)
from simnode.protocol.limits import (
    CHUNK_SIZE,
    CHUNK_THRESHOLD,
    MAX_CHUNK_DATA_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_MESSAGE_SIZE,
    MAX_RESPONSE_SIZE,
    STREAM_TTL_S,
    Limits,
)
from simnode.protocol.messages.contracts import ContractContainer, ContractKey
from simnode.protocol.messages.requests import Authenticate, Close, Get, Put, StreamChunk
from simnode.protocol.messages.responses import GetResponse, NotFound, Ok, Raw, StreamHeader
from simnode.protocol.reassembly import HeapSink, SinkRefused
from tests.support.vectors import counting_bytes

NATIVE = NativeCodec()
KEY = ContractKey(b"a" * 32, b"c" * 32)
OTHER = ContractKey(b"b" * 32, b"c" * 32)
RESPONSE = GetResponse(key=KEY, contract=None, state=Blob(b"0123456789"))
MESSAGE = bytes(NATIVE.encode_result(RESPONSE))


class KindMatchingCodec(NativeCodec):
    """Native bytes with the manners of flatbuffers."""

    has_stream_header = False
    replies_match_by_kind = True


class Client:
    """A shell around a connection: grants every sink and keeps every event."""

    def __init__(self, codec=NATIVE, **options) -> None:
        self.connection = ClientConnection(codec=codec, **options)

    def receive(self, result, now=0.0) -> list[Event]:
        return self.receive_bytes(bytes(NATIVE.encode_result(result)), now)

    def receive_bytes(self, message: bytes, now=0.0) -> list[Event]:
        self.connection.receive_message(Blob(message), now)
        return self.take_events(now)

    def receive_header(self, stream_id, total_bytes) -> list[Event]:
        return self.receive(StreamHeader(stream_id=stream_id, total_bytes=total_bytes, content=Raw()))

    def receive_chunk(self, stream_id, index, total, data=b"", now=0.0) -> list[Event]:
        return self.receive(StreamChunk(stream_id=stream_id, index=index, total=total, data=Blob(data)), now)

    def take_events(self, now=0.0) -> list[Event]:
        taken = []
        while (event := self.connection.next_event()) is not None:
            taken.append(event)
            if isinstance(event, SinkRequested):
                self.connection.provide_sink(event.stream_id, HeapSink(event.nbytes), now)
        self.connection.reassembly.check_invariants()
        self.connection.outbox.check_invariants()
        return taken

    def sent_bytes(self) -> list[bytes]:
        return [bytes(message.data) for message in iter(self.connection.next_message, None)]

    def sent(self) -> list:
        return [NATIVE.decode_request(Blob(message)) for message in self.sent_bytes()]


@pytest.fixture
def client():
    return Client()


def put(nbytes: int, *, key=KEY) -> Put:
    """A PUT that is `nbytes` long when serialized."""
    contract = ContractContainer(data=Blob(), code_hash=key.code, params=Blob(), key=key)
    empty = len(NATIVE.encode_request(Put(contract=contract, state=Blob())))
    return Put(contract=contract, state=Blob(counting_bytes(nbytes - empty)))


# ---- requests ----------------------------------------------------------------------------------


def test_a_request_goes_out_with_its_token(client):
    client.connection.send_request(Get(key=KEY.instance), token="T")
    message = client.connection.next_message()
    assert NATIVE.decode_request(Blob(bytes(message.data))) == Get(key=KEY.instance)
    assert message.token == "T"
    assert client.sent() == []


def test_a_request_of_524288_bytes_goes_whole_and_one_byte_more_goes_in_chunks(client):
    client.connection.send_request(put(CHUNK_THRESHOLD))
    assert client.sent() == [put(CHUNK_THRESHOLD)]
    client.connection.send_request(put(CHUNK_THRESHOLD + 1), token="T")
    messages = list(iter(client.connection.next_message, None))
    chunks = [NATIVE.decode_request(Blob(bytes(message.data))) for message in messages]
    assert [(chunk.stream_id, chunk.index, chunk.total) for chunk in chunks] == [(0, 0, 3), (0, 1, 3), (0, 2, 3)]
    assert [len(chunk.data) for chunk in chunks] == [CHUNK_SIZE, CHUNK_SIZE, 1]
    joined = b"".join(bytes(chunk.data) for chunk in chunks)
    assert blake3(joined).digest() == blake3(bytes(NATIVE.encode_request(put(CHUNK_THRESHOLD + 1)))).digest()
    assert [message.token for message in messages] == [None, None, "T"]


def test_a_request_of_256_chunks_is_the_largest(client):
    client.connection.send_request(put(MAX_RESPONSE_SIZE))
    assert client.connection.outbox.due_chunks == 256
    with pytest.raises(EncodeError, match="67108865 bytes exceeds the maximum of 67108864"):
        client.connection.send_request(put(MAX_RESPONSE_SIZE + 1))
    assert client.connection.outbox.due_chunks == 256


def test_stream_ids_count_up_and_wrap():
    client = Client(first_stream_id=2**32 - 1)
    for _ in range(2):
        client.connection.send_request(put(CHUNK_THRESHOLD + 1))
    assert [chunk.stream_id for chunk in client.sent()] == [2**32 - 1] * 3 + [0] * 3


def test_a_small_request_overtakes_a_large_one_about_another_contract(client):
    client.connection.send_request(put(CHUNK_THRESHOLD + 1))
    client.connection.send_request(Get(key=OTHER.instance))
    client.connection.send_request(Authenticate(token="t"))
    assert client.sent()[:2] == [Get(key=OTHER.instance), Authenticate(token="t")]


def test_a_get_does_not_overtake_the_put_it_was_asked_for_after(client):
    """The node would answer it with what was there before."""
    client.connection.send_request(put(CHUNK_THRESHOLD + 1))
    client.connection.send_request(Get(key=KEY.instance))
    assert [type(message) for message in client.sent()] == [StreamChunk] * 3 + [Get]


def test_requests_of_one_kind_keep_their_order_when_their_replies_are_matched_by_kind():
    client = Client(KindMatchingCodec())
    client.connection.send_request(put(CHUNK_THRESHOLD + 1))
    client.connection.send_request(put(1000, key=OTHER))
    client.connection.send_request(Get(key=OTHER.instance))
    client.connection.send_request(Get(key=KEY.instance))
    assert [type(message) for message in client.sent()] == [StreamChunk] * 3 + [Put, Get, Get]


def test_a_request_without_a_contract_may_go_at_any_time(client):
    client.connection.send_request(Close())
    assert client.sent() == [Close()]


# ---- responses, whole --------------------------------------------------------------------------


def test_a_response_becomes_an_event_with_its_message(client):
    assert client.receive(Ok()) == [ResponseReceived(result=Ok(), message=Blob(bytes(NATIVE.encode_result(Ok()))))]


def test_bytes_that_are_no_response_become_an_event_and_no_answer(client):
    (event,) = client.receive_bytes(b"\xff\xff\xff\xff")
    assert isinstance(event, MessageRefused)
    assert client.sent() == []
    assert len(client.receive(Ok())) == 1


# ---- responses in chunks, put together ---------------------------------------------------------


def test_a_response_without_a_header_is_put_together(client):
    client.receive_chunk(5, 1, 2, MESSAGE[50:])
    events = client.receive_chunk(5, 0, 2, MESSAGE[:50])
    assert events[-2:] == [
        StreamCompleted(stream_id=5, nbytes=len(MESSAGE)),
        ResponseReceived(result=RESPONSE, message=Blob(MESSAGE), stream_id=5),
    ]


def test_a_response_with_a_header_is_put_together_in_exactly_the_announced_room(client):
    header = StreamHeader(stream_id=5, total_bytes=len(MESSAGE), content=Raw())
    assert client.receive(header) == [StreamOpened(header=header)]
    assert client.receive_chunk(5, 0, 2, MESSAGE[:50]) == [SinkRequested(stream_id=5, nbytes=len(MESSAGE))]
    completed, received = client.receive_chunk(5, 1, 2, MESSAGE[50:])
    assert completed == StreamCompleted(stream_id=5, nbytes=len(MESSAGE))
    assert received.result == RESPONSE


def test_a_headers_length_counts_for_one_stream_only(client):
    client.receive_header(5, len(MESSAGE))
    client.receive_chunk(5, 0, 1, MESSAGE)
    assert client.receive_chunk(5, 0, 2, MESSAGE[:50]) == [SinkRequested(stream_id=5, nbytes=2 * CHUNK_SIZE)]


def test_streams_with_and_without_headers_may_take_turns(client):
    client.receive_header(1, len(MESSAGE))
    client.receive_chunk(1, 0, 2, MESSAGE[:50])
    client.receive_chunk(2, 0, 2, MESSAGE[:60])
    assert client.receive_chunk(1, 1, 2, MESSAGE[50:])[-1].stream_id == 1
    assert client.receive_chunk(2, 1, 2, MESSAGE[60:])[-1].stream_id == 2


def test_a_header_that_comes_after_its_first_chunk_is_refused_and_changes_nothing(client):
    """Otherwise half a stream could be taken."""
    client.receive_chunk(1, 0, 2, MESSAGE[:50])
    assert client.receive_header(1, 3) == [MessageRefused(cause="stream 1 was announced after it had begun")]
    with pytest.raises(LocalProtocolError):
        client.connection.take_stream(1)
    assert client.receive_chunk(1, 1, 2, MESSAGE[50:])[-1].result == RESPONSE


def test_a_second_header_of_a_taken_stream_is_refused_and_changes_nothing(client):
    client.receive_header(1, 5)
    client.connection.take_stream(1)
    assert isinstance(client.receive_header(1, 1)[0], MessageRefused)
    client.receive_chunk(1, 0, 2, b"abc")
    assert isinstance(client.receive_chunk(1, 1, 2, b"de")[0], ChunkReceived)


@pytest.mark.parametrize("total_bytes", [MAX_MESSAGE_SIZE + 1, 2**64 - 1])
def test_a_header_with_a_hostile_size_reserves_nothing(client, total_bytes):
    client.receive_header(1, total_bytes)
    (refused,) = client.receive_chunk(1, 0, 2, MESSAGE[:50])
    assert (refused.kind, refused.stream_killed) == (ReassemblyErrorKind.STREAM_TOO_LARGE, True)
    assert client.connection.reassembly.reserved_bytes == 0
    assert client.receive_chunk(1, 1, 2, MESSAGE[50:]) == []
    assert client.sent() == []


def test_a_header_cannot_reserve_more_than_its_chunks_can_hold(client):
    client.receive_header(1, MAX_MESSAGE_SIZE)
    assert client.receive_chunk(1, 0, 2) == [SinkRequested(stream_id=1, nbytes=2 * MAX_CHUNK_DATA_SIZE)]


@pytest.mark.parametrize("total_bytes", [0, 10])
def test_a_stream_longer_than_its_header_said_is_refused(client, total_bytes):
    client.receive_header(1, total_bytes)
    sink, refused = client.receive_chunk(1, 0, 1, MESSAGE)
    assert sink == SinkRequested(stream_id=1, nbytes=total_bytes)
    assert isinstance(refused, ChunkRefused)
    assert refused.kind is ReassemblyErrorKind.STREAM_TOO_LARGE


def test_a_ninth_header_pushes_the_oldest_out(client):
    """As in the reference client; the stream itself is still put together."""
    for stream_id in range(MAX_CONCURRENT_STREAMS + 1):
        client.receive_header(stream_id, len(MESSAGE))
    with pytest.raises(LocalProtocolError, match="stream 0 was not announced"):
        client.connection.take_stream(0)
    client.connection.take_stream(1)
    assert client.receive_chunk(0, 0, 1, MESSAGE)[-1].result == RESPONSE


def test_a_ninth_stream_is_refused(client):
    for stream_id in range(MAX_CONCURRENT_STREAMS):
        client.receive_chunk(stream_id, 0, 2)
    (refused,) = client.receive_chunk(8, 0, 2)
    assert (refused.kind, refused.stream_killed) == (ReassemblyErrorKind.TOO_MANY_STREAMS, False)
    assert client.sent() == []


def test_a_stream_that_is_no_response_becomes_an_event(client):
    completed, refused = client.receive_chunk(1, 0, 1, b"\xff\xff\xff\xff")[1:]
    assert completed == StreamCompleted(stream_id=1, nbytes=4)
    assert isinstance(refused, MessageRefused)


@pytest.mark.parametrize(
    "inner",
    [
        StreamChunk(stream_id=2, index=0, total=1, data=Blob(b"x")),
        StreamHeader(stream_id=2, total_bytes=9, content=Raw()),
    ],
    ids=["chunk", "header"],
)
def test_a_stream_within_a_stream_is_refused(client, inner):
    events = client.receive_chunk(1, 0, 1, bytes(NATIVE.encode_result(inner)))
    assert events[-1] == MessageRefused(cause="the message of stream 1 is itself part of a stream")
    with pytest.raises(LocalProtocolError):
        client.connection.take_stream(2)


def test_a_stream_expires_and_the_server_is_told_nothing(client):
    client.receive_chunk(1, 0, 2, now=5.0)
    assert client.connection.next_deadline() == 5.0 + STREAM_TTL_S
    client.connection.handle_deadline(65.0)
    (refused,) = client.take_events()
    assert (refused.kind, refused.stream_id) == (ReassemblyErrorKind.EXPIRED, 1)
    assert client.sent() == []


def test_a_stream_that_the_shell_has_no_room_for_is_refused(client):
    chunk = StreamChunk(stream_id=1, index=0, total=2, data=Blob(b"a"))
    client.connection.receive_message(Blob(bytes(NATIVE.encode_result(chunk))), 0.0)
    client.connection.next_event()
    client.connection.provide_sink(1, SinkRefused("no room"), 0.0)
    (refused,) = client.take_events()
    assert (refused.kind, refused.text) == (ReassemblyErrorKind.OUT_OF_BUDGET, "no room")


def test_the_limits_are_the_callers():
    client = Client(limits=Limits(max_concurrent_streams=1))
    client.receive_chunk(1, 0, 2)
    assert client.receive_chunk(2, 0, 2)[0].kind is ReassemblyErrorKind.TOO_MANY_STREAMS


# ---- responses in chunks, one by one -----------------------------------------------------------


def test_the_chunks_of_a_taken_stream_come_as_they_arrive(client):
    """After a header the reference client goes by arrival, so indices are only reported."""
    client.receive_header(1, 5)
    client.connection.take_stream(1)
    assert client.receive_chunk(1, 1, 2, b"abc") == [ChunkReceived(stream_id=1, index=1, total=2, data=Blob(b"abc"))]
    assert client.receive_chunk(1, 0, 2, b"de") == [ChunkReceived(stream_id=1, index=0, total=2, data=Blob(b"de"))]
    assert client.connection.reassembly.reserved_bytes == 0


def test_a_taken_stream_ends_with_the_announced_bytes_and_its_id_is_free_then(client):
    client.receive_header(1, 5)
    client.connection.take_stream(1)
    client.receive_chunk(1, 0, 2, b"abc")
    client.receive_chunk(1, 1, 2, b"de")
    assert client.receive_chunk(1, 0, 1, MESSAGE)[-1].result == RESPONSE


def test_an_empty_taken_stream_ends_with_its_only_chunk(client):
    client.receive_header(1, 0)
    client.connection.take_stream(1)
    assert len(client.receive_chunk(1, 0, 1)) == 1
    assert isinstance(client.receive_chunk(1, 0, 1, MESSAGE)[-1], ResponseReceived)


def test_other_streams_are_put_together_while_one_is_taken(client):
    client.receive_header(1, 100)
    client.connection.take_stream(1)
    client.receive_chunk(1, 0, 2, b"abc")
    assert client.receive_chunk(2, 0, 1, MESSAGE)[-1].result == RESPONSE
    assert isinstance(client.receive_chunk(1, 1, 2, b"de")[0], ChunkReceived)


@pytest.mark.parametrize("is_announced", [False, True])
def test_a_stream_that_was_not_announced_or_has_begun_cannot_be_taken(client, is_announced):
    if is_announced:
        client.receive_header(1, 100)
        client.receive_chunk(1, 0, 2)
    with pytest.raises(LocalProtocolError, match="stream 1 was not announced"):
        client.connection.take_stream(1)


def test_a_stream_cannot_be_taken_twice(client):
    client.receive_header(1, 100)
    client.connection.take_stream(1)
    with pytest.raises(LocalProtocolError):
        client.connection.take_stream(1)


# ---- the end -----------------------------------------------------------------------------------


def test_a_lost_connection_gives_tokens_and_sinks_back(client):
    client.connection.send_request(put(CHUNK_THRESHOLD + 1), token="put")
    client.connection.send_request(Get(key=KEY.instance), token="get")
    client.connection.send_request(Get(key=OTHER.instance), token="sent")
    client.receive_chunk(1, 0, 2, b"a")
    assert client.connection.next_message().token == "sent"
    assert sorted(client.connection.connection_lost()) == ["get", "put"]
    assert len(client.connection.reassembly) == 0
    with pytest.raises(LocalProtocolError, match="connection that is lost"):
        client.connection.send_request(Close())


def test_a_not_found_is_a_response_like_any_other(client):
    (event,) = client.receive(NotFound(instance_id=KEY.instance))
    assert event.result == NotFound(instance_id=KEY.instance)
    assert event.stream_id is None
