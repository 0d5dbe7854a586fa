"""What a client asks: the reference's `ClientRequest`. Next: `responses.py`."""

from __future__ import annotations

from dataclasses import dataclass

from simnode.protocol.blob import Blob
from simnode.protocol.messages.contracts import ContractContainer, ContractKey, RelatedContracts, UpdateData
from simnode.protocol.messages.delegates import DelegateContainer, DelegateKey, InboundDelegateMsg
from simnode.protocol.messages.wire import H32, U32, Nonce

# ---- DelegateOp --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationMessages:
    key: DelegateKey
    params: Blob
    inbound: tuple[InboundDelegateMsg, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterDelegate:
    delegate: DelegateContainer
    cipher: H32
    nonce: Nonce


@dataclass(frozen=True, slots=True, kw_only=True)
class UnregisterDelegate:
    key: DelegateKey


DelegateRequest = ApplicationMessages | RegisterDelegate | UnregisterDelegate

# ---- ContractOp --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    contract: ContractContainer
    state: Blob
    related_contracts: RelatedContracts = ()
    subscribe: bool = False
    blocking_subscribe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    key: ContractKey
    data: UpdateData


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """`key` is the contract's instance id: a GET needs no code hash."""

    key: H32
    return_contract_code: bool = False
    subscribe: bool = False
    blocking_subscribe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """`summary` of the state that the client has: with one, deltas are sent as deltas."""

    key: H32
    summary: Blob | None = None


ContractRequest = Put | Update | Get | Subscribe

# ---- NodeQueries -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueryConnectedPeers:
    """The reference's `NodeQuery::ConnectedPeers`."""


@dataclass(frozen=True, slots=True)
class QuerySubscriptionInfo:
    """The reference's `NodeQuery::SubscriptionInfo`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryNodeDiagnostics:
    """The reference's `NodeQuery::NodeDiagnostics` with its `config`."""

    include_node_info: bool = True
    include_network_info: bool = True
    include_subscriptions: bool = True
    contract_keys: tuple[ContractKey, ...] = ()
    include_system_metrics: bool = True
    include_detailed_peer_info: bool = True
    include_subscriber_peer_ids: bool = True


@dataclass(frozen=True, slots=True)
class QueryNeighborHostingInfo:
    """The reference's `NodeQuery::NeighborHostingInfo`."""


NodeQuery = QueryConnectedPeers | QuerySubscriptionInfo | QueryNodeDiagnostics | QueryNeighborHostingInfo

# ---- the rest ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate:
    token: str


@dataclass(frozen=True, slots=True)
class Close:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamChunk:
    """A piece of a serialized message, itself a message: in requests and in responses alike."""

    stream_id: U32
    index: U32
    total: U32
    data: Blob


ClientRequest = DelegateRequest | ContractRequest | Disconnect | Authenticate | NodeQuery | Close | StreamChunk
