"""What a node answers: the reference's `HostResult`. Next: `error_kinds.py`."""

from __future__ import annotations

from simnode.protocol.blob import Blob
from simnode.protocol.messages.contracts import ContractContainer, ContractKey, UpdateData
from simnode.protocol.messages.delegates import DelegateKey, OutboundDelegateMsg
from simnode.protocol.messages.error_kinds import ErrorKind
from simnode.protocol.messages.requests import StreamChunk
from simnode.protocol.messages.wire import F32, H32, U32, U64, Address
from simnode.protocol.record import record

# ---- ContractResponse --------------------------------------------------------------------------


@record()
class GetResponse:
    key: ContractKey
    contract: ContractContainer | None
    state: Blob


@record()
class PutResponse:
    key: ContractKey


@record()
class UpdateNotification:
    key: ContractKey
    update: UpdateData


@record()
class UpdateResponse:
    key: ContractKey
    summary: Blob


@record()
class SubscribeResponse:
    key: ContractKey
    subscribed: bool


@record()
class NotFound:
    instance_id: H32


ContractResponse = GetResponse | PutResponse | UpdateNotification | UpdateResponse | SubscribeResponse | NotFound


@record()
class DelegateResponse:
    key: DelegateKey
    values: tuple[OutboundDelegateMsg, ...]


# ---- QueryResponse -----------------------------------------------------------------------------


@record()
class ConnectedPeers:
    peers: tuple[tuple[str, Address], ...]


@record()
class SubscriptionInfo:
    contract_key: H32
    client_id: U64


@record()
class NetworkDebug:
    subscriptions: tuple[SubscriptionInfo, ...]
    connected_peers: tuple[tuple[str, Address], ...]


@record()
class NodeInfo:
    peer_id: str
    is_gateway: bool
    location: str | None
    listening_address: str | None
    uptime_seconds: U64


@record()
class NetworkInfo:
    connected_peers: tuple[tuple[str, str], ...]
    active_connections: U64


@record()
class ContractState:
    subscribers: U32
    subscriber_peer_ids: tuple[str, ...]
    size_bytes: U64


@record()
class SystemMetrics:
    active_connections: U32
    hosting_contracts: U32


@record()
class ConnectedPeerInfo:
    peer_id: str
    address: str


@record()
class NodeDiagnostics:
    node_info: NodeInfo | None
    network_info: NetworkInfo | None
    subscriptions: tuple[SubscriptionInfo, ...]
    contract_states: tuple[tuple[str, ContractState], ...]
    system_metrics: SystemMetrics | None
    connected_peers_detailed: tuple[ConnectedPeerInfo, ...]


@record()
class HostedContract:
    contract_key: str
    hosting_hash: U32
    hosted_since: U64


@record()
class NeighborHosted:
    peer_id: str
    known_contracts: tuple[U32, ...]
    last_update: U64
    update_count: U64


@record()
class HostingStats:
    hosting_announces_sent: U64
    hosting_announces_received: U64
    updates_via_proximity: U64
    updates_via_subscription: U64
    false_positive_forwards: U64
    avg_neighbor_hosting_size: F32


@record()
class NeighborHosting:
    my_hosted: tuple[HostedContract, ...]
    neighbor_hosting: tuple[NeighborHosted, ...]
    stats: HostingStats


QueryResponse = ConnectedPeers | NetworkDebug | NodeDiagnostics | NeighborHosting

# ---- the rest ----------------------------------------------------------------------------------


@record(kw_only=False)
class Ok:
    pass


@record()
class GetResponseContent:
    """What a StreamHeader announces: a GetResponse, its state and code to follow in the chunks."""

    key: ContractKey
    includes_contract: bool


@record(kw_only=False)
class Raw:
    """What a StreamHeader announces: anything else."""


@record()
class StreamHeader:
    """`total_bytes` is the length of the serialized message that the chunks carry."""

    stream_id: U32
    total_bytes: U64
    content: GetResponseContent | Raw


HostResponse = ContractResponse | DelegateResponse | QueryResponse | Ok | StreamChunk | StreamHeader


@record(kw_only=False)
class Err:
    """The failing half of `HostResult`."""

    kind: ErrorKind


HostResult = HostResponse | Err
"""The reference's `Result<HostResponse, ClientError>`: a response stands for its own `Ok`."""
