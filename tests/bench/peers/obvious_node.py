"""What both Python peers do with a message: decode, reassemble in the heap, keep states in a dict.

Enters: whole messages of the native encoding. Leaves: the messages that answer them. Next:
`obvious_python.py` and `obvious_ray.py`, which put a socket in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.chunking import cut_into_chunks
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import CHUNK_THRESHOLD, MAX_MESSAGE_SIZE
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.error_kinds import Unhandled
from simnode.protocol.messages.requests import ClientRequest, Get, Put, StreamChunk
from simnode.protocol.messages.responses import (
    Err,
    GetResponse,
    GetResponseContent,
    HostResult,
    NotFound,
    PutResponse,
    StreamHeader,
)

MAX_MESSAGE_BYTES = MAX_MESSAGE_SIZE
"""Of a frame too, so that one large frame can be measured, as with the peer in Rust."""

CODEC = codec_for(Encoding.NATIVE)


class ObviousNode:
    """PUT and GET; whatever else is asked for is refused."""

    def __init__(self) -> None:
        self._states: dict[bytes, tuple[ContractKey, bytes]] = {}

    def answer(self, request: ClientRequest) -> HostResult:
        """Does what one whole request asks for."""
        match request:
            case Put(contract=contract, state=state):
                self._states[contract.key.instance] = (contract.key, bytes(state))
                return PutResponse(key=contract.key)
            case Get(key=instance) if instance in self._states:
                key, stored = self._states[instance]
                return GetResponse(key=key, contract=None, state=Blob(stored))
            case Get(key=instance):
                return NotFound(instance_id=instance)
            case _:
                return Err(Unhandled(cause="only PUT and GET are served here"))


class Conversation:
    """One connection: incomplete streams in, chunked responses out.

    Args:
        node: whom to ask.
        streaming: whether large responses go in chunks.
    """

    def __init__(self, node: ObviousNode, *, streaming: bool) -> None:
        self._node = node
        self._streaming = streaming
        self._streams: dict[int, list[Blob | None]] = {}
        self._next_stream_id = 0

    def receive(self, message: bytes) -> Iterator[bytes]:
        """Takes one message; the messages that answer it, none for a chunk that completes nothing."""
        request = CODEC.decode_request(Blob(message))
        if isinstance(request, StreamChunk):
            whole = self._reassemble(request)
            if whole is None:
                return iter(())
            request = CODEC.decode_request(Blob(whole))
        return self._messages_of(self._node.answer(request))

    def _reassemble(self, chunk: StreamChunk) -> bytes | None:
        pieces = self._streams.setdefault(chunk.stream_id, [None] * chunk.total)
        pieces[chunk.index] = chunk.data
        present = [piece.view for piece in pieces if piece is not None]
        if len(present) < chunk.total:
            return None
        del self._streams[chunk.stream_id]
        return b"".join(present)

    def _messages_of(self, result: HostResult) -> Iterator[bytes]:
        message = CODEC.encode_result(result)
        if not self._streaming or len(message) <= CHUNK_THRESHOLD:
            yield bytes(message)
            return
        stream_id = self._next_stream_id
        self._next_stream_id += 1
        if isinstance(result, GetResponse):
            content = GetResponseContent(key=result.key, includes_contract=False)
            header = StreamHeader(stream_id=stream_id, total_bytes=len(message), content=content)
            yield bytes(CODEC.encode_result(header))

        def encode_chunk(index: int, total: int, data: Rope) -> Rope:
            return CODEC.encode_result_chunk(stream_id=stream_id, index=index, total=total, data=data)

        for chunk in cut_into_chunks(message, encode_chunk):
            yield bytes(chunk)


def wants_streaming(path: str) -> bool:
    """Whether a client asked for chunked responses."""
    return "streaming=true" in path.partition("?")[2].split("&")
