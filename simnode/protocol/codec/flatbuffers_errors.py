"""Client errors in flatbuffers, where they are text.

Enters: an ErrorKind or a text. Leaves: the other. Next: `flatbuffers.py`.

`Error{msg}` carries the reference's display text and nothing else. Read back, a text gives its kind
again as far as it tells, with `UNKNOWN_CODE` in every key. Nothing here repeats a wording: each
pattern is made from what `display` says of a sample.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from simnode.protocol.codec.display import display
from simnode.protocol.codec.flatbuffers_contracts import UNKNOWN_CODE
from simnode.protocol.keys import ID_BYTES, InvalidIdText, decode_instance_id, encode_base58
from simnode.protocol.messages import error_kinds as kinds
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from simnode.protocol.messages.error_kinds import ErrorKind

_CLIENT_ERROR: Final = "client error: "
_UNDECODABLE: Final = "Failed decoding message from client request: "


def error_text(kind: ErrorKind) -> str:
    """The `msg` of an Error. An undecodable request is reported in other words than `display` has for it."""
    if isinstance(kind, kinds.DeserializationError):
        return _UNDECODABLE + kind.cause
    return display(kind)


def is_error_text(text: str) -> bool:
    """Whether the `msg` of an Ok is a client error that the reference sent under the wrong tag."""
    return text.startswith(_CLIENT_ERROR)


def error_from_text(text: str) -> ErrorKind:
    """The kind whose text this is; `Unhandled` with the text as its cause when it is nobody's."""
    if text in _WORDLESS:
        return _WORDLESS[text]
    for prefix, of_cause in _OF_CAUSE.items():
        if text.startswith(prefix):
            return of_cause(text[len(prefix) :])
    for pattern, of_id in _OF_ID.items():
        if found := pattern.fullmatch(text):
            try:
                return of_id(decode_instance_id(found["id"]), found["cause"])
            except InvalidIdText:
                break  # 44 characters can be more than 32 bytes: somebody else's text
    return kinds.Unhandled(cause=text.removeprefix(_CLIENT_ERROR))


_WORDLESS: Final[dict[str, ErrorKind]] = {
    display(kind): kind
    for kind in (
        kinds.ChannelClosed(),
        kinds.Disconnected(),
        kinds.NodeUnavailable(),
        kinds.TransportProtocolDisconnect(),
        kinds.RequestDisconnect(),
        kinds.Timeout(),  # FailedOperation has the same text
        kinds.Shutdown(),
        kinds.EmptyRing(),
        kinds.PeerNotJoined(),
    )
}


def _by_prefix(*of_cause: Callable[[str], ErrorKind]) -> dict[str, Callable[[str], ErrorKind]]:
    return {display(make("")): make for make in of_cause}


_OF_CAUSE: Final[dict[str, Callable[[str], ErrorKind]]] = {
    _UNDECODABLE: lambda cause: kinds.DeserializationError(cause=cause),
    **_by_prefix(
        lambda cause: kinds.Unhandled(cause=cause),
        lambda cause: kinds.DeserializationError(cause=cause),
        lambda cause: kinds.OperationError(cause=cause),
        lambda cause: kinds.ExecutionError(cause=cause),
    ),
}
"""Kinds whose text is a prefix and the cause."""


def _by_pattern(*of_id: Callable[[bytes, str], ErrorKind]) -> dict[re.Pattern[str], Callable[[bytes, str], ErrorKind]]:
    sample = bytes(ID_BYTES)
    patterns = {}
    for make in of_id:
        before, after = map(re.escape, display(make(sample, "")).split(encode_base58(sample)))
        cause = ".*" if after else ""
        patterns[re.compile(f"{before}(?P<id>[1-9A-Za-z]{{32,44}}){after}(?P<cause>{cause})", re.DOTALL)] = make
    return patterns


_OF_ID: Final = _by_pattern(
    lambda instance, _: kinds.IncorrectState(key=ContractKey(instance, UNKNOWN_CODE)),
    lambda instance, cause: kinds.GetError(key=ContractKey(instance, UNKNOWN_CODE), cause=cause),
    lambda instance, cause: kinds.PutError(key=ContractKey(instance, UNKNOWN_CODE), cause=cause),
    lambda instance, cause: kinds.UpdateError(key=ContractKey(instance, UNKNOWN_CODE), cause=cause),
    lambda instance, cause: kinds.SubscribeError(key=ContractKey(instance, UNKNOWN_CODE), cause=cause),
    lambda instance, _: kinds.MissingContract(key=instance),
    lambda instance, _: kinds.MissingRelated(key=instance),
    lambda instance, _: kinds.ContractStackOverflow(key=instance),
    lambda key, _: kinds.RegisterError(key=DelegateKey(key, UNKNOWN_CODE)),
    lambda key, _: kinds.MissingDelegate(key=DelegateKey(key, UNKNOWN_CODE)),
)
"""Kinds whose text names a contract or delegate, and perhaps ends with the cause."""
