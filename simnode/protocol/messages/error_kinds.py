"""How a node says no: the reference's `ErrorKind` and what it nests. Next: `../events.py`.

`display()` of `codec/display.py` gives the reference's text of each.
"""

from __future__ import annotations

from simnode.protocol.blob import Blob
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from simnode.protocol.messages.wire import H32, U64
from simnode.protocol.record import record

# ---- RequestError::ContractError ---------------------------------------------------------------


@record()
class GetError:
    key: ContractKey
    cause: str


@record()
class PutError:
    key: ContractKey
    cause: str


@record()
class UpdateError:
    key: ContractKey
    cause: str


@record()
class SubscribeError:
    key: ContractKey
    cause: str


@record()
class ContractStackOverflow:
    key: H32


@record()
class MissingRelated:
    key: H32


@record()
class MissingContract:
    key: H32


ContractError = (
    GetError | PutError | UpdateError | SubscribeError | ContractStackOverflow | MissingRelated | MissingContract
)

# ---- RequestError::DelegateError ---------------------------------------------------------------


@record()
class SecretsId:
    key: Blob
    hash: H32


@record()
class RegisterError:
    key: DelegateKey


@record()
class ExecutionError:
    cause: str


@record()
class MissingDelegate:
    key: DelegateKey


@record()
class MissingSecret:
    key: DelegateKey
    secret: SecretsId


@record()
class ForbiddenSecretAccess:
    secret: SecretsId


DelegateError = RegisterError | ExecutionError | MissingDelegate | MissingSecret | ForbiddenSecretAccess

# ---- the rest of RequestError ------------------------------------------------------------------


@record(kw_only=False)
class RequestDisconnect:
    pass


@record(kw_only=False)
class Timeout:
    pass


RequestError = ContractError | DelegateError | RequestDisconnect | Timeout

# ---- ErrorKind ---------------------------------------------------------------------------------


@record(kw_only=False)
class ChannelClosed:
    pass


@record()
class DeserializationError:
    cause: str


@record(kw_only=False)
class Disconnected:
    """The reference's `ErrorKind::Disconnect`, which would share its name with the request."""


@record()
class IncorrectState:
    key: ContractKey


@record(kw_only=False)
class NodeUnavailable:
    pass


@record(kw_only=False)
class TransportProtocolDisconnect:
    pass


@record()
class Unhandled:
    cause: str


@record()
class UnknownClient:
    client_id: U64


@record()
class OperationError:
    cause: str


@record(kw_only=False)
class FailedOperation:
    pass


@record(kw_only=False)
class Shutdown:
    pass


@record(kw_only=False)
class EmptyRing:
    pass


@record(kw_only=False)
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
