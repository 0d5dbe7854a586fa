import pytest

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.chunking import Framed, cut_into_chunks
from simnode.protocol.codec.native import NativeCodec
from simnode.protocol.connection import ServerConnection
from simnode.protocol.errors import DecodeError, EncodeError, LocalProtocolError, ReassemblyErrorKind
from simnode.protocol.events import (
    ChunkRefused,
    Event,
    MessageRefused,
    RequestReceived,
    SinkRequested,
    StreamCompleted,
)
from simnode.protocol.limits import CHUNK_SIZE, CHUNK_THRESHOLD, MAX_CONCURRENT_STREAMS, MAX_RESPONSE_SIZE, Limits
from simnode.protocol.messages.contracts import ContractContainer, ContractKey, State
from simnode.protocol.messages.error_kinds import DeserializationError, OperationError, PutError, Unhandled
from simnode.protocol.messages.requests import (
    Close,
    Get,
    Put,
    QueryConnectedPeers,
    StreamChunk,
    Subscribe,
    Update,
)
from simnode.protocol.messages.responses import (
    ConnectedPeers,
    Err,
    GetResponse,
    GetResponseContent,
    NotFound,
    Ok,
    PutResponse,
    StreamHeader,
    UpdateNotification,
    UpdateResponse,
)
from simnode.protocol.reassembly import HeapSink, SinkRefused
from tests.support.vectors import counting_bytes, load_json

NATIVE = NativeCodec()
KEY = ContractKey(b"a" * 32, b"c" * 32)
OTHER = ContractKey(b"b" * 32, b"c" * 32)
CONTRACT = ContractContainer(data=Blob(b"wasm"), code_hash=KEY.code, params=Blob(), key=KEY)
#: bytes of a serialized GetResponse around its state: two tags and a result's, the key, no contract, a length
GET_ENVELOPE = 3 * 4 + 64 + 1 + 8

REASSEMBLY = load_json("behaviour.json")["reassembly"]
NEGATIVE = load_json("behaviour.json")["negative"]


class HeaderlessCodec(NativeCodec):
    """Native bytes with the manners of flatbuffers."""

    has_stream_header = False
    replies_match_by_kind = True


class MuteCodec(NativeCodec):
    """An encoding that has no way to say who is connected."""

    def encode_result(self, result):
        if isinstance(result, ConnectedPeers):
            raise EncodeError("this encoding has no ConnectedPeers")
        return super().encode_result(result)


class UnusableEncoder(NativeCodec):
    """Must not be asked to encode a whole message."""

    def encode_result(self, result):
        raise AssertionError("it was serialized already")


class Node:
    """A shell around a connection: grants every sink and keeps every event."""

    def __init__(self, codec=NATIVE, *, streaming=True, **options) -> None:
        self.connection = ServerConnection(codec=codec, streaming=streaming, **options)
        self.events: list[Event] = []

    def receive(self, request, now=0.0) -> list[Event]:
        return self.receive_bytes(bytes(NATIVE.encode_request(request)), now)

    def receive_bytes(self, message: bytes, now=0.0) -> list[Event]:
        self.connection.receive_message(Blob(message), now)
        return self.take_events(now)

    def receive_chunk(self, stream_id, index, total, data=b"", now=0.0) -> list[Event]:
        return self.receive(StreamChunk(stream_id=stream_id, index=index, total=total, data=Blob(data)), now)

    def receive_ticket(self, request):
        (event,) = self.receive(request)
        return event.ticket

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
        results = [NATIVE.decode_result(Blob(message)) for message in self.sent_bytes()]
        self.connection.outbox.check_invariants()
        return results


@pytest.fixture
def node():
    return Node()


def get_response(nbytes: int, *, key=KEY, contract=None) -> GetResponse:
    """A GetResponse that is `nbytes` long when serialized without a contract."""
    return GetResponse(key=key, contract=contract, state=Blob(counting_bytes(nbytes - GET_ENVELOPE)))


def unhandled(text: str) -> Err:
    return Err(Unhandled(cause=text))


