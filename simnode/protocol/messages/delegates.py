"""Delegates: their containers and what goes to and comes from them. Next: `requests.py`."""

from __future__ import annotations

from simnode.protocol.blob import Blob
from simnode.protocol.messages.contracts import ContractContainer, RelatedContracts, UpdateData
from simnode.protocol.messages.wire import H32, U32, U64
from simnode.protocol.record import record


@record(kw_only=False)
class DelegateKey:
    """A delegate's key: `key = BLAKE3(code_hash ‖ params)`."""

    key: H32
    code_hash: H32


@record()
class DelegateContainer:
    """A delegate's code with its parameters: `DelegateContainer::Wasm(V1)`, its only variant."""

    params: Blob
    data: Blob
    code_hash: H32
    key: DelegateKey


@record()
class ApplicationMessage:
    payload: Blob
    context: Blob
    processed: bool


@record()
class DelegateMessage:
    target: DelegateKey
    sender: DelegateKey
    payload: Blob
    context: Blob
    processed: bool


# ---- to a delegate -----------------------------------------------------------------------------


@record()
class UserResponse:
    request_id: U32
    response: Blob
    context: Blob


@record()
class GetContractResponse:
    contract_id: H32
    state: Blob | None
    context: Blob


@record()
class PutContractResponse:
    """`error` is None for the reference's `Ok(())`; so in the three classes below."""

    contract_id: H32
    error: str | None
    context: Blob


@record()
class UpdateContractResponse:
    contract_id: H32
    error: str | None
    context: Blob


@record()
class SubscribeContractResponse:
    contract_id: H32
    error: str | None
    context: Blob


@record()
class UnsubscribeContractResponse:
    contract_id: H32
    error: str | None
    context: Blob


@record()
class ContractNotification:
    contract_id: H32
    new_state: Blob
    context: Blob


@record()
class WakeupFired:
    tag: Blob


@record(kw_only=False)
class Installed:
    """Lifecycle: the delegate was installed."""


@record()
class NodeStarted:
    """Lifecycle: the node started again."""

    down_since_ms: U64 | None


Lifecycle = Installed | NodeStarted

InboundDelegateMsg = (
    ApplicationMessage
    | UserResponse
    | GetContractResponse
    | PutContractResponse
    | UpdateContractResponse
    | SubscribeContractResponse
    | ContractNotification
    | DelegateMessage
    | UnsubscribeContractResponse
    | WakeupFired
    | Installed
    | NodeStarted
)

# ---- from a delegate ---------------------------------------------------------------------------


@record()
class RequestUserInput:
    request_id: U32
    message: Blob
    responses: tuple[Blob, ...]


@record()
class ContextUpdated:
    context: Blob


@record()
class GetContractRequest:
    contract_id: H32
    context: Blob
    processed: bool


@record()
class PutContractRequest:
    contract: ContractContainer
    state: Blob
    related_contracts: RelatedContracts
    context: Blob
    processed: bool


@record()
class UpdateContractRequest:
    contract_id: H32
    update: UpdateData
    context: Blob
    processed: bool


@record()
class SubscribeContractRequest:
    contract_id: H32
    context: Blob
    processed: bool


@record()
class UnsubscribeContractRequest:
    contract_id: H32
    context: Blob
    processed: bool


OutboundDelegateMsg = (
    ApplicationMessage
    | RequestUserInput
    | ContextUpdated
    | GetContractRequest
    | PutContractRequest
    | UpdateContractRequest
    | SubscribeContractRequest
    | DelegateMessage
    | UnsubscribeContractRequest
)
