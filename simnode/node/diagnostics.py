"""What a node says of itself. Enters: a `NodeView`. Leaves: query responses. Next: `simnode.live.handlers.handler`.

A simulated node has no peers: its lists of peers are empty, not invented (protocol.md §6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from simnode.protocol.keys import encode_base58
from simnode.protocol.messages.requests import (
    NodeQuery,
    QueryConnectedPeers,
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
        subscribers: by contract, over the whole node.
        state_nbytes: of a contract, None if there is none.
        hosted: every contract of the node.
    """

    name: str
    address: str
    uptime_seconds: int
    connections: int
    contracts: int
    subscribers: Mapping[bytes, int]
    state_nbytes: Callable[[bytes], int | None]
    hosted: Callable[[], Sequence[bytes]]


def diagnose(query: NodeQuery, view: NodeView) -> QueryResponse:
    """Answers a query; sections that were not asked for are empty."""
    match query:
        case QueryConnectedPeers():
            return ConnectedPeers(peers=())
        case QuerySubscriptionInfo():
            return NetworkDebug(subscriptions=_subscriptions(view), connected_peers=())
        case QueryNodeDiagnostics():
            return _node_diagnostics(query, view)
        case _:  # QueryNeighborHostingInfo
            return _neighbor_hosting(view)


def _subscriptions(view: NodeView) -> tuple[SubscriptionInfo, ...]:
    """One entry a subscriber; clients have no identity beyond their number here."""
    return tuple(
        SubscriptionInfo(contract_key=contract, client_id=client)
        for contract, count in view.subscribers.items()
        for client in range(count)
    )


def _node_diagnostics(query: QueryNodeDiagnostics, view: NodeView) -> NodeDiagnostics:
    states = []
    for key in query.contract_keys:
        nbytes = view.state_nbytes(key.instance)
        if nbytes is not None:
            count = view.subscribers.get(key.instance, 0)
            state = ContractState(subscribers=count, subscriber_peer_ids=(), size_bytes=nbytes)
            states.append((encode_base58(key.instance), state))
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
        subscriptions=_subscriptions(view) if query.include_subscriptions else (),
        contract_states=tuple(states),
        system_metrics=SystemMetrics(active_connections=view.connections, hosting_contracts=view.contracts)
        if query.include_system_metrics
        else None,
        connected_peers_detailed=(),
    )


def _neighbor_hosting(view: NodeView) -> NeighborHosting:
    hosted = tuple(
        HostedContract(
            contract_key=encode_base58(contract), hosting_hash=int.from_bytes(contract[:4], "little"), hosted_since=0
        )
        for contract in view.hosted()
    )
    stats = HostingStats(
        hosting_announces_sent=0,
        hosting_announces_received=0,
        updates_via_proximity=0,
        updates_via_subscription=0,
        false_positive_forwards=0,
        avg_neighbor_hosting_size=0.0,
    )
    return NeighborHosting(my_hosted=hosted, neighbor_hosting=(), stats=stats)