# ---- requests ----------------------------------------------------------------------------------


def test_a_request_becomes_an_event_with_its_message_and_its_ticket(node):
    message = bytes(NATIVE.encode_request(Get(key=KEY.instance)))
    (event,) = node.receive_bytes(message)
    assert isinstance(event, RequestReceived)
    assert event.request == Get(key=KEY.instance)
    assert event.message == message
    node.connection.send_response(event.ticket, NotFound(instance_id=KEY.instance))
    assert node.sent() == [NotFound(instance_id=KEY.instance)]


def test_the_payload_of_a_request_is_a_slice_of_its_message(node):
    message = Blob(bytes(NATIVE.encode_request(Put(contract=CONTRACT, state=Blob(b"state")))), origin="segment")
    node.connection.receive_message(message, 0.0)
    (event,) = node.take_events()
    assert event.request.state.origin == "segment"
    assert message.view[event.request.state.start : event.request.state.stop] == b"state"


@pytest.mark.parametrize(
    "vector",
    [vector for vector in NEGATIVE if vector["encoding"] == "native" and not vector["accepted"]],
    ids=lambda vector: vector["name"],
)
def test_an_undecodable_request_is_answered_as_the_reference_does_and_the_connection_lives(node, vector):
    assert node.receive_bytes(bytes.fromhex(vector["hex"])) == [MessageRefused(cause=vector["error"])]
    assert [reply.hex() for reply in node.sent_bytes()] == [vector["server_reply_hex"]]
    assert len(node.receive(Close())) == 1


def test_a_message_that_the_shell_threw_away_is_answered(node):
    node.connection.refuse_message("no room for a message of 99 bytes")
    assert node.take_events() == [MessageRefused(cause="no room for a message of 99 bytes", was_read=False)]
    assert node.sent() == [unhandled("no room for a message of 99 bytes")]


# ---- requests in chunks ------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
def test_a_request_in_chunks_is_put_together_whatever_the_streaming_flag_says(streaming):
    node = Node(streaming=streaming)
    put = Put(contract=CONTRACT, state=Blob(b"0123456789"))
    message = bytes(NATIVE.encode_request(put))
    assert node.receive_chunk(3, 1, 2, message[50:]) == [SinkRequested(stream_id=3, nbytes=2 * CHUNK_SIZE)]
    events = node.receive_chunk(3, 0, 2, message[:50])
    assert events[:2] == [
        SinkRequested(stream_id=3, nbytes=len(message)),
        StreamCompleted(stream_id=3, nbytes=len(message)),
    ]
    assert events[2].request == put
    assert events[2].message == message
    assert node.sent() == []


@pytest.mark.parametrize(
    "vector",
    [vector for vector in REASSEMBLY if "error" in vector["last"]],
    ids=lambda vector: vector["name"],
)
def test_a_bad_chunk_is_answered_with_the_references_bytes(node, vector):
    for stream_id, index, total, data in vector["chunks"]:
        assert node.sent_bytes() == []
        events = node.receive_chunk(stream_id, index, total, bytes.fromhex(data))
    refused = events[-1]
    assert isinstance(refused, ChunkRefused)
    assert refused.stream_id == stream_id
    assert refused.text == vector["last"]["error"]
    assert [reply.hex() for reply in node.sent_bytes()] == [vector["last"]["server_reply_hex"]]


@pytest.mark.parametrize(
    "vector",
    [vector for vector in REASSEMBLY if "error" not in vector["last"]],
    ids=lambda vector: vector["name"],
)
def test_a_good_sequence_of_chunks_is_put_together_as_the_reference_does(node, vector):
    """The golden payloads are no requests, so what was put together shows in why it is refused."""
    for chunk in vector["chunks"]:
        events = node.receive_chunk(*chunk[:3], bytes.fromhex(chunk[3]))
    if vector["last"] == "incomplete":
        assert all(isinstance(event, SinkRequested) for event in events)
        assert node.sent_bytes() == []
        return
    message = bytes.fromhex(vector["last"]["complete"])
    assert StreamCompleted(stream_id=vector["chunks"][-1][0], nbytes=len(message)) in events
    with pytest.raises(DecodeError) as refused:
        NATIVE.decode_request(Blob(message))
    assert events[-1] == MessageRefused(cause=str(refused.value))
    assert node.sent()[-1] == Err(DeserializationError(cause=str(refused.value)))


