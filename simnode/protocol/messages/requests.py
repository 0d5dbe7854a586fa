"""What a client asks: the reference's `ClientRequest`. Next: `responses.py`."""

from __future__ import annotations

from simnode.protocol.blob import Blob
from simnode.protocol.messages.contracts import ContractContainer, ContractKey, RelatedContracts, UpdateData
from simnode.protocol.messages.delegates import DelegateContainer, DelegateKey, InboundDelegateMsg
from simnode.protocol.messages.wire import H32, U32, Nonce
from simnode.protocol.record import record

# ---- DelegateOp --------------------------------------------------------------------------------


@record()
class ApplicationMessages:
    key: DelegateKey
    params: Blob
    inbound: tuple[InboundDelegateMsg, ...]


@record()
class RegisterDelegate:
    delegate: DelegateContainer
    cipher: H32
    nonce: Nonce


@record()
class UnregisterDelegate:
    key: DelegateKey


DelegateRequest = ApplicationMessages | RegisterDelegate | UnregisterDelegate

# ---- ContractOp --------------------------------------------------------------------------------


@record()
class Put:
    contract: ContractContainer
    state: Blob
    related_contracts: RelatedContracts = ()
    subscribe: bool = False
    blocking_subscribe: bool = False


@record()
class Update:
    key: ContractKey
    data: UpdateData


@record()
class Get:
    """`key` is the contract's instance id: a GET needs no code hash."""

    key: H32
    return_contract_code: bool = False
    subscribe: bool = False
    blocking_subscribe: bool = False


@record()
class Subscribe:
    """`summary` of the state that the client has: with one, deltas are sent as deltas."""

    key: H32
    summary: Blob | None = None


ContractRequest = Put | Update | Get | Subscribe

# ---- NodeQueries -------------------------------------------------------------------------------


@record(kw_only=False)
class QueryConnectedPeers:
    """The reference's `NodeQuery::ConnectedPeers`."""


@record(kw_only=False)
class QuerySubscriptionInfo:
    """The reference's `NodeQuery::SubscriptionInfo`."""


@record()
class QueryNodeDiagnostics:
    """The reference's `NodeQuery::NodeDiagnostics` with its `config`."""

    include_node_info: bool = True
    include_network_info: bool = True
    include_subscriptions: bool = True
    contract_keys: tuple[ContractKey, ...] = ()
    include_system_metrics: bool = True
    include_detailed_peer_info: bool = True
    include_subscriber_peer_ids: bool = True


@record(kw_only=False)
class QueryNeighborHostingInfo:
    """The reference's `NodeQuery::NeighborHostingInfo`."""


NodeQuery = QueryConnectedPeers | QuerySubscriptionInfo | QueryNodeDiagnostics | QueryNeighborHostingInfo

# ---- the rest ----------------------------------------------------------------------------------


@record()
class Disconnect:
    cause: str | None = None


@record()
class Authenticate:
    token: str


@record(kw_only=False)
class Close:
    pass


@record()
class StreamChunk:
    """A piece of a serialized message, itself a message: in requests and in responses alike."""

    stream_id: U32
    index: U32
    total: U32
    data: Blob


ClientRequest = DelegateRequest | ContractRequest | Disconnect | Authenticate | NodeQuery | Close | StreamChunk
