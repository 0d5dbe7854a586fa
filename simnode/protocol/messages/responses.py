"""What a node answers: the reference's `HostResult`. Next: `error_kinds.py`."""

from __future__ import annotations

from dataclasses import dataclass

from simnode.protocol.blob import Blob
from simnode.protocol.messages.contracts import ContractContainer, ContractKey, UpdateData
from simnode.protocol.messages.delegates import DelegateKey, OutboundDelegateMsg
from simnode.protocol.messages.error_kinds import ErrorKind
from simnode.protocol.messages.requests import StreamChunk
from simnode.protocol.messages.wire import F32, H32, U32, U64, Address

# ---- ContractResponse --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GetResponse:
    key: ContractKey
    contract: ContractContainer | None
    state: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class PutResponse:
    key: ContractKey


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateNotification:
    key: ContractKey
    update: UpdateData


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateResponse:
    key: ContractKey
    summary: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeResponse:
    key: ContractKey
    subscribed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    instance_id: H32


ContractResponse = GetResponse | PutResponse | UpdateNotification | UpdateResponse | SubscribeResponse | NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegateResponse:
    key: DelegateKey
    values: tuple[OutboundDelegateMsg, ...]


# ---- QueryResponse -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedPeers:
    peers: tuple[tuple[str, Address], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionInfo:
    contract_key: H32
    client_id: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDebug:
    subscriptions: tuple[SubscriptionInfo, ...]
    connected_peers: tuple[tuple[str, Address], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeInfo:
    peer_id: str
    is_gateway: bool
    location: str | None
    listening_address: str | None
    uptime_seconds: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInfo:
    connected_peers: tuple[tuple[str, str], ...]
    active_connections: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractState:
    subscribers: U32
    subscriber_peer_ids: tuple[str, ...]
    size_bytes: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemMetrics:
    active_connections: U32
    hosting_contracts: U32


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedPeerInfo:
    peer_id: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDiagnostics:
    node_info: NodeInfo | None
    network_info: NetworkInfo | None
    subscriptions: tuple[SubscriptionInfo, ...]
    contract_states: tuple[tuple[str, ContractState], ...]
    system_metrics: SystemMetrics | None
    connected_peers_detailed: tuple[ConnectedPeerInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedContract:
    contract_key: str
    hosting_hash: U32
    hosted_since: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborHosted:
    peer_id: str
    known_contracts: tuple[U32, ...]
    last_update: U64
    update_count: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class HostingStats:
    hosting_announces_sent: U64
    hosting_announces_received: U64
    updates_via_proximity: U64
    updates_via_subscription: U64
    false_positive_forwards: U64
    avg_neighbor_hosting_size: F32


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighborHosting:
    my_hosted: tuple[HostedContract, ...]
    neighbor_hosting: tuple[NeighborHosted, ...]
    stats: HostingStats


QueryResponse = ConnectedPeers | NetworkDebug | NodeDiagnostics | NeighborHosting

# ---- the rest ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ok:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class GetResponseContent:
    """What a StreamHeader announces: a GetResponse, its state and code to follow in the chunks."""

    key: ContractKey
    includes_contract: bool


@dataclass(frozen=True, slots=True)
class Raw:
    """What a StreamHeader announces: anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHeader:
    """`total_bytes` is the length of the serialized message that the chunks carry."""

    stream_id: U32
    total_bytes: U64
    content: GetResponseContent | Raw


HostResponse = ContractResponse | DelegateResponse | QueryResponse | Ok | StreamChunk | StreamHeader


@dataclass(frozen=True, slots=True)
class Err:
    """The failing half of `HostResult`."""

    kind: ErrorKind


HostResult = HostResponse | Err
"""The reference's `Result<HostResponse, ClientError>`: a response stands for its own `Ok`."""