def test_a_chunked_message_that_is_no_request_is_answered_and_the_connection_lives(node):
    events = node.receive_chunk(1, 0, 1, b"\xff\xff\xff\xff")
    assert events[1] == StreamCompleted(stream_id=1, nbytes=4)
    assert isinstance(events[2], MessageRefused)
    (reply,) = node.sent()
    assert reply == Err(DeserializationError(cause=events[2].cause))
    assert len(node.receive(Close())) == 1


def test_a_chunk_within_chunks_is_refused(node):
    inner = NATIVE.encode_request(StreamChunk(stream_id=9, index=0, total=1, data=Blob(b"x")))
    events = node.receive_chunk(1, 0, 1, bytes(inner))
    text = "the message of stream 1 is itself a StreamChunk"
    assert events[-1] == ChunkRefused(stream_id=1, kind=ReassemblyErrorKind.NESTED, text=text, stream_killed=True)
    assert node.sent() == [unhandled(f"stream reassembly error: {text}")]
    assert 9 not in node.connection.reassembly


def test_the_late_chunks_of_a_killed_stream_earn_neither_event_nor_answer(node):
    node.receive_chunk(1, 0, 2)
    (refused,) = node.receive_chunk(1, 1, 3)
    assert refused.stream_killed
    assert len(node.sent()) == 1
    assert node.receive_chunk(1, 1, 2) == []
    assert node.sent() == []


def test_a_ninth_stream_is_refused_and_the_eight_complete(node):
    message = bytes(NATIVE.encode_request(Close()))
    for stream_id in range(MAX_CONCURRENT_STREAMS):
        node.receive_chunk(stream_id, 0, 2, message[:2])
    (refused,) = node.receive_chunk(8, 0, 2, message[:2])
    assert (refused.kind, refused.stream_killed) == (ReassemblyErrorKind.TOO_MANY_STREAMS, False)
    for stream_id in range(MAX_CONCURRENT_STREAMS):
        assert node.receive_chunk(stream_id, 1, 2, message[2:])[-1].request == Close()


def test_a_stream_without_room_is_answered_with_the_shells_reason(node):
    chunk = StreamChunk(stream_id=1, index=0, total=2, data=Blob(b"a"))
    node.connection.receive_message(Blob(bytes(NATIVE.encode_request(chunk))), 0.0)
    assert node.connection.next_event() == SinkRequested(stream_id=1, nbytes=2 * CHUNK_SIZE)
    node.connection.provide_sink(1, SinkRefused("the node has no room"), 0.0)
    (refused,) = node.take_events()
    assert refused == ChunkRefused(
        stream_id=1, kind=ReassemblyErrorKind.OUT_OF_BUDGET, text="the node has no room", stream_killed=True
    )
    assert node.sent() == [unhandled("stream reassembly error: the node has no room")]


def test_a_stream_over_the_connections_budget_is_answered_and_the_others_go_on():
    node = Node(limits=Limits(max_connection_bytes=2 * CHUNK_SIZE))
    message = bytes(NATIVE.encode_request(Close()))
    node.receive_chunk(1, 0, 2, message[:2])
    (refused,) = node.receive_chunk(2, 0, 1, message)
    assert refused.kind is ReassemblyErrorKind.OUT_OF_BUDGET
    assert node.sent() == [
        unhandled("stream reassembly error: stream 2 needs 262144 bytes, 0 are left for this connection")
    ]
    assert node.receive_chunk(1, 1, 2, message[2:])[-1].request == Close()


