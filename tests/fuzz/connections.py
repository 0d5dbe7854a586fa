"""What must hold whatever a peer sends to a connection, in whatever order and at whatever time.

Enters: a script (`script.py`). Leaves: nothing, or an exception that is a finding.

- Nothing escapes from `receive_message` and its companions.
- The books are right after every step (`check_invariants`).
- Every refusal is answered exactly once, in the connection's encoding.
- Every sink is finished or discarded exactly once, every token comes back exactly once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import IntEnum

from simnode.protocol.blob import Blob, Buffer, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Codec, Encoding
from simnode.protocol.connection import ClientConnection, ServerConnection
from simnode.protocol.events import (
    ChunkReceived,
    ChunkRefused,
    Event,
    MessageRefused,
    RequestReceived,
    SinkRequested,
    StreamOpened,
)
from simnode.protocol.limits import CHUNK_SIZE, CHUNK_THRESHOLD, MIB, Limits
from simnode.protocol.messages.contracts import ContractKey, State
from simnode.protocol.messages.requests import Get, StreamChunk, Update
from simnode.protocol.messages.responses import (
    Err,
    GetResponse,
    PutResponse,
    Raw,
    StreamHeader,
    UpdateNotification,
)
from simnode.protocol.reassembly import SinkRefused
from tests.fuzz.script import Script

ENCODINGS = list(Encoding)
KEYS = [ContractKey(bytes([number]) * 32, b"c" * 32) for number in range(3)]
LARGE = Blob(bytes(CHUNK_THRESHOLD + CHUNK_SIZE))
NARROW = Limits(
    max_message_bytes=MIB,
    max_chunk_data_bytes=300,
    max_concurrent_streams=3,
    stream_ttl_s=10.0,
    max_connection_bytes=5 * MIB // 2,
)
"""Every limit within a few steps' reach."""

MAX_STEPS = 48

MAX_LARGE = 2
"""Messages that go in chunks, a script: they take most of the time."""


class Step(IntEnum):
    """What a byte of the script stands for; chunks come twice, because most findings need several."""

    MESSAGE = 0
    CHUNK = 1
    CHUNK_AGAIN = 2
    WAIT = 3
    SINKS = 4
    SAY = 5
    SEND = 6
    ABORT = 7
    HEADER = 8


