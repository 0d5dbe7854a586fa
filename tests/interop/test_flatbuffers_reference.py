"""The reference's own flatbuffers code reads what our codec writes, and refuses what our codec refuses.

In: `fbs_check` (see its `main.rs`), which holds the reference's decoder of requests and its verifier
of responses. A request comes back as bincode, so that the native codec, itself checked byte for
byte, tells what the reference understood.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.flatbuffers_errors import error_text
from simnode.protocol.errors import DecodeError
from simnode.protocol.keys import code_hash, contract_key
from simnode.protocol.limits import CHUNK_SIZE
from simnode.protocol.messages import contracts, delegates, requests, responses
from simnode.protocol.messages.contracts import ContractContainer, ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from tests.support.vectors import load_json, load_vectors

pytestmark = pytest.mark.timeout(1300)  # the first run builds the program

FLATBUFFERS = codec_for(Encoding.FLATBUFFERS)
NATIVE = codec_for(Encoding.NATIVE)
MUTATIONS = 5_000
SEED = 20_260_101
ANSWER_TIMEOUT_S = 60.0

INEXPRESSIBLE = (
    delegates.GetContractRequest,
    delegates.PutContractRequest,
    delegates.UpdateContractRequest,
    delegates.SubscribeContractRequest,
    delegates.DelegateMessage,
    delegates.UnsubscribeContractRequest,
)
"""Messages from a delegate that flatbuffers leaves out."""

Ask = Callable[[str, Iterable[bytes]], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def ask(cargo_binary: Callable[[Path], Path]) -> Ask:
    """`ask("request", messages)`: the reference's verdicts, in order."""
    binary = cargo_binary(Path(__file__).parent / "fbs_check")

    def verdicts(direction: str, messages: Iterable[bytes]) -> list[dict[str, Any]]:
        lines = "".join(f"{direction} {message.hex()}\n" for message in messages)
        run = subprocess.run(
            [binary], input=lines, capture_output=True, text=True, timeout=ANSWER_TIMEOUT_S, check=True
        )
        return [json.loads(line) for line in run.stdout.splitlines()]

    return verdicts


KEY = ContractKey(b"i" * 32, b"c" * 32)
SIZES = (0, 1, 2, 3, 4, 2048, 2049, 2050, 2051, 2052, 70_000)


def contract(code: Blob) -> ContractContainer:
    hashed = code_hash(code)
    return ContractContainer(data=code, code_hash=hashed, params=Blob(b"p"), key=contract_key(hashed, Blob(b"p")))


def all_requests() -> list[tuple[requests.ClientRequest, bytes]]:
    """Every golden request that flatbuffers has, and fields of all sizes and paddings, with their encodings."""
    messages: list[requests.ClientRequest] = [
        vector.message for vector in load_vectors("flatbuffers", "request") if vector.bytes is not None
    ]
    for size in SIZES:
        data = Blob(bytes([7]) * size)
        related = ((b"r" * 32, data), (b"s" * 32, Blob(b"small")))
        messages += [
            requests.Put(contract=contract(data), state=data, related_contracts=related, subscribe=True),
            requests.Update(key=KEY, data=contracts.StateAndDelta(state=data, delta=data)),
            requests.StreamChunk(stream_id=1, index=2, total=3, data=data),
            requests.Subscribe(key=b"k" * 32, summary=data),
            requests.Disconnect(cause="é" * size),
            requests.Authenticate(token="t" * size),
        ]
    encoded = [(message, bytes(FLATBUFFERS.encode_request(message))) for message in messages]
    for size in (*SIZES, CHUNK_SIZE):
        rope = Rope([bytes([8]) * size, b"end"])
        chunk = requests.StreamChunk(stream_id=2**32 - 1, index=0, total=256, data=Blob(bytes(rope)))
        envelope = FLATBUFFERS.encode_request_chunk(stream_id=2**32 - 1, index=0, total=256, data=rope)
        encoded.append((chunk, bytes(envelope)))
    return encoded


def all_results() -> list[tuple[responses.HostResult, bytes]]:
    """The same of results."""
    messages: list[responses.HostResult] = [
        vector.message for vector in load_vectors("flatbuffers", "response") if vector.bytes is not None
    ]
    messages.append(responses.Ok())
    for size in SIZES:
        data = Blob(bytes([9]) * size)
        messages += [
            responses.GetResponse(key=KEY, contract=contract(data), state=data),
            responses.GetResponse(key=KEY, contract=None, state=data),
            responses.UpdateNotification(key=KEY, update=contracts.RelatedState(related_to=b"r" * 32, state=data)),
            responses.UpdateResponse(key=KEY, summary=data),
            responses.StreamChunk(stream_id=1, index=2, total=3, data=data),
        ]
    encoded = [(message, bytes(FLATBUFFERS.encode_result(message))) for message in messages]
    for size in (*SIZES, CHUNK_SIZE):
        rope = Rope([bytes([8]) * size, b"end"])
        chunk = responses.StreamChunk(stream_id=7, index=1, total=2, data=Blob(bytes(rope)))
        encoded.append((chunk, bytes(FLATBUFFERS.encode_result_chunk(stream_id=7, index=1, total=2, data=rope))))
    return encoded