def test_an_idle_connections_stream_expires_and_the_client_is_told(node):
    assert node.connection.next_deadline() is None
    node.receive_chunk(1, 0, 3, now=10.0)
    node.receive_chunk(1, 1, 3, now=20.0)
    assert node.connection.next_deadline() == 80.0
    node.connection.handle_deadline(79.0)
    assert node.take_events() == []
    node.connection.handle_deadline(80.0)
    (refused,) = node.take_events()
    assert (refused.kind, refused.stream_killed) == (ReassemblyErrorKind.EXPIRED, True)
    assert node.sent() == [unhandled("stream reassembly error: stream 1 expired: 2 of 3 chunks, none for 60 s")]
    assert node.connection.next_deadline() is None


def test_an_aborted_stream_is_answered_once(node):
    node.receive_chunk(1, 0, 3)
    node.connection.abort_stream(1, "the node needs the room", 1.0)
    node.connection.abort_stream(1, "the node needs the room", 1.0)
    (refused,) = node.take_events()
    assert (refused.kind, refused.stream_killed) == (ReassemblyErrorKind.OUT_OF_BUDGET, True)
    assert node.sent() == [unhandled("stream reassembly error: the node needs the room")]
    assert node.receive_chunk(1, 1, 3, now=2.0) == []


# ---- responses, whole and in chunks ------------------------------------------------------------


def test_a_response_of_524288_bytes_goes_whole_and_one_byte_more_goes_in_chunks(node):
    """The threshold is about the serialized message: a state of exactly 524,288 bytes is chunked."""
    node.connection.send_unsolicited(get_response(CHUNK_THRESHOLD))
    assert [len(message) for message in node.sent_bytes()] == [CHUNK_THRESHOLD]
    node.connection.send_unsolicited(get_response(CHUNK_THRESHOLD + 1))
    header, *chunks = node.sent()
    assert isinstance(header, StreamHeader)
    assert [len(chunk.data) for chunk in chunks] == [CHUNK_SIZE, CHUNK_SIZE, 1]


def test_a_chunked_response_is_announced_and_its_chunks_are_the_message(node):
    response = get_response(2 * CHUNK_SIZE + 10)
    node.connection.send_unsolicited(response)
    header, *chunks = node.sent()
    assert header == StreamHeader(
        stream_id=0, total_bytes=2 * CHUNK_SIZE + 10, content=GetResponseContent(key=KEY, includes_contract=False)
    )
    assert [(chunk.stream_id, chunk.index, chunk.total) for chunk in chunks] == [(0, 0, 3), (0, 1, 3), (0, 2, 3)]
    assert NATIVE.decode_result(Blob(b"".join(bytes(chunk.data) for chunk in chunks))) == response


def test_the_header_says_when_the_code_is_included(node):
    node.connection.send_unsolicited(get_response(CHUNK_THRESHOLD + 1, contract=CONTRACT))
    assert node.sent()[0].content == GetResponseContent(key=KEY, includes_contract=True)


def large_update(key=KEY) -> UpdateNotification:
    return UpdateNotification(key=key, update=State(state=Blob(bytes(CHUNK_THRESHOLD))))


def test_only_a_get_response_has_a_header(node):
    node.connection.send_notification(large_update())
    node.connection.send_unsolicited(Err(PutError(key=KEY, cause="x" * CHUNK_THRESHOLD)))
    assert all(isinstance(message, StreamChunk) for message in node.sent())


def test_an_encoding_without_headers_sends_none():
    node = Node(HeaderlessCodec())
    node.connection.send_unsolicited(get_response(CHUNK_THRESHOLD + 1))
    assert [type(message) for message in node.sent()] == [StreamChunk] * 3


def test_without_streaming_a_large_response_goes_whole():
    node = Node(streaming=False)
    response = get_response(3 * CHUNK_SIZE)
    node.connection.send_unsolicited(response)
    assert node.sent() == [response]


def test_stream_ids_count_up_and_wrap():
    node = Node(first_stream_id=2**32 - 2)
    for _ in range(3):
        node.connection.send_notification(large_update())
    assert sorted({chunk.stream_id for chunk in node.sent()}) == [0, 2**32 - 2, 2**32 - 1]


