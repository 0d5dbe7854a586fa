"""Messages made to hurt (`tests/support/hostile_messages.py`): answered, not believed, at the price of their length.

Memory and calls are counted (`tests/fuzz/costs.py`), so no clock is asked.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.connection import ServerConnection
from simnode.protocol.errors import DecodeError, EncodeError
from simnode.protocol.events import MessageRefused, RequestReceived
from simnode.protocol.messages.error_kinds import DeserializationError
from simnode.protocol.messages.requests import Get
from simnode.protocol.messages.responses import Err
from tests.fuzz.costs import Cost, cost_of
from tests.support.hostile_messages import GROWING, KEY, REFUSED, shared_inbound, shared_related
from tests.support.strategies import requests, results


def cost_of_decoding(encoding: Encoding, direction: str, message: bytes) -> Cost:
    decode = getattr(codec_for(encoding), f"decode_{direction}")
    return cost_of(lambda: decode(Blob(message)), DecodeError)


@pytest.mark.parametrize(
    ("encoding", "direction", "message"),
    [
        pytest.param(encoding, direction, message, id=f"{encoding.value}-{direction}-{name}")
        for (encoding, direction), messages in REFUSED.items()
        for name, message in messages.items()
    ],
)
def test_a_hostile_message_is_refused_for_little(encoding: Encoding, direction: str, message: bytes) -> None:
    cost = cost_of_decoding(encoding, direction, message)
    assert isinstance(cost.outcome, DecodeError)
    assert len(str(cost.outcome)) < 500, "the peer gets back no more than a line"
    assert cost.is_within(len(message))


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        pytest.param(encoding, message, id=f"{encoding.value}-{name}")
        for encoding in Encoding
        for name, message in REFUSED[encoding, "request"].items()
    ],
)
def test_a_hostile_request_is_answered_once_and_the_next_one_is_heard(encoding: Encoding, message: bytes) -> None:
    codec = codec_for(encoding)
    connection = ServerConnection(codec=codec, streaming=True)
    connection.receive_message(Blob(message), 0.0)
    assert isinstance(connection.next_event(), MessageRefused)
    answer = connection.next_message()
    assert answer is not None
    result = codec.decode_result(Blob(bytes(answer.data)))
    assert isinstance(result, Err)
    assert isinstance(result.kind, DeserializationError)
    assert connection.next_message() is None
    connection.receive_message(Blob(bytes(codec.encode_request(Get(key=KEY)))), 0.0)
    event = connection.next_event()
    assert isinstance(event, RequestReceived)
    assert event.request == Get(key=KEY)


@pytest.mark.parametrize(("encoding", "direction", "make"), GROWING)
def test_many_tiny_items_cost_a_small_multiple_and_twice_as_many_cost_twice(
    encoding: Encoding, direction: str, make: Callable[[int], bytes]
) -> None:
    single, double = (make(count) for count in (500, 1_000))
    costs = [cost_of_decoding(encoding, direction, message) for message in (single, double)]
    for message, cost in zip((single, double), costs, strict=True):
        assert not isinstance(cost.outcome, DecodeError)
        assert cost.is_within(len(message))
    # a list grows by an eighth at a time; whatever is quadratic would cost four times as much
    assert costs[1].nbytes < 2.5 * costs[0].nbytes
    assert costs[1].calls < 2.1 * costs[0].calls


def test_sharing_a_little_is_fine() -> None:
    """Builders do share small vectors, and a table now and then."""
    for message in (shared_inbound(20), shared_related(1)):
        assert not isinstance(cost_of_decoding(Encoding.FLATBUFFERS, "request", message).outcome, DecodeError)


@pytest.mark.parametrize("direction", ["request", "result"])
@pytest.mark.parametrize("encoding", Encoding, ids=lambda encoding: encoding.value)
@settings(max_examples=30)
@given(data=st.data())
def test_whatever_is_well_formed_costs_a_small_multiple(
    encoding: Encoding, direction: str, data: st.DataObject
) -> None:
    codec = codec_for(encoding)
    message = data.draw(requests() if direction == "request" else results())
    try:
        encoded = bytes(getattr(codec, f"encode_{direction}")(message))
    except EncodeError:
        reject()
    assert cost_of_decoding(encoding, direction, encoded).is_within(len(encoded))
