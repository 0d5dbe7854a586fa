"""What the core tells its shell. Enters: nothing. Leaves: dataclasses, past tense. Next: `chunking.py`."""

from __future__ import annotations

from simnode.protocol.blob import Blob
from simnode.protocol.errors import ReassemblyErrorKind
from simnode.protocol.messages.requests import ClientRequest
from simnode.protocol.messages.responses import HostResult, StreamHeader
from simnode.protocol.record import record


@record()
class RequestReceived:
    """Server: a whole request, to be answered with `send_response(ticket, …)`.

    `message` is the serialized request; the request's Blobs are slices of it. `ticket` is the
    reply's place in line (an `outbox.Ticket`), opaque to the shell. `subject` is the contract
    or delegate that the request is about, if it is about one. `received_at` is when its last byte
    was there, in seconds on the shell's clock.
    """

    ticket: object
    request: ClientRequest
    subject: bytes | None
    message: Blob
    received_at: float


@record()
class ResponseReceived:
    """Client: a whole result; a reassembled one carries the id of the stream it came in."""

    result: HostResult
    message: Blob
    stream_id: int | None = None


@record()
class SinkRequested:
    """A stream needs room for `nbytes`; answer with `provide_sink` before the next message."""

    stream_id: int
    nbytes: int


@record()
class StreamOpened:
    """Client: the server announced a stream; `take_stream` now to get its chunks one by one."""

    header: StreamHeader


@record()
class ChunkReceived:
    """Client: a piece of a stream that was taken, in order of arrival."""

    stream_id: int
    index: int
    total: int
    data: Blob


@record()
class StreamCompleted:
    """A chunked message is whole; what it says follows: the message, or why it was refused.

    The next event is `RequestReceived` or `ResponseReceived` with the Blob that the sink finished, or
    `MessageRefused` or `ChunkRefused` (kind `NESTED`), after which nobody but the shell knows that Blob.
    """

    stream_id: int
    nbytes: int


@record()
class ChunkRefused:
    """A chunk did not fit, or a stream ran out of time. A server has answered it already."""

    stream_id: int
    kind: ReassemblyErrorKind
    text: str
    stream_killed: bool


@record()
class MessageRefused:
    """A message could not be decoded or had no room. A server has answered it already.

    `was_read` is False when there was no room for it, so that nobody knows what it was.
    """

    cause: str
    was_read: bool = True


Event = (
    RequestReceived
    | ResponseReceived
    | SinkRequested
    | StreamOpened
    | ChunkReceived
    | StreamCompleted
    | ChunkRefused
    | MessageRefused
)
