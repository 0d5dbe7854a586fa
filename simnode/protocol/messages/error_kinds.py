"""How a node says no: the reference's `ErrorKind` and what it nests. Next: `../events.py`.

`display()` of `codec/display.py` gives the reference's text of each.
"""

from __future__ import annotations

from dataclasses import dataclass

from simnode.protocol.blob import Blob
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from simnode.protocol.messages.wire import H32, U64

# ---- RequestError::ContractError ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GetError:
    key: ContractKey
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutError:
    key: ContractKey
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateError:
    key: ContractKey
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeError:
    key: ContractKey
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractStackOverflow:
    key: H32


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingRelated:
    key: H32


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingContract:
    key: H32


ContractError = (
    GetError | PutError | UpdateError | SubscribeError | ContractStackOverflow | MissingRelated | MissingContract
)

# ---- RequestError::DelegateError ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretsId:
    key: Blob
    hash: H32


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterError:
    key: DelegateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionError:
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingDelegate:
    key: DelegateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingSecret:
    key: DelegateKey
    secret: SecretsId


@dataclass(frozen=True, slots=True, kw_only=True)
class ForbiddenSecretAccess:
    secret: SecretsId


DelegateError = RegisterError | ExecutionError | MissingDelegate | MissingSecret | ForbiddenSecretAccess

# ---- the rest of RequestError ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestDisconnect:
    pass


@dataclass(frozen=True, slots=True)
class Timeout:
    pass


RequestError = ContractError | DelegateError | RequestDisconnect | Timeout

# ---- ErrorKind ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChannelClosed:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeserializationError:
    cause: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The reference's `ErrorKind::Disconnect`, which would share its name with the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IncorrectState:
    key: ContractKey


@dataclass(frozen=True, slots=True)
class NodeUnavailable:
    pass


@dataclass(frozen=True, slots=True)
class TransportProtocolDisconnect:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhandled:
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownClient:
    client_id: U64


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationError:
    cause: str


@dataclass(frozen=True, slots=True)
class FailedOperation:
    pass


@dataclass(frozen=True, slots=True)
class Shutdown:
    pass


@dataclass(frozen=True, slots=True)
class EmptyRing:
    pass


@dataclass(frozen=True, slots=True)
class PeerNotJoined:
    pass


ErrorKind = (
    ChannelClosed
    | DeserializationError
    | Disconnected
    | IncorrectState
    | NodeUnavailable
    | TransportProtocolDisconnect
    | Unhandled
    | UnknownClient
    | RequestError
    | OperationError
    | FailedOperation
    | Shutdown
    | EmptyRing
    | PeerNotJoined
)
