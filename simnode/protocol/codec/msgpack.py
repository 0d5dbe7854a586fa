"""Our msgpack encoding, for people without bincode or flatbuffers at hand. See `MSGPACK.md`.

Enters: messages or bytes. Leaves: ropes or messages. Next: `display.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgpack

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import schema
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.msgpack_names import ERRORS, REQUESTS, RESPONSES
from simnode.protocol.codec.msgpack_reader import ReadFields, choice_reader, decode, variant_reader
from simnode.protocol.codec.msgpack_writer import (
    Write,
    bin_header,
    choice_writer,
    encode,
    many,
    map_header,
    record_writer,
    writer,
)
from simnode.protocol.codec.source import MAX_RESULT_ITEMS
from simnode.protocol.messages.requests import ClientRequest
from simnode.protocol.messages.responses import Err, HostResult


def _err_reader(read_kind: ReadFields) -> ReadFields:
    return lambda source, count, values: Err(read_kind(source, count, values))


def _err_writer() -> Write:
    write_kind = choice_writer({record.cls: record_writer(record, name=name) for name, record in ERRORS.items()})
    return lambda value, output: write_kind(value.kind, output)


_read_request: Final = choice_reader({name: variant_reader(record) for name, record in REQUESTS.items()})
_write_request: Final = choice_writer(
    {record.cls: record_writer(record, name=name) for name, record in REQUESTS.items()}
)
_read_result: Final = choice_reader(
    {name: variant_reader(record) for name, record in RESPONSES.items()}
    | {name: _err_reader(variant_reader(record)) for name, record in ERRORS.items()}
)
_write_result: Final = choice_writer(
    {record.cls: record_writer(record, name=name) for name, record in RESPONSES.items()} | {Err: _err_writer()}
)

_write_items: Final = {place: many(writer(item)) for place, item in schema.ITEMS_OF_RESPONSES.items()}

_CHUNK_HEAD: Final = map_header(REQUESTS["StreamChunk"], "StreamChunk")


def _chunk(*, stream_id: int, index: int, total: int, data: Rope) -> Rope:
    """A StreamChunk, which is the same in requests and in responses, around parts that stay where they are."""
    pack = msgpack.Packer(buf_size=256).pack
    numbers = b"".join(map(pack, ("stream_id", stream_id, "index", index, "total", total, "data")))
    return Rope((_CHUNK_HEAD + numbers + bin_header(data.nbytes), *data.parts))


class MsgpackCodec:
    """What a client in any language with a msgpack library speaks."""

    encoding = Encoding.MSGPACK
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
        return _chunk(stream_id=stream_id, index=index, total=total, data=data)

    def encode_result_chunk(self, *, stream_id: int, index: int, total: int, data: Rope) -> Rope:
        return _chunk(stream_id=stream_id, index=index, total=total, data=data)
