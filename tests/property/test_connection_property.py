"""Both ends back to back: whatever is asked, answered and told arrives whole, once, and in the order promised."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.connection import ClientConnection, ServerConnection
from simnode.protocol.events import (
    ChunkReceived,
    RequestReceived,
    ResponseReceived,
    SinkRequested,
    StreamCompleted,
    StreamOpened,
)
from simnode.protocol.limits import CHUNK_SIZE, CHUNK_THRESHOLD
from simnode.protocol.messages.contracts import ContractKey, State
from simnode.protocol.messages.requests import ClientRequest, Get, Update
from simnode.protocol.messages.responses import GetResponse, HostResult, UpdateNotification, UpdateResponse
from simnode.protocol.reassembly import HeapSink

KEYS = [ContractKey(bytes([number]) * 32, b"c" * 32) for number in range(3)]
CONTENT = memoryview(bytes(range(256)) * 4096)

keys = st.sampled_from(KEYS)
lengths = st.sampled_from([0, 1, 1000, CHUNK_THRESHOLD - 100, CHUNK_THRESHOLD + 1, 3 * CHUNK_SIZE, 3 * CHUNK_SIZE + 1])
steps = st.sampled_from([1, 2, 5, 10, 20])


def numbered(number: int, nbytes: int) -> Blob:
    """A payload that says which it is."""
    return Blob(number.to_bytes(8, "big") + CONTENT[:nbytes])


def number_of(payload: Blob) -> int:
    assert payload.view[8:] == CONTENT[: len(payload) - 8]
    return int.from_bytes(payload.view[:8], "big")


class BackToBack(RuleBasedStateMachine):
    """Two connections, two wires; the model is what was said, by contract, in order."""

    @initialize(encoding=st.sampled_from(Encoding), streaming=st.booleans(), takes_streams=st.booleans())
    def connect(self, encoding, streaming, takes_streams):
        codec = codec_for(encoding)
        self.server = ServerConnection(codec=codec, streaming=streaming, first_stream_id=2**32 - 2)
        self.client = ClientConnection(codec=codec, first_stream_id=2**32 - 1)
        self.takes_streams = takes_streams
        self.to_server: deque[bytes] = deque()
        self.to_client: deque[bytes] = deque()
        self.said = 0
        self.tokens: list[int] = []
        self.returned: list[object] = []
        self.asked: list[ClientRequest] = []
        self.received: list[ClientRequest] = []
        #: by number of a received request: its ticket
        self.pending: dict[int, object] = {}
        self.forgotten: set[int] = set()
        self.told: list[tuple[ContractKey, int]] = []
        self.results: list[HostResult] = []
        #: by id of a taken stream: its bytes so far and how many there are to be
        self.taken: dict[int, tuple[bytearray, int]] = {}

    # ---- what the two programs do

    def token(self) -> int:
        self.tokens.append(len(self.tokens))
        return self.tokens[-1]

    @rule(several=st.lists(keys, min_size=1, max_size=6))
    def get(self, several):
        for key in several:
            self.ask(Get(key=key.instance))

    @rule(key=keys, nbytes=lengths)
    def update(self, key, nbytes):
        self.ask(Update(key=key, data=State(state=numbered(len(self.asked), nbytes))))

    def ask(self, request: ClientRequest) -> None:
        self.asked.append(request)
        self.client.send_request(request, token=self.token())

    @precondition(lambda self: self.pending)
    @rule(random=st.randoms(use_true_random=False), several=st.lists(lengths, min_size=1, max_size=6))
    def answer(self, random, several):
        for nbytes in several[: len(self.pending)]:
            self.answer_one(random.choice(sorted(self.pending)), nbytes)

    def answer_one(self, number: int, nbytes: int) -> None:
        match self.received[number]:
            case Get(key=instance):
                (key,) = (key for key in KEYS if key.instance == instance)
                result = GetResponse(key=key, contract=None, state=numbered(number, nbytes))
            case Update(key=key):
                result = UpdateResponse(key=key, summary=numbered(number, nbytes))
        self.server.send_response(self.pending.pop(number), result, token=self.token())

    @precondition(lambda self: self.pending)
    @rule(random=st.randoms(use_true_random=False))
    def forget(self, random):
        number = random.choice(sorted(self.pending))
        self.server.forget(self.pending.pop(number))
        self.forgotten.add(number)

    @rule(key=keys, nbytes=lengths)
    def notify(self, key, nbytes):
        self.told.append((key, len(self.told)))
        update = State(state=numbered(len(self.told) - 1, nbytes))
        self.server.send_notification(UpdateNotification(key=key, update=update), token=self.token())

    # ---- what the two shells do

    @rule(count=steps)
    def client_sends(self, count):
        self.send(self.client, self.to_server, count)

    @rule(count=steps)
    def server_sends(self, count):
        self.send(self.server, self.to_client, count)

    def send(self, sender: ClientConnection | ServerConnection, wire: deque[bytes], count: int) -> None:
        for _ in range(count):
            message = sender.next_message()
            if message is None:
                return
            wire.append(bytes(message.data))
            if message.token is not None:
                self.returned.append(message.token)

    @rule(count=steps)
    def server_receives(self, count):
        for _ in range(min(count, len(self.to_server))):
            self.server.receive_message(Blob(self.to_server.popleft()), 0.0)
            while (event := self.server.next_event()) is not None:
                match event:
                    case SinkRequested(stream_id=stream_id, nbytes=nbytes):
                        self.server.provide_sink(stream_id, HeapSink(nbytes), 0.0)
                    case RequestReceived(ticket=ticket, request=request):
                        self.pending[len(self.received)] = ticket
                        self.received.append(request)
                    case _:
                        assert isinstance(event, StreamCompleted)

    @rule(count=steps)
    def client_receives(self, count):
        for _ in range(min(count, len(self.to_client))):
            self.client.receive_message(Blob(self.to_client.popleft()), 0.0)
            while (event := self.client.next_event()) is not None:
                self.client_handles(event)

    def client_handles(self, event: object) -> None:
        match event:
            case SinkRequested(stream_id=stream_id, nbytes=nbytes):
                self.client.provide_sink(stream_id, HeapSink(nbytes), 0.0)
            case StreamOpened(header=header):
                if self.takes_streams:
                    self.client.take_stream(header.stream_id)
                    self.taken[header.stream_id] = (bytearray(), header.total_bytes)
            case ChunkReceived(stream_id=stream_id, data=data):
                content, nbytes = self.taken[stream_id]
                content += data.view
                if len(content) == nbytes:
                    del self.taken[stream_id]
                    self.results.append(self.client.codec.decode_result(Blob(content)))
            case ResponseReceived(result=result):
                self.results.append(result)
            case _:
                assert isinstance(event, StreamCompleted)

    @invariant()
    def both_ends_are_consistent(self):
        for end in (self.client, self.server):
            end.outbox.check_invariants()
            end.reassembly.check_invariants()

    # ---- what was promised

    def teardown(self):
        while True:
            for number in sorted(self.pending, reverse=True):
                self.answer_one(number, 2 * number)
            self.client_sends(100)
            self.server_sends(100)
            if not self.to_server and not self.to_client:
                break
            self.server_receives(100)
            self.client_receives(100)
        self.requests_arrive_in_the_order_of_each_contract()
        self.replies_arrive_in_the_order_of_their_requests()
        self.notifications_arrive_in_order()
        assert sorted(self.returned) == self.tokens
        for end in (self.client, self.server):
            assert not end.outbox
            assert end.outbox.due_bytes == end.outbox.due_chunks == len(end.reassembly) == 0
            assert end.connection_lost() == []

    def requests_arrive_in_the_order_of_each_contract(self):
        assert len(self.received) == len(self.asked)
        for key in KEYS:
            assert [request for request in self.received if instance_of(request) == key.instance] == [
                request for request in self.asked if instance_of(request) == key.instance
            ]

    def replies_arrive_in_the_order_of_their_requests(self):
        numbers = [number_of(reply.state) for reply in self.results if isinstance(reply, GetResponse)]
        by_kind = {Get: numbers, Update: []}
        by_key = {key.instance: [] for key in KEYS}
        for reply in self.results:
            match reply:
                case GetResponse(key=key, state=state):
                    by_key[key.instance].append(number_of(state))
                case UpdateResponse(key=key, summary=summary):
                    by_key[key.instance].append(number_of(summary))
                    by_kind[Update].append(number_of(summary))
        expected = [number for number in range(len(self.received)) if number not in self.forgotten]
        for instance, numbers in by_key.items():
            assert numbers == [number for number in expected if instance_of(self.received[number]) == instance]
        if self.server.codec.replies_match_by_kind:
            for kind, numbers in by_kind.items():
                assert numbers == [number for number in expected if isinstance(self.received[number], kind)]

    def notifications_arrive_in_order(self):
        seen = [
            (reply.key.instance, number_of(reply.update.state))
            for reply in self.results
            if isinstance(reply, UpdateNotification)
        ]
        for key in KEYS:
            assert [number for instance, number in seen if instance == key.instance] == [
                number for told, number in self.told if told == key
            ]


def instance_of(request: ClientRequest) -> bytes:
    return request.key if isinstance(request, Get) else request.key.instance


TestBackToBack = BackToBack.TestCase
TestBackToBack.settings = settings(max_examples=60, stateful_step_count=30)