class FuzzSink:
    """Room that is not there until it is written to, and that knows what was done with it."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.ended = ""
        self._room = bytearray()

    def write(self, offset: int, data: Buffer) -> None:
        stop = offset + len(data)
        assert not self.ended, f"written to after it was {self.ended}"
        assert stop <= self.nbytes, f"{stop} bytes written, {self.nbytes} asked for"
        self._room.extend(bytes(max(0, stop - len(self._room))))
        self._room[offset:stop] = data

    def read(self, start: int, stop: int) -> Buffer:
        assert 0 <= start <= stop <= len(self._room)
        return bytes(self._room[start:stop])

    def finish(self, nbytes: int) -> Blob:
        assert not self.ended, f"finished after it was {self.ended}"
        assert nbytes == len(self._room)
        self.ended = "finished"
        return Blob(bytes(self._room))

    def discard(self) -> None:
        assert not self.ended, f"discarded after it was {self.ended}"
        self.ended = "discarded"


class Fuzzed(ABC):
    """A connection and the shell around it, driven by a script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.codec: Codec = codec_for(ENCODINGS[script.number(len(ENCODINGS))])
        flags = script.number()
        self.streaming = bool(flags & 1)
        self.limits = NARROW if flags & 2 else Limits()
        self.takes_streams = bool(flags & 4)
        self.grants_sinks = True
        self.answers_at_once = True
        self.now = 0.0
        self.connection: ServerConnection | ClientConnection
        self.sinks: list[FuzzSink] = []
        self.wanted_sinks: list[SinkRequested] = []
        self.tokens_given = 0
        self._large_left = MAX_LARGE
        self.tokens_back: list[object] = []

    def run(self) -> None:
        """Does what the script says, then ends the connection and balances the books."""
        for _ in range(MAX_STEPS):
            if not self.script:
                break
            self.step(Step(self.script.number(len(Step))))
            self.check()
        self.give_sinks()
        self.send_all()
        self.check()
        self.tokens_back += self.connection.connection_lost()
        assert sorted(map(str, self.tokens_back)) == sorted(map(str, range(self.tokens_given)))
        assert all(sink.ended for sink in self.sinks), "a sink was lost"

    def step(self, step: Step) -> None:
        match step:
            case Step.MESSAGE:
                self.receive(self.script.message())
            case Step.CHUNK | Step.CHUNK_AGAIN:
                self.receive(self.chunk())
            case Step.WAIT:
                self.now += self.script.number() / 4
                due = self.connection.next_deadline()
                if due is not None and due <= self.now:
                    self.connection.handle_deadline(self.now)
                    self.take_events()
            case Step.SINKS:
                choice = self.script.number(4)
                self.grants_sinks, self.answers_at_once = bool(choice & 1), bool(choice & 2)
                self.give_sinks()
            case Step.SAY:
                self.say(self.script.number())
            case Step.SEND:
                for _ in range(self.script.number(8)):
                    self.send_one()
            case Step.ABORT:
                self.connection.abort_stream(self.script.number(6), "room is needed", self.now)
                self.take_events()
            case Step.HEADER:
                self.header()

    def receive(self, message: bytes) -> None:
        self.give_sinks()  # the contract of `provide_sink`: nothing is received before it
        self.connection.receive_message(Blob(message), self.now)
        self.take_events()

    def take_events(self) -> None:
        while (event := self.connection.next_event()) is not None:
            if isinstance(event, SinkRequested):
                self.wanted_sinks.append(event)
            else:
                self.handle(event)
            if self.answers_at_once:
                self.give_sinks()

    def give_sinks(self) -> None:
        while self.wanted_sinks:
            wanted = self.wanted_sinks.pop(0)
            if self.grants_sinks:
                self.sinks.append(FuzzSink(wanted.nbytes))
                self.connection.provide_sink(wanted.stream_id, self.sinks[-1], self.now)
            else:
                self.connection.provide_sink(wanted.stream_id, SinkRefused("no room"), self.now)
            self.take_events()

    def payload(self, choice: int) -> Blob:
        """Something that this end has to say."""
        if choice & 8 and self._large_left:
            self._large_left -= 1
            return LARGE
        return Blob(b"small")

    def token(self) -> int:
        self.tokens_given += 1
        return self.tokens_given - 1

    def send_all(self) -> None:
        while self.send_one():
            pass

    def send_one(self) -> bool:
        message = self.connection.next_message()
        if message is None:
            return False
        if message.token is not None:
            self.tokens_back.append(message.token)
        self.sent(Blob(bytes(message.data)))
        return True

    def check(self) -> None:
        self.connection.reassembly.check_invariants()
        self.connection.outbox.check_invariants()

    def numbers_of_a_chunk(self) -> dict[str, int]:
        """Small, so that chunks meet; 255 stands for more than any limit."""
        stream_id, index, total = self.script.number(6), self.script.number(), self.script.number()
        return {"stream_id": stream_id, "index": index, "total": 257 if total == 255 else total}

    def chunk(self) -> bytes:
        """A chunk: around whatever the script says."""
        numbers, data = self.numbers_of_a_chunk(), Rope([self.script.message()])
        return bytes(self.encode_chunk(**numbers, data=data))

    @abstractmethod
    def encode_chunk(self, *, stream_id: int, index: int, total: int, data: Rope) -> Rope:
        """A chunk for this end."""

    @abstractmethod
    def handle(self, event: Event) -> None:
        """Any event but `SinkRequested`."""

    @abstractmethod
    def say(self, choice: int) -> None:
        """This end's program says something."""

    @abstractmethod
    def sent(self, message: Blob) -> None:
        """A message went out."""

    @abstractmethod
    def header(self) -> None:
        """A StreamHeader comes in, if there is such a thing."""


