"""A serialized message as the messages that carry it. Enters: a rope. Leaves: ropes, lazily. Next: `outbox.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from simnode.protocol.blob import Rope
from simnode.protocol.limits import CHUNK_SIZE
from simnode.protocol.record import record

EncodeChunk = Callable[[int, int, Rope], Rope]
"""`(index, total, data) -> the StreamChunk's message`, for one stream."""


def count_chunks(nbytes: int) -> int:
    """How many StreamChunks carry a message of `nbytes` bytes: an empty one still needs one."""
    return max(1, -(-nbytes // CHUNK_SIZE))


@record()
class Framed:
    """A message made ready for sending.

    Attributes:
        messages: what to send, in order, each made when it is asked for.
        held_bytes: payload bytes that this way of sending copied into the heap and holds
            until the last message is sent.
    """

    messages: Iterator[Rope]
    held_bytes: int


class Framing(Protocol):
    """How a message becomes the messages that carry it: a choice of buffering, never of bytes on the wire."""

    def __call__(self, message: Rope, encode_chunk: EncodeChunk | None) -> Framed:
        """Frames one message longer than `CHUNK_THRESHOLD`.

        Args:
            message: serialized.
            encode_chunk: makes one StreamChunk. The result then has exactly `count_chunks(len(message))`
                messages, of `CHUNK_SIZE` payload bytes each but for the last. None for a message
                that goes out whole: the result then has that one.
        """


def cut_into_chunks(message: Rope, encode_chunk: EncodeChunk) -> Iterator[Rope]:
    """The StreamChunks of `message`, one alive at a time; no payload byte is copied."""
    total = count_chunks(len(message))
    for index, data in enumerate(message.cut(CHUNK_SIZE)):
        yield encode_chunk(index, total, data)


def frame_mapped(message: Rope, encode_chunk: EncodeChunk | None) -> Framed:
    """Straight from wherever the payload lies: what every node does unless a scenario says otherwise."""
    if encode_chunk is None:
        return Framed(messages=iter((message,)), held_bytes=0)
    return Framed(messages=cut_into_chunks(message, encode_chunk), held_bytes=0)
