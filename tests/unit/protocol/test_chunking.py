import pytest
from blake3 import blake3

from simnode.protocol.blob import Rope
from simnode.protocol.chunking import count_chunks, cut_into_chunks, frame_mapped
from simnode.protocol.codec.native import NativeCodec
from simnode.protocol.limits import CHUNK_SIZE, MAX_RESPONSE_SIZE, MAX_TOTAL_CHUNKS
from tests.support.vectors import counting_bytes, load_json

CODEC = NativeCodec()
VECTORS = load_json("behaviour.json")["chunking"]


@pytest.mark.parametrize(
    ("nbytes", "chunks"),
    [(0, 1), (1, 1), (CHUNK_SIZE, 1), (CHUNK_SIZE + 1, 2), (2 * CHUNK_SIZE, 2), (MAX_RESPONSE_SIZE, MAX_TOTAL_CHUNKS)],
)
def test_a_message_has_as_many_chunks_as_it_begins_and_at_least_one(nbytes, chunks):
    assert count_chunks(nbytes) == chunks


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["payload_len"]))
@pytest.mark.parametrize("direction", ["request", "response"])
def test_the_golden_chunks_are_made_byte_for_byte(vector, direction):
    encode = CODEC.encode_request_chunk if direction == "request" else CODEC.encode_result_chunk

    def encode_chunk(index, total, data):
        return encode(stream_id=vector["stream_id"], index=index, total=total, data=data)

    payload = counting_bytes(vector["payload_len"])
    assert blake3(payload).hexdigest() == vector["payload_blake3"]
    chunks = [bytes(chunk) for chunk in cut_into_chunks(Rope([payload]), encode_chunk)]
    assert len(chunks) == vector["chunks"]
    assert chunks[0].startswith(bytes.fromhex(vector[f"{direction}_first_frame_prefix_hex"]))
    assert blake3(b"".join(chunks)).hexdigest() == vector[f"{direction}_frames_concat_blake3"]
    if direction == "request":
        assert len(chunks[0]) == vector["request_frame_len_first"]
        assert len(chunks[-1]) == vector["request_frame_len_last"]


def test_chunks_are_made_one_at_a_time_as_they_are_asked_for():
    """A 50 MiB response must not stand in memory as 200 encoded chunks."""
    made = []

    def encode_chunk(index, total, data):
        made.append((index, total, len(data)))
        return data

    framed = frame_mapped(Rope([bytes(CHUNK_SIZE), bytes(CHUNK_SIZE), b"rest"]), encode_chunk)
    assert framed.held_bytes == 0
    assert made == []
    next(framed.messages)
    assert made == [(0, 3, CHUNK_SIZE)]
    assert [bytes(chunk) for chunk in framed.messages] == [bytes(CHUNK_SIZE), b"rest"]
    assert made == [(0, 3, CHUNK_SIZE), (1, 3, CHUNK_SIZE), (2, 3, 4)]


def test_a_message_that_goes_out_whole_is_handed_on_as_it_is():
    message = Rope([b"abc"])
    framed = frame_mapped(message, None)
    assert list(framed.messages) == [message]
    assert framed.held_bytes == 0
