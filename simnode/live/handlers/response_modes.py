"""Four ways to send a large response, to be compared. Enters: a message. Leaves: `Framed`. Next: `settings.py`.

Only a scenario chooses any but `mapped`. Each does honestly what its name says, so that the
figures mean something: the heap it takes is the strategy's, not ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from simnode.protocol.blob import Rope
from simnode.protocol.chunking import EncodeChunk, Framed, Framing, cut_into_chunks, frame_mapped


def frame_single(message: Rope, encode_chunk: EncodeChunk | None) -> Framed:
    """The whole message serialized in the heap, sent as one WebSocket message: before the streaming protocol."""
    whole = bytes(message)
    return Framed(messages=iter((Rope([whole]),)), held_bytes=len(whole))


def frame_collected(message: Rope, encode_chunk: EncodeChunk | None) -> Framed:
    """The whole message in the heap, and all of its chunks made before the first is sent."""
    if encode_chunk is None:
        return frame_single(message, None)
    whole = Rope([bytes(message)])
    chunks = [bytes(chunk) for chunk in cut_into_chunks(whole, encode_chunk)]
    held_bytes = len(whole) + sum(map(len, chunks))
    return Framed(messages=_holding(whole, [Rope([chunk]) for chunk in chunks]), held_bytes=held_bytes)


def frame_lazy(message: Rope, encode_chunk: EncodeChunk | None) -> Framed:
    """The whole message in the heap, its chunks made one at a time: what the streaming protocol ships."""
    if encode_chunk is None:
        return frame_single(message, None)
    whole = Rope([bytes(message)])
    return Framed(messages=cut_into_chunks(whole, encode_chunk), held_bytes=len(whole))


def _holding(whole: Rope, chunks: list[Rope]) -> Iterator[Rope]:
    """The chunks, with the message they were made from alive until the last is sent, as a sender's frame has it."""
    yield from chunks
    del whole


@dataclass(frozen=True, slots=True)
class ResponseMode:
    """A way to send.

    Attributes:
        framing: how a large response becomes messages.
        chunks: whether it goes in chunks to a client that asked for them.
    """

    framing: Framing
    chunks: bool = True


MODES: Final[Mapping[str, ResponseMode]] = {
    "single": ResponseMode(frame_single, chunks=False),
    "collected": ResponseMode(frame_collected),
    "lazy": ResponseMode(frame_lazy),
    "mapped": ResponseMode(frame_mapped),
}
