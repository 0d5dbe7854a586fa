"""What is fuzzed: six decoders and both ends of a connection. Enters: a name. Leaves: a `Target`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.msgpack_names import ERRORS, REQUESTS, RESPONSES, TYPE, fields_in_order
from tests.fuzz.connections import ENCODINGS, Step, check_client, check_server
from tests.fuzz.decoders import check_decoder
from tests.fuzz.script import written
from tests.support.vectors import load_json, load_vectors

DIRECTIONS: Final = {"request": "request", "result": "response"}
"""What our codecs call it, and what the vectors do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that must stand any input.

    Attributes:
        check: raises when it does not.
        check_thoroughly: the same, and counts what it cost; for replaying.
        seeds: inputs to begin with.
        words: what a mutation may insert.
        max_len: of an input, in bytes.
    """

    check: Callable[[bytes], None]
    check_thoroughly: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    words: tuple[bytes, ...] = ()
    max_len: int = 4096


def _decoder(encoding: Encoding, direction: str) -> Target:
    check = partial(check_decoder, encoding, direction)
    return Target(
        check=check,
        check_thoroughly=partial(check, always_costed=True),
        seeds=partial(_messages, encoding, direction),
        words=_msgpack_words() if encoding is Encoding.MSGPACK else (),
    )


def _messages(encoding: Encoding, direction: str) -> Iterator[bytes]:
    """The golden vectors; for msgpack, which the reference has not, what they mean, encoded by us."""
    if encoding is Encoding.MSGPACK:
        codec = codec_for(encoding)
        for vector in load_vectors("native", DIRECTIONS[direction]):
            yield bytes(getattr(codec, f"encode_{direction}")(vector.message))
        return
    for vector in load_vectors(encoding.value, DIRECTIONS[direction]):
        if vector.bytes is not None:
            yield vector.bytes
    if direction == "request":
        for case in load_json("behaviour.json")["negative"]:
            if case["encoding"] == encoding.value:
                yield bytes.fromhex(case["hex"])
    if encoding is Encoding.FLATBUFFERS:
        for case in load_json("typescript.json")["vectors"]:
            if case["direction"] == DIRECTIONS[direction]:
                yield bytes.fromhex(case["hex"])


def _msgpack_words() -> tuple[bytes, ...]:
    names = {TYPE}
    for table in (REQUESTS, RESPONSES, ERRORS):
        for name, record in table.items():
            names.add(name)
            names.update(spelled for spelled, _, _ in fields_in_order(record))
    return tuple(sorted(name.encode() for name in names))


FLAGS: Final = range(8)
"""Streaming or not, narrow limits or not, taking streams or not."""


def _sessions(direction: str) -> Iterator[bytes]:
    """The golden sequences of chunks, and a few messages, in every encoding and under every flag."""
    sequences = [case["chunks"] for case in load_json("behaviour.json")["reassembly"]]
    for number, encoding in enumerate(ENCODINGS):
        for chunks in sequences:
            steps = b"".join(
                written(Step.CHUNK, stream_id, index, min(total, 255), bytes.fromhex(data))
                for stream_id, index, total, data in chunks
                if stream_id < 6
            )
            yield written(number, 0, Step.SINKS, 3) + steps + written(Step.SEND, 7)
            yield written(number, 3, Step.SINKS, 1) + steps + written(Step.WAIT, 250)
        messages = [message for message in _messages(encoding, direction) if len(message) < 400]
        for flags in FLAGS:
            said = written(number, flags, Step.SINKS, 3)
            for step, message in enumerate(messages[flags :: len(FLAGS)]):
                said += written(Step.MESSAGE, message, Step.SAY, 4 * step % 256, Step.SEND, 1)
            yield said
            for message in messages[flags :: len(FLAGS)][:2]:
                half = len(message) // 2
                yield (
                    written(number, flags, Step.SINKS, 3, Step.HEADER, 1)
                    + len(message).to_bytes(4, "little")
                    + (
                        written(Step.CHUNK, 1, 1, 2, message[half:], Step.CHUNK, 1, 0, 2, message[:half])
                        + written(Step.SAY, 40, Step.SEND, 3, Step.ABORT, 1)
                    )
                )


def _connection(check: Callable[[bytes], None], direction: str) -> Target:
    return Target(check=check, check_thoroughly=check, seeds=partial(_sessions, direction), max_len=1024)


TARGETS: Final[Mapping[str, Target]] = {
    **{
        f"{encoding.value}-{direction}": _decoder(encoding, direction)
        for encoding in Encoding
        for direction in DIRECTIONS
    },
    "server-connection": _connection(check_server, "request"),
    "client-connection": _connection(check_client, "result"),
}
