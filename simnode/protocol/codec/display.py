"""The reference's wording of each error. Enters: an `ErrorKind`. Leaves: text. Next: `../chunking.py`.

Flatbuffers sends an error as this text and nothing else; logs and the command line use it too.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from simnode.protocol.keys import encode_base58
from simnode.protocol.messages import error_kinds
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from simnode.protocol.messages.error_kinds import ErrorKind, SecretsId

_TEXTS: Final[dict[type[Any], str]] = {
    error_kinds.ChannelClosed: "comm channel between client/host closed",
    error_kinds.DeserializationError: "error while deserializing: {cause}",
    error_kinds.Disconnected: "client disconnected",
    error_kinds.IncorrectState: "failed while trying to unpack state for {key}",
    error_kinds.NodeUnavailable: "node not available",
    error_kinds.TransportProtocolDisconnect: "lost the connection with the protocol handling connections",
    error_kinds.Unhandled: "unhandled error: {cause}",
    error_kinds.UnknownClient: "unknown client id: {client_id}",
    error_kinds.GetError: "failed to get contract {key}, reason: {cause}",
    error_kinds.PutError: "put error for contract {key}, reason: {cause}",
    error_kinds.UpdateError: "update error for contract {key}, reason: {cause}",
    error_kinds.SubscribeError: "failed to subscribe for contract {key}, reason: {cause}",
    error_kinds.ContractStackOverflow: "dependency contract stack overflow : {key}",
    error_kinds.MissingRelated: "missing related contract: {key}",
    error_kinds.MissingContract: "missing contract: {key}",
    error_kinds.RegisterError: "error while registering delegate {key}",
    error_kinds.ExecutionError: "execution error, cause {cause}",
    error_kinds.MissingDelegate: "missing delegate {key}",
    error_kinds.MissingSecret: "missing secret `{secret}` for delegate {key}",
    error_kinds.ForbiddenSecretAccess: "forbidden access to secret: {secret}",
    error_kinds.RequestDisconnect: "client disconnect",
    error_kinds.Timeout: "operation timed out",
    error_kinds.OperationError: "error while executing operation in the network: {cause}",
    error_kinds.FailedOperation: "operation timed out",
    error_kinds.Shutdown: "peer should shutdown",
    error_kinds.EmptyRing: "no ring connections found",
    error_kinds.PeerNotJoined: "peer has not joined the network yet",
}


def display(kind: ErrorKind) -> str:
    """What the reference's `ClientError` displays for `kind`."""
    shown = {field.name: _shown(getattr(kind, field.name)) for field in fields(kind)}
    return "client error: " + _TEXTS[type(kind)].format_map(shown)


def _shown(value: ContractKey | DelegateKey | SecretsId | bytes | str | int) -> str:
    match value:
        case ContractKey(instance):
            return encode_base58(instance)
        case DelegateKey(key):
            return encode_base58(key)
        case SecretsId(hash=digest):
            return encode_base58(digest)
        case bytes():
            return encode_base58(value)
    return str(value)