class FuzzedServer(Fuzzed):
    """The node's end."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.connection: ServerConnection = ServerConnection(
            codec=self.codec, streaming=self.streaming, limits=self.limits, first_stream_id=2**32 - 2
        )
        self.tickets: list[object] = []
        self.refusals = 0
        self.errors_sent = 0
        self._pieces: dict[int, list[bytes]] = {}

    def run(self) -> None:
        super().run()
        assert self.errors_sent <= self.refusals
        assert self.errors_sent == self.refusals, f"{self.refusals} refusals, {self.errors_sent} errors told"

    def encode_chunk(self, *, stream_id: int, index: int, total: int, data: Rope) -> Rope:
        return self.codec.encode_request_chunk(stream_id=stream_id, index=index, total=total, data=data)

    def handle(self, event: Event) -> None:
        match event:
            case RequestReceived(ticket=ticket):
                self.tickets.append(ticket)
            case MessageRefused() | ChunkRefused():
                self.refusals += 1

    def say(self, choice: int) -> None:
        key = KEYS[choice % len(KEYS)]
        if choice & 4:
            update = UpdateNotification(key=key, update=State(state=self.payload(choice)))
            self.connection.send_notification(update, token=self.token())
        elif self.tickets:
            ticket = self.tickets.pop(choice % len(self.tickets))
            if choice & 16:
                self.connection.forget(ticket)
            elif choice & 32:
                answer = GetResponse(key=key, contract=None, state=self.payload(choice))
                self.connection.send_response(ticket, answer, token=self.token())
            else:
                self.connection.send_response(ticket, PutResponse(key=key), token=self.token())
        elif choice & 64:
            self.connection.refuse_message("no room for it")
            self.take_events()

    def sent(self, message: Blob) -> None:
        result = self.codec.decode_result(message)
        if isinstance(result, StreamChunk):
            pieces = self._pieces.setdefault(result.stream_id, [])
            pieces.append(bytes(result.data))
            if len(pieces) < result.total:
                return
            result = self.codec.decode_result(Blob(b"".join(self._pieces.pop(result.stream_id))))
        self.errors_sent += isinstance(result, Err)

    def header(self) -> None:
        """A server knows none; its bytes are one more message that is no request."""
        self.receive(bytes(self.codec.encode_result(PutResponse(key=KEYS[0]))))


class FuzzedClient(Fuzzed):
    """The client's end."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.connection: ClientConnection = ClientConnection(
            codec=self.codec, limits=self.limits, first_stream_id=2**32 - 2
        )

    def encode_chunk(self, *, stream_id: int, index: int, total: int, data: Rope) -> Rope:
        return self.codec.encode_result_chunk(stream_id=stream_id, index=index, total=total, data=data)

    def handle(self, event: Event) -> None:
        match event:
            case StreamOpened(header=header):
                if self.takes_streams:
                    self.connection.take_stream(header.stream_id)
            case ChunkReceived():
                assert self.takes_streams

    def say(self, choice: int) -> None:
        key = KEYS[choice % len(KEYS)]
        if choice & 4:
            update = Update(key=key, data=State(state=self.payload(choice)))
            self.connection.send_request(update, token=self.token())
        else:
            self.connection.send_request(Get(key=key.instance), token=self.token())

    def sent(self, message: Blob) -> None:
        self.codec.decode_request(message)

    def header(self) -> None:
        stream_id, total_bytes = self.script.number(6), int.from_bytes(self.script.piece(4), "little")
        if self.codec.has_stream_header:
            header = StreamHeader(stream_id=stream_id, total_bytes=total_bytes, content=Raw())
            self.receive(bytes(self.codec.encode_result(header)))


def check_server(data: bytes) -> None:
    """Whatever clients send, a server goes on and keeps its books."""
    FuzzedServer(Script(data)).run()


def check_client(data: bytes) -> None:
    """Whatever a server sends, a client goes on and keeps its books."""
    FuzzedClient(Script(data)).run()
