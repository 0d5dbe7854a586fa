"""One connection, either end of it, without I/O and without a clock.

Enters: whole messages, sinks, responses and the time. Leaves: events and, lazily, messages to
send. A shell (`simnode.live`, `simnode.client`, a simulator) moves the bytes::

    connection.receive_message(message, now)   # then take every event
    connection.next_event()                    # -> Event | None
    connection.send_response(ticket, result)   # or send_request, as a client
    connection.next_message()                  # -> OutgoingMessage | None, made now
    connection.next_deadline()                 # call handle_deadline(now) then

Next: `outbox.py` for what goes out, `reassembly.py` for what comes in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.chunking import EncodeChunk, Framing, count_chunks, frame_mapped
from simnode.protocol.codec.base import Codec
from simnode.protocol.errors import (
    DecodeError,
    EncodeError,
    LocalProtocolError,
    ReassemblyError,
    ReassemblyErrorKind,
)
from simnode.protocol.events import (
    ChunkReceived,
    ChunkRefused,
    Event,
    MessageRefused,
    RequestReceived,
    ResponseReceived,
    SinkRequested,
    StreamCompleted,
    StreamOpened,
)
from simnode.protocol.limits import (
    CHUNK_THRESHOLD,
    MAX_RESPONSE_SIZE,
    MAX_TOTAL_CHUNKS,
    STREAM_ID_MODULUS,
    Limits,
)
from simnode.protocol.messages.contracts import Delta, State
from simnode.protocol.messages.error_kinds import DeserializationError, OperationError, Unhandled
from simnode.protocol.messages.requests import (
    ApplicationMessages,
    ClientRequest,
    ContractRequest,
    Get,
    Put,
    RegisterDelegate,
    StreamChunk,
    Subscribe,
    UnregisterDelegate,
    Update,
)
from simnode.protocol.messages.responses import (
    Err,
    GetResponse,
    GetResponseContent,
    HostResult,
    StreamHeader,
    UpdateNotification,
)
from simnode.protocol.outbox import Lane, Outbox, OutgoingMessage, Parcel, Ticket
from simnode.protocol.reassembly import Completed, NeedsSink, ReassemblyBuffer, Sink, SinkRefused


def subject_of(request: ClientRequest) -> bytes | None:
    """The contract or delegate that a request is about, None if it is about none."""
    # by exact type, not by matching: this runs for every request
    if type(request) is Get or type(request) is Subscribe:
        return request.key
    if type(request) is Update:
        return request.key.instance
    if type(request) is Put:
        return request.contract.key.instance
    if type(request) is ApplicationMessages or type(request) is UnregisterDelegate:
        return request.key.key
    if type(request) is RegisterDelegate:
        return request.delegate.key.key
    return None


def response_too_large(nbytes: int) -> OperationError:
    """What a client gets in place of a response over `MAX_RESPONSE_SIZE`."""
    return OperationError(cause=f"a response of {nbytes} bytes exceeds the maximum of {MAX_RESPONSE_SIZE} bytes")


class _Connection(ABC):
    """What both roles share: streams in, parcels out."""

    def __init__(self, *, codec: Codec, limits: Limits | None, first_stream_id: int) -> None:
        self.codec = codec
        self.limits = limits or Limits()
        self.outbox = Outbox()
        self.reassembly = ReassemblyBuffer(self.limits)
        self._events: deque[Event] = deque()
        self._next_stream_id = first_stream_id

    def next_event(self) -> Event | None:
        """The oldest event not taken yet. A shell takes all of them after each call that can make some."""
        return self._events.popleft() if self._events else None

    def next_message(self) -> OutgoingMessage | None:
        """The next message to send, made now: whole messages first, then streams in turn."""
        return self.outbox.next_message()

    def next_deadline(self) -> float | None:
        """When `handle_deadline` is due, in seconds on the shell's clock."""
        return self.reassembly.next_deadline()

    def handle_deadline(self, now: float) -> None:
        """Ends the streams that waited too long for a chunk; the peer is told."""
        for error in self.reassembly.expire(now):
            self._refuse_chunk(error)

    def provide_sink(self, stream_id: int, sink: Sink | SinkRefused, now: float) -> None:
        """Answers `SinkRequested`; no message may be received in between (the caller's contract)."""
        try:
            self._take_progress(stream_id, self.reassembly.provide_sink(stream_id, sink, now), now)
        except ReassemblyError as error:
            self._refuse_chunk(error)

    def abort_stream(self, stream_id: int, reason: str, now: float) -> None:
        """Ends an incomplete stream whose room is needed elsewhere; the peer is told.

        Nothing happens when the stream ended in the meantime.
        """
        error = self.reassembly.abort(stream_id, reason, now)
        if error is not None:
            self._refuse_chunk(error)

    def connection_lost(self) -> list[object]:
        """Gives every sink back and drops what was to be sent; nothing may be received or sent afterwards.

        Returns:
            The tokens, other than None, of everything that was not sent whole.
        """
        self.reassembly.discard_all()
        return self.outbox.close()

    # ---- for the roles -----------------------------------------------------------------------

    def _receive_chunk(self, chunk: StreamChunk, now: float, expected_nbytes: int | None = None) -> None:
        try:
            progress = self.reassembly.receive_chunk(chunk, now, expected_nbytes=expected_nbytes)
            self._take_progress(chunk.stream_id, progress, now)
        except ReassemblyError as error:
            self._refuse_chunk(error)

    def _take_progress(self, stream_id: int, progress: Completed | NeedsSink | None, now: float) -> None:
        if isinstance(progress, NeedsSink):
            self._events.append(SinkRequested(stream_id=stream_id, nbytes=progress.nbytes))
        elif isinstance(progress, Completed):
            self._events.append(StreamCompleted(stream_id=stream_id, nbytes=len(progress.message)))
            self._take_message(progress.message, stream_id, now)

    def _refuse_chunk(self, error: ReassemblyError) -> None:
        self._events.append(
            ChunkRefused(stream_id=error.stream_id, kind=error.kind, text=str(error), stream_killed=error.kills_stream)
        )

    @abstractmethod
    def _take_message(self, message: Blob, stream_id: int, now: float) -> None:
        """Takes a message that came in chunks."""

    def _lanes_of(self, request: ClientRequest, subject: bytes | None) -> tuple[Lane, ...]:
        """The lanes in which a request, and its reply, keep their order."""
        if subject is None:
            return ()
        if self.codec.replies_match_by_kind and isinstance(request, ContractRequest):
            return (subject, type(request).__name__)
        return (subject,)

    def _take_stream_id(self) -> int:
        stream_id = self._next_stream_id
        self._next_stream_id = (stream_id + 1) % STREAM_ID_MODULUS
        return stream_id


