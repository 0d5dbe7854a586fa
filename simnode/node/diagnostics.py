"""What a node says of itself. Enters: a `NodeView`. Leaves: query responses. Next: `simnode.live.handlers.reports`.

A response is a frame that costs nothing (`diagnose`) around a list that may be long. Whoever answers
makes the entries of the list in pieces of the size it can afford, and gives them to the frame.
A simulated node has no peers: its lists of peers are empty, not invented (protocol.md §6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from simnode.protocol.keys import encode_base58
from simnode.protocol.messages.requests import (
    NodeQuery,
    QueryConnectedPeers,
    QueryNeighborHostingInfo,
    QueryNodeDiagnostics,
    QuerySubscriptionInfo,
)
from simnode.protocol.messages.responses import (
    ConnectedPeers,
    ContractState,
    HostedContract,
    HostingStats,
    NeighborHosting,
    NetworkDebug,
    NetworkInfo,
    NodeDiagnostics,
    NodeInfo,
    QueryResponse,
    SubscriptionInfo,
    SystemMetrics,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """What the answering process knows.

    Attributes:
        connections: clients of this process.
        contracts: in the node's store.
    """

    name: str
    address: str
    uptime_seconds: int
    connections: int
    contracts: int


def diagnose(
    query: NodeQuery,
    view: NodeView,
    *,
    hosted: tuple[HostedContract, ...] = (),
    subscriptions: tuple[SubscriptionInfo, ...] = (),
    states: tuple[tuple[str, ContractState], ...] = (),
) -> QueryResponse:
    """Answers a query; sections that were not asked for are empty.

    Args:
        query: what is asked.
        view: what is known without looking for it.
        hosted: every contract of the node, for a query that wants it (`wants_hosted`).
        subscriptions: of the whole node, for a query that wants them (`wants_subscriptions`).
        states: of the contracts that a `QueryNodeDiagnostics` names.
    """
    match query:
        case QueryConnectedPeers():
            return ConnectedPeers(peers=())
        case QuerySubscriptionInfo():
            return NetworkDebug(subscriptions=subscriptions, connected_peers=())
        case QueryNodeDiagnostics():
            return _node_diagnostics(query, view, subscriptions, states)
        case _:  # QueryNeighborHostingInfo
            return NeighborHosting(my_hosted=hosted, neighbor_hosting=(), stats=_NO_NEIGHBORS)


def wants_hosted(query: NodeQuery) -> bool:
    """Whether the answer lists every contract."""
    return isinstance(query, QueryNeighborHostingInfo)


def wants_subscriptions(query: NodeQuery) -> bool:
    """Whether the answer lists every subscription."""
    return isinstance(query, QuerySubscriptionInfo) or (
        isinstance(query, QueryNodeDiagnostics) and query.include_subscriptions
    )


def hosted_contract(contract: bytes) -> HostedContract:
    """The entry of a contract that the node has."""
    return HostedContract(
        contract_key=encode_base58(contract), hosting_hash=int.from_bytes(contract[:4], "little"), hosted_since=0
    )


def subscriptions_of(contract: bytes, count: int) -> Iterator[SubscriptionInfo]:
    """One entry for each subscriber; clients have no identity beyond their number here."""
    return (SubscriptionInfo(contract_key=contract, client_id=client) for client in range(count))


def contract_state(contract: bytes, nbytes: int, subscribers: int) -> tuple[str, ContractState]:
    """The entry of a contract that a diagnosis was asked about."""
    state = ContractState(subscribers=subscribers, subscriber_peer_ids=(), size_bytes=nbytes)
    return encode_base58(contract), state


def _node_diagnostics(
    query: QueryNodeDiagnostics,
    view: NodeView,
    subscriptions: tuple[SubscriptionInfo, ...],
    states: tuple[tuple[str, ContractState], ...],
) -> NodeDiagnostics:
    return NodeDiagnostics(
        node_info=NodeInfo(
            peer_id=view.name,
            is_gateway=False,
            location=None,
            listening_address=view.address,
            uptime_seconds=view.uptime_seconds,
        )
        if query.include_node_info
        else None,
        network_info=NetworkInfo(connected_peers=(), active_connections=0) if query.include_network_info else None,
        subscriptions=subscriptions if query.include_subscriptions else (),
        contract_states=states,
        system_metrics=SystemMetrics(active_connections=view.connections, hosting_contracts=view.contracts)
        if query.include_system_metrics
        else None,
        connected_peers_detailed=(),
    )


_NO_NEIGHBORS = HostingStats(
    hosting_announces_sent=0,
    hosting_announces_received=0,
    updates_via_proximity=0,
    updates_via_subscription=0,
    false_positive_forwards=0,
    avg_neighbor_hosting_size=0.0,
)
