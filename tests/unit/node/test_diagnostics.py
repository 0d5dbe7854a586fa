"""What a node says of itself: what was asked for, and nothing invented."""

from __future__ import annotations

import pytest

from simnode.node.diagnostics import (
    NodeView,
    contract_state,
    diagnose,
    hosted_contract,
    subscriptions_of,
    wants_hosted,
    wants_subscriptions,
)
from simnode.protocol.keys import encode_base58
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.requests import (
    QueryConnectedPeers,
    QueryNeighborHostingInfo,
    QueryNodeDiagnostics,
    QuerySubscriptionInfo,
)
from simnode.protocol.messages.responses import (
    ConnectedPeers,
    ContractState,
    NeighborHosting,
    NetworkDebug,
    NetworkInfo,
    NodeDiagnostics,
    NodeInfo,
    SubscriptionInfo,
    SystemMetrics,
)

KNOWN, QUIET = (bytes((byte,)) * 32 for byte in (1, 2))
SUBSCRIPTIONS = tuple(subscriptions_of(KNOWN, 2))
STATES = (contract_state(KNOWN, 100, 2), contract_state(QUIET, 0, 0))
NOTHING = QueryNodeDiagnostics(
    include_node_info=False,
    include_network_info=False,
    include_subscriptions=False,
    include_system_metrics=False,
    include_detailed_peer_info=False,
    include_subscriber_peer_ids=False,
)


@pytest.fixture
def view() -> NodeView:
    return NodeView(
        name="simnode",
        address="127.0.0.1:7509",
        uptime_seconds=42,
        connections=3,
        contracts=2,
    )


def test_simulated_node_has_no_peers(view: NodeView) -> None:
    assert diagnose(QueryConnectedPeers(), view) == ConnectedPeers(peers=())


def test_every_subscriber_is_an_entry(view: NodeView) -> None:
    assert diagnose(QuerySubscriptionInfo(), view, subscriptions=SUBSCRIPTIONS) == NetworkDebug(
        subscriptions=(
            SubscriptionInfo(contract_key=KNOWN, client_id=0),
            SubscriptionInfo(contract_key=KNOWN, client_id=1),
        ),
        connected_peers=(),
    )


def test_only_what_is_asked_for_is_looked_for() -> None:
    everything, nothing = QueryNodeDiagnostics(), NOTHING
    peers, subscriptions, hosting = QueryConnectedPeers(), QuerySubscriptionInfo(), QueryNeighborHostingInfo()
    queries = (everything, nothing, peers, subscriptions, hosting)
    assert [query for query in queries if wants_subscriptions(query)] == [everything, subscriptions]
    assert [query for query in queries if wants_hosted(query)] == [hosting]


def test_diagnostics_hold_everything_that_is_asked_for(view: NodeView) -> None:
    query = QueryNodeDiagnostics(contract_keys=tuple(ContractKey(one, bytes(32)) for one in (KNOWN, QUIET)))
    assert diagnose(query, view, subscriptions=SUBSCRIPTIONS, states=STATES) == NodeDiagnostics(
        node_info=NodeInfo(
            peer_id="simnode",
            is_gateway=False,
            location=None,
            listening_address="127.0.0.1:7509",
            uptime_seconds=42,
        ),
        network_info=NetworkInfo(connected_peers=(), active_connections=0),
        subscriptions=tuple(SubscriptionInfo(contract_key=KNOWN, client_id=client) for client in range(2)),
        contract_states=(
            (encode_base58(KNOWN), ContractState(subscribers=2, subscriber_peer_ids=(), size_bytes=100)),
            (encode_base58(QUIET), ContractState(subscribers=0, subscriber_peer_ids=(), size_bytes=0)),
        ),
        system_metrics=SystemMetrics(active_connections=3, hosting_contracts=2),
        connected_peers_detailed=(),
    )


def test_sections_that_are_not_asked_for_are_empty(view: NodeView) -> None:
    assert diagnose(NOTHING, view) == NodeDiagnostics(
        node_info=None,
        network_info=None,
        subscriptions=(),
        contract_states=(),
        system_metrics=None,
        connected_peers_detailed=(),
    )


def test_hosted_contracts_are_named_and_neighbours_are_none(view: NodeView) -> None:
    hosting = diagnose(QueryNeighborHostingInfo(), view, hosted=tuple(map(hosted_contract, (KNOWN, QUIET))))
    assert isinstance(hosting, NeighborHosting)
    assert [entry.contract_key for entry in hosting.my_hosted] == [encode_base58(KNOWN), encode_base58(QUIET)]
    assert hosting.my_hosted[0].hosting_hash == 0x01010101
    assert hosting.neighbor_hosting == ()
    assert hosting.stats.hosting_announces_sent == 0