def test_stream_ids_start_at_zero_and_whole_messages_take_none(node):
    node.connection.send_unsolicited(Ok())
    node.connection.send_notification(large_update())
    assert {chunk.stream_id for chunk in node.sent() if isinstance(chunk, StreamChunk)} == {0}


def test_a_small_response_overtakes_the_chunks_of_a_large_one(node):
    node.connection.send_unsolicited(get_response(CHUNK_THRESHOLD + 1))
    node.connection.next_message()
    node.connection.next_message()
    node.connection.send_unsolicited(Ok())
    assert node.sent()[0] == Ok()


def test_announced_responses_take_turns(node):
    for _ in range(2):
        node.connection.send_unsolicited(get_response(CHUNK_THRESHOLD + 1))
    assert [message.stream_id for message in node.sent()] == [0, 1] * 4


def test_streams_that_are_not_announced_go_one_after_the_other(node):
    """The reference client drops such a stream 60 s after its first chunk."""
    for key in (KEY, OTHER):
        node.connection.send_notification(large_update(key))
    assert [message.stream_id for message in node.sent()] == [0] * 3 + [1] * 3


def test_a_response_of_64_mib_is_sent_and_a_larger_one_becomes_an_error(node):
    node.connection.send_unsolicited(get_response(MAX_RESPONSE_SIZE))
    assert node.connection.outbox.due_chunks == 256
    node.connection.connection_lost()

    node = Node()
    node.connection.send_unsolicited(get_response(MAX_RESPONSE_SIZE + 1))
    cause = "a response of 67108865 bytes exceeds the maximum of 67108864 bytes"
    assert node.sent() == [Err(OperationError(cause=cause))]


def test_a_response_that_the_encoding_has_not_becomes_an_error_in_its_place():
    node = Node(MuteCodec())
    ticket = node.receive_ticket(QueryConnectedPeers())
    node.connection.send_response(ticket, ConnectedPeers(peers=()), token="T")
    message = node.connection.next_message()
    assert NATIVE.decode_result(Blob(bytes(message.data))) == unhandled("this encoding has no ConnectedPeers")
    assert message.token == "T"


def test_a_large_response_costs_no_memory_before_it_is_asked_for(node):
    """Each chunk is an envelope around a view of the state."""
    state = bytearray(3 * CHUNK_SIZE)
    node.connection.send_unsolicited(GetResponse(key=KEY, contract=None, state=Blob(state)))
    node.connection.next_message()
    node.connection.next_message()
    state[:] = b"x" * len(state)
    message = node.connection.next_message()
    assert bytes(message.data).endswith(b"x" * CHUNK_SIZE)


# ---- another framing ---------------------------------------------------------------------------


def framed_by_copy(message: Rope, encode_chunk) -> Framed:
    """A framing that joins the message first, as a scenario might want to compare."""
    joined = Rope([bytes(message)])
    messages = iter((joined,)) if encode_chunk is None else cut_into_chunks(joined, encode_chunk)
    return Framed(messages=messages, held_bytes=len(joined))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_framing_may_hold_a_large_response_until_it_is_out(streaming):
    node = Node(streaming=streaming, framing=framed_by_copy)
    usual = Node(streaming=streaming)
    for one in (node, usual):
        response = get_response(CHUNK_THRESHOLD + 1)
        mapped = Blob(response.state.view, origin=object())
        one.connection.send_unsolicited(GetResponse(key=response.key, contract=None, state=mapped))
    assert node.connection.outbox.held_bytes == CHUNK_THRESHOLD + 1
    assert usual.connection.outbox.held_bytes == 0, "it is mapped"
    assert node.sent_bytes() == usual.sent_bytes()
    assert node.connection.outbox.held_bytes == 0


def test_a_framing_is_not_asked_about_small_responses():
    def refuse(message, encode_chunk):
        raise AssertionError("a small response is one message")

    node = Node(framing=refuse)
    node.connection.send_unsolicited(get_response(CHUNK_THRESHOLD))
    assert node.connection.next_message() is not None