class ServerConnection(_Connection):
    """The node's end.

    Args:
        codec: the connection's encoding.
        streaming: whether large responses go in chunks. What is accepted does not depend on it.
        limits: what the connection may use.
        framing: how a response becomes messages; a scenario may compare others.
        first_stream_id: of the responses, counting up and wrapping at 2**32.
    """

    def __init__(
        self,
        *,
        codec: Codec,
        streaming: bool,
        limits: Limits | None = None,
        framing: Framing = frame_mapped,
        first_stream_id: int = 0,
    ) -> None:
        super().__init__(codec=codec, limits=limits, first_stream_id=first_stream_id)
        self.streaming = streaming
        self._framing = framing

    def receive_message(self, message: Blob, now: float) -> bool:
        """Takes one whole WebSocket message.

        Whatever is wrong with it is answered here, in the connection's encoding; the connection
        goes on. `message` must stay valid for as long as the shell keeps the events made from it.

        Returns:
            Whether it was a StreamChunk, right or wrong.
        """
        try:
            request = self.codec.decode_request(message)
        except DecodeError as error:
            self._refuse_message(str(error))
            return False
        if type(request) is StreamChunk:
            self._receive_chunk(request, now)
            return True
        self._take_request(request, message, now)
        return False

    def refuse_message(self, cause: str) -> None:
        """Answers a message that the shell had no room for and threw away."""
        self._events.append(MessageRefused(cause=cause, was_read=False))
        self._answer(Unhandled(cause=cause))

    def send_response(
        self,
        ticket: object,
        result: HostResult,
        *,
        encoded: Rope | None = None,
        token: object = None,
        stamp: object = None,
    ) -> None:
        """Answers a request; the reply goes out when its turn comes.

        Args:
            ticket: of its `RequestReceived`.
            result: what the node says.
            encoded: the same, serialized in this connection's encoding, for a shell that answers many alike.
            token: comes back with the last message of the reply, or from `connection_lost`.
            stamp: comes back with the first message of the reply, if that is ever asked for.

        Raises:
            LocalProtocolError: the ticket is none, was answered or forgotten before, or the
                connection is lost (the caller's fault; the token stays the caller's).
        """
        if not isinstance(ticket, Ticket):
            raise LocalProtocolError("a response needs the ticket of its request")
        parcel = self._pack(result, token, encoded)
        parcel.stamp = stamp
        self.outbox.fill(ticket, parcel)

    def send_notification(
        self, notification: UpdateNotification, *, encoded: Rope | None = None, token: object = None
    ) -> None:
        """Tells a subscriber; it goes out before replies about the same contract that are not ready yet.

        Args:
            notification: what it is told.
            encoded: the same, serialized in this connection's encoding, for a shell with many subscribers.
            token: as of `send_response`.
        """
        self.outbox.insert(notification.key.instance, self._pack(notification, token, encoded))

    def send_unsolicited(self, result: HostResult) -> None:
        """Says something that answers no request (an authentication error)."""
        self.outbox.insert(None, self._pack(result, None))

    def forget(self, ticket: object) -> None:
        """The request of this ticket gets no reply."""
        if not isinstance(ticket, Ticket):
            raise LocalProtocolError("only a ticket can be withdrawn")
        self.outbox.withdraw(ticket)

    # ---- inside ------------------------------------------------------------------------------

    def _take_message(self, message: Blob, stream_id: int, now: float) -> None:
        try:
            request = self.codec.decode_request(message)
        except DecodeError as error:
            self._refuse_message(str(error))
            return
        if isinstance(request, StreamChunk):
            text = f"the message of stream {stream_id} is itself a StreamChunk"
            self._refuse_chunk(
                ReassemblyError(ReassemblyErrorKind.NESTED, text, stream_id=stream_id, kills_stream=True)
            )
        else:
            self._take_request(request, message, now)

    def _take_request(self, request: ClientRequest, message: Blob, now: float) -> None:
        subject = subject_of(request)
        ticket = self.outbox.open(self._lanes_of(request, subject))
        self._events.append(
            RequestReceived(ticket=ticket, request=request, subject=subject, message=message, received_at=now)
        )

    def _refuse_message(self, cause: str) -> None:
        self._events.append(MessageRefused(cause=cause))
        self._answer(DeserializationError(cause=cause))

    def _refuse_chunk(self, error: ReassemblyError) -> None:
        super()._refuse_chunk(error)
        self._answer(Unhandled(cause=f"stream reassembly error: {error}"))

    def _answer(self, kind: DeserializationError | Unhandled) -> None:
        self.outbox.insert(None, self._pack(Err(kind), None))

    def _pack(self, result: HostResult, token: object, encoded: Rope | None = None) -> Parcel:
        try:
            message = self.codec.encode_result(result) if encoded is None else encoded
        except EncodeError as error:
            message = self.codec.encode_result(Err(Unhandled(cause=str(error))))
        if message.nbytes > MAX_RESPONSE_SIZE:
            message = self.codec.encode_result(Err(response_too_large(message.nbytes)))
        nbytes = message.nbytes
        if nbytes <= CHUNK_THRESHOLD:
            held_bytes = _heap_bytes(result, nbytes)
            return Parcel(
                messages=iter((message,)), due_bytes=nbytes, held_bytes=held_bytes, is_short=True, token=token
            )
        if not self.streaming:
            framed = self._framing(message, None)
            held_bytes = max(framed.held_bytes, _heap_bytes(result, nbytes))
            return Parcel(messages=framed.messages, due_bytes=nbytes, held_bytes=held_bytes, token=token)
        stream_id = self._take_stream_id()
        header = self._header(result, stream_id, nbytes)

        def encode_chunk(index: int, total: int, data: Rope) -> Rope:
            return self.codec.encode_result_chunk(stream_id=stream_id, index=index, total=total, data=data)

        framed = self._framing(message, encode_chunk)
        return Parcel(
            messages=framed.messages,
            due_bytes=nbytes,
            held_bytes=max(framed.held_bytes, _heap_bytes(result, nbytes)),
            is_stream=True,
            header=header,
            is_headed=header is not None,
            token=token,
        )

    def _header(self, result: HostResult, stream_id: int, nbytes: int) -> Rope | None:
        if not (self.codec.has_stream_header and isinstance(result, GetResponse)):
            return None
        content = GetResponseContent(key=result.key, includes_contract=result.contract is not None)
        return self.codec.encode_result(StreamHeader(stream_id=stream_id, total_bytes=nbytes, content=content))