def as_a_map(request: requests.ClientRequest) -> requests.ClientRequest:
    """The request with its related contracts in a fixed order: the reference has them in a hash map."""
    if isinstance(request, requests.Put):
        return replace(request, related_contracts=tuple(sorted(request.related_contracts, key=lambda pair: pair[0])))
    return request


def understood(native: str) -> requests.ClientRequest:
    """The request that the reference read, with an empty summary taken for none as simnode does."""
    request = NATIVE.decode_request(Blob(bytes.fromhex(native)))
    if isinstance(request, requests.Subscribe):
        return replace(request, summary=request.summary or None)
    return as_a_map(request)


def shown(value: Any) -> Any:
    """A result as `fbs_check` prints it."""
    match value:
        case Blob() | bytes():
            return bytes(value).hex()
        case ContractKey() | DelegateKey() | ContractContainer():
            return [shown(getattr(value, field.name)) for field in fields(value)]
        case tuple():
            return [shown(item) for item in value if not isinstance(item, INEXPRESSIBLE)]
        case responses.Err(kind):
            return ["Error", error_text(kind)]
        case responses.Ok():
            return ["Ok", ""]
        case None | bool() | int():
            return value
    return [type(value).__name__, *(shown(getattr(value, field.name)) for field in fields(value))]


def test_the_reference_decodes_each_request_to_what_was_encoded(ask: Ask) -> None:
    cases = all_requests()
    for (request, message), verdict in zip(cases, ask("request", (message for _, message in cases)), strict=True):
        assert verdict.keys() == {"native"}, (request, verdict)
        # the golden messages are in the decoder's form but for an empty summary
        assert understood(verdict["native"]) == as_a_map(FLATBUFFERS.decode_request(Blob(message)))
        if not isinstance(request, requests.Subscribe):
            assert understood(verdict["native"]) == as_a_map(request)


def test_the_references_verifier_accepts_each_result_and_finds_its_fields(ask: Ask) -> None:
    cases = all_results()
    for (result, _), verdict in zip(cases, ask("response", (message for _, message in cases)), strict=True):
        assert verdict == {"fields": shown(result)}


def mutated(message: bytes, rng: random.Random) -> bytes:
    """The message cut short, or with some bytes or one word changed, preferably to something plausible."""
    changed = bytearray(message)
    match rng.randrange(6):
        case 0:
            del changed[rng.randrange(len(changed)) :]
        case 1 | 2:
            at = rng.randrange(len(changed) // 4) * 4
            word = rng.choice((0, 1, 4, 8, 16, len(message) - at, 2**31 - 1, 2**32 - 1, rng.randrange(len(message))))
            changed[at : at + 4] = word.to_bytes(4, "little")
        case 3 | 4:
            changed[rng.randrange(len(changed))] = rng.choice((0, 1, 2, 3, 4, 6, 8, 12, 255, rng.randrange(256)))
        case 5:
            for _ in range(3):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def mutations(direction: str) -> list[bytes]:
    """Golden messages of both SDKs, damaged."""
    golden = [vector.bytes for vector in load_vectors("flatbuffers", direction) if vector.bytes is not None]
    typescript = load_json("typescript.json")["vectors"]
    golden += [bytes.fromhex(vector["hex"]) for vector in typescript if vector["direction"] == direction]
    rng = random.Random(SEED)
    return [mutated(rng.choice(golden), rng) for _ in range(MUTATIONS)]


def test_damaged_requests_get_the_references_verdict(ask: Ask) -> None:
    messages = mutations("request")
    accepted = 0
    for message, verdict in zip(messages, ask("request", messages), strict=True):
        if "error" in verdict:
            with pytest.raises(DecodeError):
                FLATBUFFERS.decode_request(Blob(message))
        else:
            accepted += 1
            assert as_a_map(FLATBUFFERS.decode_request(Blob(message))) == understood(verdict["native"]), message.hex()
    assert MUTATIONS // 10 < accepted < MUTATIONS * 9 // 10  # else the mutations test one thing only


def test_damaged_responses_that_the_reference_refuses_are_refused(ask: Ask) -> None:
    """The reverse does not hold: here hashes must have their exact length, which its verifier knows nothing of."""
    messages = mutations("response")
    refused = 0
    for message, verdict in zip(messages, ask("response", messages), strict=True):
        if "error" in verdict and "`responses`" not in verdict["error"]:  # our schema has them optional
            refused += 1
            with pytest.raises(DecodeError):
                FLATBUFFERS.decode_result(Blob(message))
    assert refused > MUTATIONS // 10
