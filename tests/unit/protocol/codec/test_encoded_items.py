"""A long list that was serialized piece by piece is the same bytes as the list."""

from __future__ import annotations

import pytest

from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.output import EncodedItems
from simnode.protocol.errors import EncodeError
from simnode.protocol.messages.responses import (
    ContractState,
    NetworkDebug,
    NodeDiagnostics,
    SubscriptionInfo,
)


def subscriptions(number: int) -> tuple[SubscriptionInfo, ...]:
    return tuple(SubscriptionInfo(contract_key=at.to_bytes(32), client_id=at) for at in range(number))


@pytest.mark.parametrize("encoding", [Encoding.NATIVE, Encoding.MSGPACK])
@pytest.mark.parametrize("number", [0, 1, 15, 16, 1000, 70_000])
def test_pieces_of_a_list_are_the_list(encoding: Encoding, number: int) -> None:
    """Around the numbers where msgpack changes the head of an array."""
    codec = codec_for(encoding)
    entries = subscriptions(number)
    pieces = [codec.encode_items(NetworkDebug, "subscriptions", entries[at : at + 300]) for at in range(0, number, 300)]
    whole = NetworkDebug(subscriptions=entries, connected_peers=())
    in_pieces = NetworkDebug(subscriptions=EncodedItems(pieces, number), connected_peers=())
    assert bytes(codec.encode_result(in_pieces)) == bytes(codec.encode_result(whole))


@pytest.mark.parametrize("encoding", [Encoding.NATIVE, Encoding.MSGPACK])
def test_pieces_of_a_map_and_of_a_list_stand_in_one_message(encoding: Encoding) -> None:
    codec = codec_for(encoding)
    states = tuple(
        (f"contract {at}", ContractState(subscribers=at, subscriber_peer_ids=(), size_bytes=at)) for at in range(100)
    )
    listed = {"subscriptions": subscriptions(5), "contract_states": states}

    def diagnosis(**lists: tuple[object, ...]) -> NodeDiagnostics:
        return NodeDiagnostics(
            node_info=None, network_info=None, system_metrics=None, connected_peers_detailed=(), **lists
        )

    encoded = {
        field: EncodedItems([codec.encode_items(NodeDiagnostics, field, entries)], len(entries))
        for field, entries in listed.items()
    }
    message = codec.encode_result(diagnosis(**encoded))
    assert bytes(message) == bytes(codec.encode_result(diagnosis(**listed)))
    assert codec.decode_result(Blob(bytes(message))) == diagnosis(**listed)


def test_encoding_without_such_responses_says_so() -> None:
    with pytest.raises(EncodeError, match="NetworkDebug"):
        codec_for(Encoding.FLATBUFFERS).encode_items(NetworkDebug, "subscriptions", subscriptions(1))