def test_a_whole_response_holds_its_bytes_in_the_heap_until_it_is_handed_out():
    node = Node()
    node.connection.send_unsolicited(get_response(1000))
    assert node.connection.outbox.held_bytes == node.connection.outbox.due_bytes
    node.connection.next_message()
    assert node.connection.outbox.held_bytes == 0


def test_a_mapped_state_is_not_held_in_the_heap():
    node = Node()
    response = get_response(1000)
    mapped = GetResponse(key=response.key, contract=None, state=Blob(bytes(1000), origin=object()))
    node.connection.send_unsolicited(mapped)
    assert node.connection.outbox.held_bytes == 0


# ---- order of replies --------------------------------------------------------------------------

PUT = Put(contract=CONTRACT, state=Blob())
UPDATE = Update(key=KEY, data=State(state=Blob()))
GET = Get(key=KEY.instance)
SUBSCRIBE = Subscribe(key=KEY.instance)
OTHER_GET = Get(key=OTHER.instance)


@pytest.mark.parametrize("first", [PUT, UPDATE, GET, SUBSCRIBE], ids=lambda request: type(request).__name__)
@pytest.mark.parametrize("second", [PUT, UPDATE, GET, SUBSCRIBE], ids=lambda request: type(request).__name__)
def test_replies_about_one_contract_keep_the_order_of_their_requests(node, first, second):
    slow, fast = node.receive_ticket(first), node.receive_ticket(second)
    node.connection.send_response(fast, Err(OperationError(cause="second")))
    assert node.sent() == []
    node.connection.send_response(slow, Err(OperationError(cause="first")))
    assert [reply.kind.cause for reply in node.sent()] == ["first", "second"]


def test_in_native_replies_about_different_contracts_may_overtake_each_other(node):
    node.receive_ticket(GET)
    node.connection.send_response(node.receive_ticket(OTHER_GET), NotFound(instance_id=OTHER.instance))
    assert node.sent() == [NotFound(instance_id=OTHER.instance)]


def test_a_client_that_matches_by_kind_gets_the_replies_of_one_kind_in_order():
    node = Node(HeaderlessCodec())
    slow, fast, put = node.receive_ticket(GET), node.receive_ticket(OTHER_GET), node.receive_ticket(Close())
    node.connection.send_response(fast, NotFound(instance_id=OTHER.instance))
    node.connection.send_response(put, Ok())
    assert node.sent() == [Ok()]
    node.connection.send_response(slow, get_response(CHUNK_THRESHOLD + 1))
    replies = node.sent()
    assert [type(reply) for reply in replies] == [StreamChunk, StreamChunk, StreamChunk, NotFound]


def test_a_client_that_matches_by_kind_may_get_another_kind_about_another_contract_first():
    node = Node(HeaderlessCodec())
    node.receive_ticket(PUT)
    node.connection.send_response(node.receive_ticket(OTHER_GET), NotFound(instance_id=OTHER.instance))
    assert node.sent() == [NotFound(instance_id=OTHER.instance)]


def test_a_notification_precedes_the_reply_of_the_update_that_caused_it(node):
    get, update = node.receive_ticket(GET), node.receive_ticket(UPDATE)
    node.connection.send_response(get, get_response(100))
    notification = UpdateNotification(key=KEY, update=State(state=Blob(b"new")))
    node.connection.send_notification(notification)
    node.connection.send_response(update, UpdateResponse(key=KEY, summary=Blob()))
    assert [type(reply) for reply in node.sent()] == [GetResponse, UpdateNotification, UpdateResponse]


def test_a_notification_about_another_contract_waits_for_nobody(node):
    get = node.receive_ticket(GET)
    node.connection.send_response(get, get_response(CHUNK_THRESHOLD + 1))
    node.connection.send_notification(UpdateNotification(key=OTHER, update=State(state=Blob(b"new"))))
    assert isinstance(node.sent()[0], UpdateNotification)


