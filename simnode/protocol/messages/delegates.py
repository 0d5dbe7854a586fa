"""Delegates: their containers and what goes to and comes from them. Next: `requests.py`."""

from __future__ import annotations

from dataclasses import dataclass

from simnode.protocol.blob import Blob
from simnode.protocol.messages.contracts import ContractContainer, RelatedContracts, UpdateData
from simnode.protocol.messages.wire import H32, U32, U64


@dataclass(frozen=True, slots=True)
class DelegateKey:
    """A delegate's key: `key = BLAKE3(code_hash ‖ params)`."""

    key: H32
    code_hash: H32


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegateContainer:
    """A delegate's code with its parameters: `DelegateContainer::Wasm(V1)`, its only variant."""

    params: Blob
    data: Blob
    code_hash: H32
    key: DelegateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationMessage:
    payload: Blob
    context: Blob
    processed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegateMessage:
    target: DelegateKey
    sender: DelegateKey
    payload: Blob
    context: Blob
    processed: bool


# ---- to a delegate -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class UserResponse:
    request_id: U32
    response: Blob
    context: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class GetContractResponse:
    contract_id: H32
    state: Blob | None
    context: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class PutContractResponse:
    """`error` is None for the reference's `Ok(())`; so in the three classes below."""

    contract_id: H32
    error: str | None
    context: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateContractResponse:
    contract_id: H32
    error: str | None
    context: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeContractResponse:
    contract_id: H32
    error: str | None
    context: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsubscribeContractResponse:
    contract_id: H32
    error: str | None
    context: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractNotification:
    contract_id: H32
    new_state: Blob
    context: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeupFired:
    tag: Blob


@dataclass(frozen=True, slots=True)
class Installed:
    """Lifecycle: the delegate was installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestUserInput:
    request_id: U32
    message: Blob
    responses: tuple[Blob, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextUpdated:
    context: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class GetContractRequest:
    contract_id: H32
    context: Blob
    processed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PutContractRequest:
    contract: ContractContainer
    state: Blob
    related_contracts: RelatedContracts
    context: Blob
    processed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateContractRequest:
    contract_id: H32
    update: UpdateData
    context: Blob
    processed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeContractRequest:
    contract_id: H32
    context: Blob
    processed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
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
