"""What is wrong with a message or a chunk is answered in the connection's own encoding, and the connection lives.

Every way in which reassembly and decoding can fail, in three encodings, streaming on and off; in
native byte for byte as the reference answers, wherever there is a golden vector.
"""

from __future__ import annotations

import pytest

from simnode.protocol.blob import Rope
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import CHUNK_SIZE, CHUNK_THRESHOLD, MAX_CHUNK_DATA_SIZE
from simnode.protocol.messages.error_kinds import DeserializationError, Unhandled
from simnode.protocol.messages.requests import Get
from simnode.protocol.messages.responses import Err, NotFound
from tests.support.modes import MODES, UNKNOWN_INSTANCE, ModeConnection
from tests.support.vectors import load_json

GET = Get(key=UNKNOWN_INSTANCE)

REASSEMBLY = [case for case in load_json("behaviour.json")["reassembly"] if "error" in case["last"]]
NEGATIVE = [case for case in load_json("behaviour.json")["negative"] if not case["accepted"]]

STREAM_SURVIVES = {"index_out_of_range", "duplicate", "ninth_stream"}
"""simnode's promise (protocol.md §2): the remaining chunks still complete the stream."""


def refusal(cause: str) -> Unhandled:
    return Unhandled(cause=f"stream reassembly error: {cause}")


@pytest.mark.parametrize("case", REASSEMBLY, ids=lambda case: case["name"])
async def test_a_chunk_that_does_not_fit_is_answered(connection: ModeConnection, case: dict) -> None:
    for stream_id, index, total, data in case["chunks"]:
        await connection.send_chunk(stream_id, index, total, bytes.fromhex(data))
    answer = await connection.receive()
    assert connection.reads_as(answer.result, refusal(case["last"]["error"]))
    if connection.mode.encoding is Encoding.NATIVE:
        assert answer.data.hex() == case["last"]["server_reply_hex"]
    assert await connection.lives()


@pytest.mark.parametrize("name", ["total_mismatch", "total_257", "zero_total"])
async def test_later_chunks_of_a_killed_stream_earn_no_further_answer(connection: ModeConnection, name: str) -> None:
    (case,) = (case for case in REASSEMBLY if case["name"] == name)
    for stream_id, index, total, data in case["chunks"]:
        await connection.send_chunk(stream_id, index, total, bytes.fromhex(data))
    await connection.receive()
    await connection.send_chunk(1, 1, 2)
    await connection.send_chunk(1, 0, 2)
    assert await connection.lives()


