"""Any message of any encoding, cut anywhere, mixed with up to seven others, arriving in any order, is what it was."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Codec, Encoding
from simnode.protocol.connection import ClientConnection, ServerConnection
from simnode.protocol.errors import EncodeError
from simnode.protocol.events import RequestReceived, ResponseReceived, SinkRequested, StreamCompleted
from simnode.protocol.limits import MAX_CONCURRENT_STREAMS
from simnode.protocol.messages.requests import StreamChunk
from simnode.protocol.messages.responses import StreamHeader
from simnode.protocol.reassembly import HeapSink
from tests.support.strategies import requests, results

MAX_CUTS = 5


@dataclass(frozen=True)
class Piece:
    stream_id: int
    index: int
    total: int
    data: bytes


def cut(message: bytes, stream_id: int, places: list[float]) -> list[Piece]:
    """`message` in pieces, some of them empty; `places` are fractions of its length."""
    at = [0, *sorted(int(place * len(message)) for place in places), len(message)]
    pieces = [message[start:stop] for start, stop in pairwise(at)]
    return [Piece(stream_id, index, len(pieces), data) for index, data in enumerate(pieces)]


def encoded(codec: Codec, direction: str, messages: list[object]) -> list[bytes]:
    """Those that the encoding can express."""
    known = []
    for message in messages:
        if not isinstance(message, StreamChunk | StreamHeader):
            try:
                known.append(bytes(getattr(codec, f"encode_{direction}")(message)))
            except EncodeError:
                continue
    return known


@pytest.mark.parametrize("direction", ["request", "result"])
@pytest.mark.parametrize("encoding", Encoding, ids=lambda encoding: encoding.value)
@settings(max_examples=60)
@given(data=st.data())
def test_messages_come_back_however_they_are_cut_mixed_and_ordered(
    encoding: Encoding, direction: str, data: st.DataObject
) -> None:
    codec = codec_for(encoding)
    drawn = st.lists(requests() if direction == "request" else results(), min_size=1, max_size=MAX_CONCURRENT_STREAMS)
    messages = encoded(codec, direction, data.draw(drawn))
    assume(messages)
    places = st.lists(st.floats(0, 1), max_size=MAX_CUTS)
    pieces = [piece for number, message in enumerate(messages) for piece in cut(message, number, data.draw(places))]
    arrived = deliver(codec, direction, data.draw(st.permutations(pieces)))
    decode = getattr(codec, f"decode_{direction}")
    assert arrived == {number: decode(Blob(message)) for number, message in enumerate(messages)}


def deliver(codec: Codec, direction: str, pieces: list[Piece]) -> dict[int, object]:
    """What the other end understands, by stream."""
    is_request = direction == "request"
    end = ServerConnection(codec=codec, streaming=True) if is_request else ClientConnection(codec=codec)
    encode_chunk = getattr(codec, f"encode_{direction}_chunk")
    arrived: dict[int, object] = {}
    completed: list[int] = []
    for piece in pieces:
        chunk = encode_chunk(stream_id=piece.stream_id, index=piece.index, total=piece.total, data=Rope([piece.data]))
        end.receive_message(Blob(bytes(chunk)), 0.0)
        while (event := end.next_event()) is not None:
            match event:
                case SinkRequested(stream_id=stream_id, nbytes=nbytes):
                    end.provide_sink(stream_id, HeapSink(nbytes), 0.0)
                case StreamCompleted(stream_id=stream_id):
                    completed.append(stream_id)
                case RequestReceived(request=message) | ResponseReceived(result=message):
                    arrived[completed[-1]] = message
                case _:
                    raise AssertionError(f"not expected: {event}")
        end.reassembly.check_invariants()
    assert len(end.reassembly) == 0
    return arrived
