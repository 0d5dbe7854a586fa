"""The native encoding: bincode 1.x. Enters: messages or bytes. Leaves: ropes or messages. Next: `display.py`."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import schema
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.bincode_reader import decode, reader
from simnode.protocol.codec.bincode_writer import encode, many, writer
from simnode.protocol.codec.source import MAX_RESULT_ITEMS
from simnode.protocol.messages.requests import ClientRequest
from simnode.protocol.messages.responses import HostResult

_read_request: Final = reader(schema.CLIENT_REQUEST)
_write_request: Final = writer(schema.CLIENT_REQUEST)
_read_result: Final = reader(schema.HOST_RESULT)
_write_result: Final = writer(schema.HOST_RESULT)

_write_items: Final = {place: many(writer(item)) for place, item in schema.ITEMS_OF_RESPONSES.items()}

_REQUEST_CHUNK: Final = struct.Struct("<IIIIQ")
"""Tag 6, stream id, index, total, length of the data."""

_RESULT_CHUNK: Final = struct.Struct("<IIIIIQ")
"""Tags 0 and 4, stream id, index, total, length of the data."""


class NativeCodec:
    """What the Rust client speaks."""

    encoding = Encoding.NATIVE
    has_stream_header = True
    replies_match_by_kind = False

    def encode_request(self, request: ClientRequest) -> Rope:
        return encode(_write_request, request)

    def decode_request(self, message: Blob) -> ClientRequest:
        request: ClientRequest = decode(_read_request, message)
        return request

    def encode_result(self, result: HostResult) -> Rope:
        return encode(_write_result, result)

    def encode_items(self, response: type[Any], field: str, items: Iterable[Any]) -> bytes:
        return bytes(encode(_write_items[response, field], items))

    def decode_result(self, message: Blob) -> HostResult:
        result: HostResult = decode(_read_result, message, max_items=MAX_RESULT_ITEMS)
        return result

    def encode_request_chunk(self, *, stream_id: int, index: int, total: int, data: Rope) -> Rope:
        return Rope((_REQUEST_CHUNK.pack(6, stream_id, index, total, data.nbytes), *data.parts))

    def encode_result_chunk(self, *, stream_id: int, index: int, total: int, data: Rope) -> Rope:
        return Rope((_RESULT_CHUNK.pack(0, 4, stream_id, index, total, data.nbytes), *data.parts))
