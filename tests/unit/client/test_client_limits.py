from __future__ import annotations

import pytest

from simnode.client.client_limits import CLIENT_LIMITS
from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.connection import ClientConnection
from simnode.protocol.events import ChunkRefused, SinkRequested, StreamOpened
from simnode.protocol.limits import CHUNK_SIZE, MAX_CONCURRENT_STREAMS, MAX_TOTAL_CHUNKS, MIB
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.responses import GetResponseContent, StreamHeader
from simnode.protocol.reassembly import Sink


class NoMemory(Sink):
    """Room that takes none."""

    def write(self, offset: int, data: object) -> None:
        pass

    def discard(self) -> None:
        pass


WAYS = [
    (encoding, is_announced)
    for encoding in Encoding
    for is_announced in (True, False)
    if codec_for(encoding).has_stream_header or not is_announced
]


@pytest.mark.parametrize(("encoding", "is_announced"), WAYS)
def test_a_client_takes_as_many_answers_at_once_as_the_protocol_lets_a_node_stream(
    encoding: Encoding, is_announced: bool
) -> None:
    codec = codec_for(encoding)
    client = ClientConnection(codec=codec, limits=CLIENT_LIMITS)
    for stream_id in range(MAX_CONCURRENT_STREAMS):
        if is_announced:
            content = GetResponseContent(key=ContractKey(bytes([stream_id]) * 32, bytes(32)), includes_contract=False)
            header = StreamHeader(stream_id=stream_id, total_bytes=64 * MIB, content=content)
            client.receive_message(Blob(bytes(codec.encode_result(header))), 0.0)
            assert isinstance(client.next_event(), StreamOpened)
        data = Rope([bytes(CHUNK_SIZE)])
        chunk = codec.encode_result_chunk(stream_id=stream_id, index=0, total=MAX_TOTAL_CHUNKS, data=data)
        client.receive_message(Blob(bytes(chunk)), 0.0)
        event = client.next_event()
        assert not isinstance(event, ChunkRefused), event.text
        assert event == SinkRequested(stream_id=stream_id, nbytes=64 * MIB)
        client.provide_sink(stream_id, NoMemory(), 0.0)
    assert client.reassembly.reserved_bytes == 512 * MIB, "as `connect` says"
