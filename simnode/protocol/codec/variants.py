"""The reference's enums: the names of their variants, in the order that gives their tags.

Enters: the message classes. Leaves: one tree per enum, from a variant's name to its class or to
the enum it nests. Next: `schema.py`.

Source: `client_api/client_events.rs` and its neighbours of the crate freenet-stdlib 0.12.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from simnode.protocol.messages import contracts, delegates, error_kinds, requests, responses

Variants = Mapping[str, "type[Any] | Variants"]
"""A variant's tag is its position."""

CLIENT_REQUEST: Final[Variants] = {
    "DelegateOp": {
        "ApplicationMessages": requests.ApplicationMessages,
        "RegisterDelegate": requests.RegisterDelegate,
        "UnregisterDelegate": requests.UnregisterDelegate,
    },
    "ContractOp": {
        "Put": requests.Put,
        "Update": requests.Update,
        "Get": requests.Get,
        "Subscribe": requests.Subscribe,
    },
    "Disconnect": requests.Disconnect,
    "Authenticate": requests.Authenticate,
    "NodeQueries": {
        "ConnectedPeers": requests.QueryConnectedPeers,
        "SubscriptionInfo": requests.QuerySubscriptionInfo,
        "NodeDiagnostics": requests.QueryNodeDiagnostics,
        "NeighborHostingInfo": requests.QueryNeighborHostingInfo,
    },
    "Close": requests.Close,
    "StreamChunk": requests.StreamChunk,
}

HOST_RESPONSE: Final[Variants] = {
    "ContractResponse": {
        "GetResponse": responses.GetResponse,
        "PutResponse": responses.PutResponse,
        "UpdateNotification": responses.UpdateNotification,
        "UpdateResponse": responses.UpdateResponse,
        "SubscribeResponse": responses.SubscribeResponse,
        "NotFound": responses.NotFound,
    },
    "DelegateResponse": responses.DelegateResponse,
    "QueryResponse": {
        "ConnectedPeers": responses.ConnectedPeers,
        "NetworkDebug": responses.NetworkDebug,
        "NodeDiagnostics": responses.NodeDiagnostics,
        "NeighborHosting": responses.NeighborHosting,
    },
    "Ok": responses.Ok,
    "StreamChunk": requests.StreamChunk,
    "StreamHeader": responses.StreamHeader,
}

HOST_RESULT: Final[Variants] = {"Ok": HOST_RESPONSE, "Err": responses.Err}

ERROR_KIND: Final[Variants] = {
    "ChannelClosed": error_kinds.ChannelClosed,
    "DeserializationError": error_kinds.DeserializationError,
    "Disconnect": error_kinds.Disconnected,
    "IncorrectState": error_kinds.IncorrectState,
    "NodeUnavailable": error_kinds.NodeUnavailable,
    "TransportProtocolDisconnect": error_kinds.TransportProtocolDisconnect,
    "Unhandled": error_kinds.Unhandled,
    "UnknownClient": error_kinds.UnknownClient,
    "RequestError": {
        "ContractError": {
            "Get": error_kinds.GetError,
            "Put": error_kinds.PutError,
            "Update": error_kinds.UpdateError,
            "Subscribe": error_kinds.SubscribeError,
            "ContractStackOverflow": error_kinds.ContractStackOverflow,
            "MissingRelated": error_kinds.MissingRelated,
            "MissingContract": error_kinds.MissingContract,
        },
        "DelegateError": {
            "RegisterError": error_kinds.RegisterError,
            "ExecutionError": error_kinds.ExecutionError,
            "Missing": error_kinds.MissingDelegate,
            "MissingSecret": error_kinds.MissingSecret,
            "ForbiddenSecretAccess": error_kinds.ForbiddenSecretAccess,
        },
        "Disconnect": error_kinds.RequestDisconnect,
        "Timeout": error_kinds.Timeout,
    },
    "OperationError": error_kinds.OperationError,
    "FailedOperation": error_kinds.FailedOperation,
    "Shutdown": error_kinds.Shutdown,
    "EmptyRing": error_kinds.EmptyRing,
    "PeerNotJoined": error_kinds.PeerNotJoined,
}

UPDATE_DATA: Final[Variants] = {
    "State": contracts.State,
    "Delta": contracts.Delta,
    "StateAndDelta": contracts.StateAndDelta,
    "RelatedState": contracts.RelatedState,
    "RelatedDelta": contracts.RelatedDelta,
    "RelatedStateAndDelta": contracts.RelatedStateAndDelta,
}

INBOUND_DELEGATE_MSG: Final[Variants] = {
    "ApplicationMessage": delegates.ApplicationMessage,
    "UserResponse": delegates.UserResponse,
    "GetContractResponse": delegates.GetContractResponse,
    "PutContractResponse": delegates.PutContractResponse,
    "UpdateContractResponse": delegates.UpdateContractResponse,
    "SubscribeContractResponse": delegates.SubscribeContractResponse,
    "ContractNotification": delegates.ContractNotification,
    "DelegateMessage": delegates.DelegateMessage,
    "UnsubscribeContractResponse": delegates.UnsubscribeContractResponse,
    "WakeupFired": delegates.WakeupFired,
    "Lifecycle": {"Installed": delegates.Installed, "NodeStarted": delegates.NodeStarted},
}

OUTBOUND_DELEGATE_MSG: Final[Variants] = {
    "ApplicationMessage": delegates.ApplicationMessage,
    "RequestUserInput": delegates.RequestUserInput,
    "ContextUpdated": delegates.ContextUpdated,
    "GetContractRequest": delegates.GetContractRequest,
    "PutContractRequest": delegates.PutContractRequest,
    "UpdateContractRequest": delegates.UpdateContractRequest,
    "SubscribeContractRequest": delegates.SubscribeContractRequest,
    "SendDelegateMessage": delegates.DelegateMessage,
    "UnsubscribeContractRequest": delegates.UnsubscribeContractRequest,
}

STREAM_CONTENT: Final[Variants] = {"GetResponse": responses.GetResponseContent, "Raw": responses.Raw}

CONTRACT_CONTAINER: Final[Variants] = {"Wasm": {"V1": contracts.ContractContainer}}

DELEGATE_CONTAINER: Final[Variants] = {"Wasm": {"V1": delegates.DelegateContainer}}

ENUMS: Final = (
    CLIENT_REQUEST,
    HOST_RESULT,
    ERROR_KIND,
    UPDATE_DATA,
    INBOUND_DELEGATE_MSG,
    OUTBOUND_DELEGATE_MSG,
    STREAM_CONTENT,
    CONTRACT_CONTAINER,
    DELEGATE_CONTAINER,
)
