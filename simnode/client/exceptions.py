"""What can go wrong for a client. Enters: an error the node sent. Leaves: exceptions. Next: `sync.py`.

ClientError
├── ClientClosed                the client was closed, or never opened
├── ConnectionFailed            no connection could be made
│   └── HandshakeRefused        a server answered, but with an HTTP status instead of a WebSocket
├── ConnectionLost              the connection ended; what was under way got no answer
├── AuthenticationFailed        the node does not accept the token (any more)
├── CannotEncode                the encoding has no such request, or it is too long
├── RequestTimeout              no answer in time
├── ReplyBroken                 an answer came that cannot be read
├── NotificationsDropped        `recv()` only: there was no room for all notifications of a contract
└── RequestFailed               the node answered with an error, which is in `kind`
    ├── NotFound                it does not know the contract
    ├── ContractFailed          any other error about a contract
    ├── DelegateFailed          an error about a delegate
    ├── NodeUnavailable         it cannot serve anybody just now; worth another try
    └── RequestUndecodable      it could not read the request
"""

from __future__ import annotations

from typing import get_args

from simnode.protocol.codec.display import display
from simnode.protocol.keys import encode_base58
from simnode.protocol.messages import error_kinds
from simnode.protocol.messages.error_kinds import ErrorKind


class ClientError(Exception):
    """Root of everything the client raises, apart from `ValueError` and `TypeError` for wrong arguments."""


class ClientClosed(ClientError):
    """The client was closed (or is not open yet), so it can ask nothing."""


class ConnectionFailed(ClientError):
    """No connection could be made: nobody listens there, or the handshake took too long."""


class HandshakeRefused(ConnectionFailed):
    """The server answered the handshake with an HTTP error.

    Attributes:
        status: the HTTP status code: 404 for an unknown path, 400 for a wrong parameter …
        body: the first bytes of the response's body, as text.
    """

    def __init__(self, status: int, body: str = "") -> None:
        super().__init__(f"the server refused the handshake with status {status}" + (f": {body}" if body else ""))
        self.status = status
        self.body = body

    @property
    def is_permanent(self) -> bool:
        """Whether asking again the same way is pointless (4xx)."""
        return 400 <= self.status < 500


class ConnectionLost(ClientError):
    """The connection ended.

    A request that was under way may or may not have been carried out; it is never sent again by
    the client itself.

    Attributes:
        code: the WebSocket close code, 1006 when the peer just vanished.
        reason: what the peer said with it.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(f"the connection ended with {code}" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


class AuthenticationFailed(ClientError):
    """The node does not accept the token; it closes the connection, and reconnecting would not help."""


class CannotEncode(ClientError):
    """The connection's encoding has no such request, or the request is longer than 64 MiB (the caller's fault)."""


class RequestTimeout(ClientError):
    """Nothing moved for a request during its `timeout_s`. Should its answer still come, it is dropped."""

    def __init__(self, what: str, timeout_s: float) -> None:
        super().__init__(f"{what}: no answer within {timeout_s:g} s")
        self.timeout_s = timeout_s


class ReplyBroken(ClientError):
    """An answer that could not be read: undecodable, or a stream with chunks wrong or missing (the node's fault)."""


class NotificationsDropped(ClientError):
    """Notifications about a contract were dropped for lack of room; get its state to be current.

    Raised by `recv()` in place of what is missing. `notifications()` has `Notification.gap` instead.
    """

    def __init__(self, instance: bytes) -> None:
        super().__init__(f"notifications about contract {encode_base58(instance)} were dropped")
        self.instance = instance


class RequestFailed(ClientError):
    """The node answered with an error.

    Attributes:
        kind: the error as the node sent it.
    """

    def __init__(self, text: str, kind: ErrorKind | None = None) -> None:
        super().__init__(text)
        self.kind = kind


class NotFound(RequestFailed):
    """The node does not know the contract.

    Attributes:
        instance: the contract's instance id, 32 bytes.
    """

    def __init__(self, instance: bytes, kind: ErrorKind | None = None) -> None:
        super().__init__(f"contract {encode_base58(instance)} is not known to the node", kind)
        self.instance = instance


class ContractFailed(RequestFailed):
    """An operation on a contract failed."""


class DelegateFailed(RequestFailed):
    """An operation on a delegate failed."""


class NodeUnavailable(RequestFailed):
    """The node cannot answer just now (its store is down); the connection lives."""


class RequestUndecodable(RequestFailed):
    """The node could not read the request: another version of the protocol, or a wrong encoding."""


_CONTRACT_ERRORS = get_args(error_kinds.ContractError)
_DELEGATE_ERRORS = get_args(error_kinds.DelegateError)


def request_failed(kind: ErrorKind) -> RequestFailed:
    """The exception for an error that a node sent."""
    text = display(kind)
    match kind:
        case error_kinds.MissingContract(key=instance):
            return NotFound(instance, kind)
        case error_kinds.NodeUnavailable():
            return NodeUnavailable(text, kind)
        case error_kinds.DeserializationError():
            return RequestUndecodable(text, kind)
    if isinstance(kind, _CONTRACT_ERRORS) or isinstance(kind, error_kinds.IncorrectState):
        return ContractFailed(text, kind)
    if isinstance(kind, _DELEGATE_ERRORS):
        return DelegateFailed(text, kind)
    return RequestFailed(text, kind)