@pytest.mark.parametrize("nbytes", [3, CHUNK_THRESHOLD])
def test_a_notification_that_is_serialized_already_is_not_serialized_again(nbytes):
    """One change may have to be told to hundreds of subscribers."""
    notification = UpdateNotification(key=KEY, update=State(state=Blob(counting_bytes(nbytes))))
    encoded = NATIVE.encode_result(notification)
    plain, spared, spared_too = Node(), Node(UnusableEncoder()), Node(UnusableEncoder())
    plain.connection.send_notification(notification)
    for node in (spared, spared_too):
        node.connection.send_notification(notification, encoded=encoded)
    assert spared.sent_bytes() == spared_too.sent_bytes() == plain.sent_bytes()


def test_a_forgotten_request_holds_nobody_up(node):
    forgotten, second = node.receive_ticket(GET), node.receive_ticket(GET)
    node.connection.send_response(second, NotFound(instance_id=KEY.instance))
    node.connection.forget(forgotten)
    assert node.sent() == [NotFound(instance_id=KEY.instance)]


# ---- tokens, the end, misuse -------------------------------------------------------------------


def test_a_token_comes_back_with_the_last_message_of_its_reply(node):
    ticket = node.receive_ticket(GET)
    node.connection.send_response(ticket, get_response(CHUNK_THRESHOLD + 1), token="get")
    node.connection.send_notification(large_update(OTHER), token="notification")
    tokens = [message.token for message in iter(node.connection.next_message, None)]
    assert tokens == [None, None, None, "get", None, None, "notification"]


def test_a_stamp_comes_back_with_the_first_message_of_its_reply(node):
    small, large = node.receive_ticket(GET), node.receive_ticket(OTHER_GET)
    node.connection.send_response(small, get_response(1), stamp="small")
    node.connection.send_response(large, get_response(CHUNK_THRESHOLD + 1), stamp="large")
    messages = list(iter(node.connection.next_message, None))
    assert [message.stamp for message in messages] == ["small", "large", None, None, None]
    assert [message.is_chunk for message in messages] == [False, False, True, True, True]


def test_chunks_are_told_from_other_messages_whatever_becomes_of_them(node):
    encode = node.connection.codec.encode_request
    wrong = [(1, 0, 2), (1, 0, 3), (1, 1, 2), (2, 0, 0)]
    chunks = [StreamChunk(stream_id=one, index=index, total=total, data=Blob(b"x")) for one, index, total in wrong]
    told = [node.connection.receive_message(Blob(bytes(encode(message))), 0.0) for message in (GET, *chunks)]
    assert told == [False, True, True, True, True]
    assert node.connection.receive_message(Blob(b"\xff" * 40), 0.0) is False


def test_a_lost_connection_gives_tokens_and_sinks_back_and_takes_nothing_more(node):
    get, unanswered = node.receive_ticket(GET), node.receive_ticket(OTHER_GET)
    node.connection.send_response(get, get_response(CHUNK_THRESHOLD + 1), token="get")
    node.connection.send_unsolicited(Ok())
    node.receive_chunk(1, 0, 2, b"a")
    assert node.connection.connection_lost() == ["get"]
    assert node.connection.connection_lost() == []
    assert len(node.connection.reassembly) == 0
    assert node.connection.next_deadline() is None
    assert node.sent() == []
    with pytest.raises(LocalProtocolError, match="connection that is lost"):
        node.connection.send_response(unanswered, Ok(), token="late")
    with pytest.raises(LocalProtocolError, match="connection that is lost"):
        node.connection.send_notification(large_update())


def test_two_replies_to_one_request_are_the_shells_mistake(node):
    ticket = node.receive_ticket(PUT)
    node.connection.send_response(ticket, PutResponse(key=KEY))
    with pytest.raises(LocalProtocolError):
        node.connection.send_response(ticket, PutResponse(key=KEY))
    assert node.sent() == [PutResponse(key=KEY)]


def test_something_that_is_no_ticket_is_the_shells_mistake(node):
    with pytest.raises(LocalProtocolError):
        node.connection.send_response(object(), Ok())
    with pytest.raises(LocalProtocolError):
        node.connection.forget(object())
