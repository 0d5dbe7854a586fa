"""The flatbuffers encoding, the default of a connection.

Enters: messages or bytes. Leaves: ropes or messages.

Layers below: `flatbuffers_reader.py` and `flatbuffers_writer.py` know the format, the other
`flatbuffers_*.py` the schema's tables. What the reference does wrong with this encoding (client
errors under the tag of Ok, SubscribeResponse as PutResponse) is understood and not repeated.
Next: `../connection.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Any, Final

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.flatbuffers_reader import read_root
from simnode.protocol.codec.flatbuffers_requests import read_request, request_table
from simnode.protocol.codec.flatbuffers_results import read_result, result_table
from simnode.protocol.codec.flatbuffers_writer import write
from simnode.protocol.errors import EncodeError
from simnode.protocol.messages.requests import ClientRequest
from simnode.protocol.messages.responses import HostResult

_CHUNK: Final = Struct(
    "<"
    "I"  # 0: offset to the root at 12
    "4H"  # 4: its vtable: 8 bytes, table of 12 bytes, tag at 7, value at 8
    "i3xBI"  # 12: the root: vtable 8 before, tag, offset to the chunk at 36
    "6H"  # 24: its vtable: 12 bytes, table of 20 bytes, fields at 4, 8, 12, 16
    "i3II"  # 36: the chunk: vtable 12 before, stream_id, index, total, offset to the data at 56
    "I"  # 56: length of the data, which follow
)


def _chunk(tag: int, stream_id: int, index: int, total: int, data: Rope) -> Rope:
    """A StreamChunk as the root's union value `tag`, by template: it is made 200 times for a large state."""
    header = _CHUNK.pack(
        *(12, 8, 12, 7, 8, 8, tag, 16, 12, 20, 4, 8, 12, 16, 12), stream_id, index, total, 4, data.nbytes
    )
    return Rope((header, *data.parts))


class FlatbuffersCodec:
    """The `Codec` of `Encoding.FLATBUFFERS`.

    What flatbuffers cannot express raises `EncodeError`: Close, the node queries and their
    responses, StreamHeader, related contracts without state, most messages to a delegate. Of
    those from a delegate the inexpressible are left out of the response, as by the reference.
    A request decodes with computed keys and hashes whatever it embeds.
    """

    encoding = Encoding.FLATBUFFERS
    has_stream_header = False
    replies_match_by_kind = True

    def encode_request(self, request: ClientRequest) -> Rope:
        """See `Codec`."""
        return write(request_table(request))

    def decode_request(self, message: Blob) -> ClientRequest:
        """See `Codec`."""
        return read_request(read_root(message, "ClientRequest"))

    def encode_result(self, result: HostResult) -> Rope:
        """See `Codec`. An error becomes the reference's text of it."""
        return write(result_table(result))

    def encode_items(self, response: type[Any], field: str, items: Iterable[Any]) -> bytes:
        """See `Codec`. The responses with long vectors are those to node queries, which there are none of here."""
        raise EncodeError(f"flatbuffers cannot express {response.__name__}")

    def decode_result(self, message: Blob) -> HostResult:
        """See `Codec`. An error is read back from its text as far as that tells."""
        return read_result(read_root(message, "HostResponse"))

    def encode_request_chunk(self, *, stream_id: int, index: int, total: int, data: Rope) -> Rope:
        """See `Codec`."""
        return _chunk(5, stream_id, index, total, data)

    def encode_result_chunk(self, *, stream_id: int, index: int, total: int, data: Rope) -> Rope:
        """See `Codec`."""
        return _chunk(6, stream_id, index, total, data)