@pytest.mark.parametrize("name", sorted(STREAM_SURVIVES))
async def test_a_stream_survives_a_chunk_that_is_merely_misplaced(connection: ModeConnection, name: str) -> None:
    """A GET cut in two, and between its halves the chunks of the vector with its stream as theirs."""
    message = bytes(connection.codec.encode_request(GET))
    halves = message[: len(message) // 2], message[len(message) // 2 :]
    await connection.send_chunk(1, 0, 2, halves[0])
    match name:
        case "index_out_of_range":
            await connection.send_chunk(1, 2, 2)
        case "duplicate":
            await connection.send_chunk(1, 0, 2, b"another")
        case "ninth_stream":
            for other in range(2, 10):
                await connection.send_chunk(other, 0, 2)
    assert isinstance((await connection.receive()).result, Err)
    await connection.send_chunk(1, 1, 2, halves[1])
    assert (await connection.receive()).result == NotFound(instance_id=UNKNOWN_INSTANCE)


async def test_a_chunk_of_more_than_its_limit_is_answered(connection: ModeConnection) -> None:
    await connection.send_chunk(3, 0, 2, bytes(MAX_CHUNK_DATA_SIZE + 1))
    cause = f"chunk of {MAX_CHUNK_DATA_SIZE + 1} bytes exceeds maximum {MAX_CHUNK_DATA_SIZE} for stream 3"
    assert connection.reads_as((await connection.receive()).result, refusal(cause))
    assert await connection.lives()


async def test_a_stream_that_outgrows_what_its_first_chunk_promised_is_answered(connection: ModeConnection) -> None:
    await connection.send_chunk(3, 0, 2, b"a little")
    await connection.send_chunk(3, 1, 2, bytes(2 * CHUNK_SIZE))
    cause = f"stream 3 exceeds the {2 * CHUNK_SIZE} bytes reserved for its 2 chunks"
    assert connection.reads_as((await connection.receive()).result, refusal(cause))
    assert await connection.lives()


async def test_a_stream_beyond_the_connections_budget_is_answered(connection: ModeConnection) -> None:
    """Four streams of 256 chunks reserve 256 MiB, which is all that a connection gets."""
    for stream_id in range(5):
        await connection.send_chunk(stream_id, 0, 256)
    cause = f"stream 4 needs {256 * CHUNK_SIZE} bytes, 0 are left for this connection"
    assert connection.reads_as((await connection.receive()).result, refusal(cause))
    assert await connection.lives()


async def test_a_chunk_inside_a_chunk_is_answered(connection: ModeConnection) -> None:
    inner = connection.codec.encode_request_chunk(stream_id=8, index=0, total=1, data=Rope([b"inner"]))
    await connection.send_chunk(7, 0, 1, bytes(inner))
    assert connection.reads_as(
        (await connection.receive()).result, refusal("the message of stream 7 is itself a StreamChunk")
    )
    assert await connection.lives()


async def test_a_stream_that_waited_too_long_is_answered(strict_connection: ModeConnection) -> None:
    """The strict node gives a stream one second."""
    await strict_connection.send_chunk(5, 0, 2, b"first")
    answer = await strict_connection.receive()
    assert strict_connection.reads_as(answer.result, refusal("stream 5 expired: 1 of 2 chunks, none for 1 s"))
    await strict_connection.send_chunk(5, 1, 2, b"late")
    assert await strict_connection.lives()


# ---- messages that are none ----------------------------------------------------------------------


MSGPACK_NEGATIVE = [
    {"name": name, "encoding": "msgpack", "hex": message.hex()}
    for name, message in {
        "empty_message": b"",
        "no_map": b"\x93\x01\x02\x03",
        "no_type": b"\x80",
        "unknown_type": b"\x81\xa4type\xa4Nope",
        "unused_code": b"\x81\xa4type\xc1",
        "type_is_no_text": b"\x81\xa4type\x07",
        "invalid_utf8": b"\x82\xa4type\xacAuthenticate\xa5token\xa2\xff\xfe",
        "length_4_gib": b"\x82\xa4type\xacAuthenticate\xa5token\xdb\xff\xff\xff\xffa",
        "trailing_bytes": b"\x81\xa4type\xa5Close\x00",
    }.items()
]


IN_ITS_ENCODING = [
    pytest.param(mode, case, id=f"{mode}-{case['name']}")
    for mode in MODES
    for case in [*NEGATIVE, *MSGPACK_NEGATIVE]
    if case["encoding"] == mode.encoding.value
]


@pytest.mark.parametrize(("connection", "case"), IN_ITS_ENCODING, indirect=["connection"])
async def test_an_undecodable_message_is_answered(connection: ModeConnection, case: dict) -> None:
    await connection.socket.send(bytes.fromhex(case["hex"]))
    answer = await connection.receive()
    assert isinstance(answer.result, Err)
    assert isinstance(answer.result.kind, DeserializationError)
    if connection.mode.encoding is Encoding.NATIVE:
        assert answer.data.hex() == case["server_reply_hex"]
    assert await connection.lives()


async def test_an_undecodable_text_message_is_answered_as_its_bytes_would_be(connection: ModeConnection) -> None:
    await connection.socket.send("\x7f\x7f\x7f")
    assert await connection.says_undecodable()


async def test_an_undecodable_message_in_chunks_is_answered(connection: ModeConnection) -> None:
    await connection.send_chunk(0, 0, 2, b"\x7f\x7f")
    await connection.send_chunk(0, 1, 2, b"\x7f")
    assert await connection.says_undecodable()


async def test_a_large_undecodable_message_is_answered(connection: ModeConnection) -> None:
    """It goes another way than a small one: into a leased segment, which must come back."""
    await connection.socket.send(b"\x7f" * (4 * CHUNK_THRESHOLD))
    assert await connection.says_undecodable()