def _heap_bytes(result: HostResult, nbytes: int) -> int:
    """What of a serialized response of `nbytes` lies in the heap: next to nothing if its payload is in a segment."""
    payload: Blob | None = None
    if type(result) is GetResponse:
        payload = result.state
    elif type(result) is UpdateNotification:
        update = result.update
        if isinstance(update, State):
            payload = update.state
        elif isinstance(update, Delta):
            payload = update.delta
    return 0 if payload is not None and payload.origin is not None else nbytes


class ClientConnection(_Connection):
    """The client's end.

    Args:
        codec: the connection's encoding.
        limits: what the connection may use.
        first_stream_id: of the chunked requests, counting up and wrapping at 2**32.
    """

    def __init__(self, *, codec: Codec, limits: Limits | None = None, first_stream_id: int = 0) -> None:
        super().__init__(codec=codec, limits=limits, first_stream_id=first_stream_id)
        #: announced lengths of streams whose first chunk is still to come, in bytes
        self._announced: dict[int, int] = {}
        #: streams whose chunks go to the user as they come, with the bytes still expected
        self._taken: dict[int, int] = {}

    def send_request(self, request: ClientRequest, *, token: object = None) -> None:
        """Queues a request; over `CHUNK_THRESHOLD` it goes in chunks, as the reference client's do.

        A small request may overtake a large one, but not one about the same contract: a GET that
        was asked for after a PUT must see it.

        Raises:
            EncodeError: the encoding has no such request, or it is longer than 256 chunks (the caller's fault).
            LocalProtocolError: the connection is lost (the caller's fault).
        """
        message = self.codec.encode_request(request)
        nbytes = len(message)
        if count_chunks(nbytes) > MAX_TOTAL_CHUNKS:
            raise EncodeError(f"a request of {nbytes} bytes exceeds the maximum of {MAX_RESPONSE_SIZE} bytes")
        is_stream = nbytes > CHUNK_THRESHOLD
        framed = frame_mapped(message, self._chunk_encoder() if is_stream else None)
        parcel = Parcel(messages=framed.messages, due_bytes=nbytes, is_stream=is_stream, token=token)
        self.outbox.fill(self.outbox.open(self._lanes_of(request, subject_of(request))), parcel)

    def receive_message(self, message: Blob, now: float) -> None:
        """Takes one whole WebSocket message; what cannot be decoded becomes a `MessageRefused` event."""
        try:
            result = self.codec.decode_result(message)
        except DecodeError as error:
            self._events.append(MessageRefused(cause=str(error)))
            return
        if isinstance(result, StreamChunk):
            self._take_chunk(result, now)
        elif isinstance(result, StreamHeader):
            self._announce(result)
        else:
            self._events.append(ResponseReceived(result=result, message=message))

    def take_stream(self, stream_id: int) -> None:
        """The chunks of this announced stream are wanted one by one, not reassembled.

        Raises:
            LocalProtocolError: no such stream was announced, or its first chunk is in (the caller's fault).
        """
        if stream_id not in self._announced:
            raise LocalProtocolError(f"stream {stream_id} was not announced")
        self._taken[stream_id] = self._announced.pop(stream_id)

    # ---- inside ------------------------------------------------------------------------------

    def _chunk_encoder(self) -> EncodeChunk:
        stream_id = self._take_stream_id()

        def encode_chunk(index: int, total: int, data: Rope) -> Rope:
            return self.codec.encode_request_chunk(stream_id=stream_id, index=index, total=total, data=data)

        return encode_chunk

    def _announce(self, header: StreamHeader) -> None:
        if header.stream_id in self.reassembly or header.stream_id in self._taken:
            self._events.append(MessageRefused(cause=f"stream {header.stream_id} was announced after it had begun"))
            return
        self._events.append(StreamOpened(header=header))
        self._announced[header.stream_id] = header.total_bytes
        if len(self._announced) > self.limits.max_concurrent_streams:
            # as the reference client does: a ninth header pushes out another
            del self._announced[next(iter(self._announced))]

    def _take_chunk(self, chunk: StreamChunk, now: float) -> None:
        left = self._taken.get(chunk.stream_id)
        if left is None:
            self._receive_chunk(chunk, now, self._announced.pop(chunk.stream_id, None))
            return
        self._events.append(
            ChunkReceived(stream_id=chunk.stream_id, index=chunk.index, total=chunk.total, data=chunk.data)
        )
        left -= len(chunk.data)
        if left > 0:
            self._taken[chunk.stream_id] = left
        else:
            del self._taken[chunk.stream_id]

    def _take_message(self, message: Blob, stream_id: int, now: float) -> None:
        try:
            result = self.codec.decode_result(message)
        except DecodeError as error:
            self._events.append(MessageRefused(cause=str(error)))
            return
        if isinstance(result, StreamChunk | StreamHeader):
            self._events.append(MessageRefused(cause=f"the message of stream {stream_id} is itself part of a stream"))
            return
        self._events.append(ResponseReceived(result=result, message=message, stream_id=stream_id))
