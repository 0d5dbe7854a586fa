"""What every encoding must do. Enters: messages or bytes. Leaves: ropes or messages. Next: `native.py`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, Protocol

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.messages.requests import ClientRequest
from simnode.protocol.messages.responses import HostResult


class Encoding(Enum):
    """The values of the query parameter `encodingProtocol`, and of the metric label `encoding`."""

    NATIVE = "native"
    FLATBUFFERS = "flatbuffers"
    MSGPACK = "msgpack"


class Codec(Protocol):
    """One encoding, both roles. Stateless.

    Decoding copies no payload: the Blobs of a decoded message are slices of `message`. Encoding
    copies none either: large fields stand in the rope as they are.
    """

    encoding: Encoding
    #: whether a chunked GetResponse is announced by a StreamHeader
    has_stream_header: bool
    #: whether clients match replies by their kind alone, so that replies of one kind must complete in order
    replies_match_by_kind: bool

    def encode_request(self, request: ClientRequest) -> Rope:
        """Raises `EncodeError` when this encoding has no such request."""

    def decode_request(self, message: Blob) -> ClientRequest:
        """Raises `DecodeError`, and nothing else, on bytes that are no request (the peer's fault)."""

    def encode_result(self, result: HostResult) -> Rope:
        """Raises `EncodeError` when this encoding has no such response."""

    def encode_items(self, response: type[Any], field: str, items: Iterable[Any]) -> bytes:
        """Some of the items of a response's vector, serialized, for an `EncodedItems` in their place.

        Raises `EncodeError` when this encoding has no such response.
        """

    def decode_result(self, message: Blob) -> HostResult:
        """Raises `DecodeError`, and nothing else, on bytes that are no response (the peer's fault)."""

    def encode_request_chunk(self, *, stream_id: int, index: int, total: int, data: Rope) -> Rope:
        """A StreamChunk of a request, around `data` (up to `CHUNK_SIZE` bytes, not joined)."""

    def encode_result_chunk(self, *, stream_id: int, index: int, total: int, data: Rope) -> Rope:
        """The same of a response."""
