"""The golden vectors of `tests/vectors/` as values of our message classes.

`messages.json` was produced by the reference's own encoders. Its `fields` are serde's externally
tagged form, with byte strings as hex; `message_from_fields` turns them into the message that the
golden bytes must decode to. The classes differ from serde's form in a few places, all listed here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from simnode.protocol.blob import Blob
from simnode.protocol.codec import schema
from simnode.protocol.messages import contracts, delegates, error_kinds, requests
from simnode.protocol.messages.requests import ClientRequest
from simnode.protocol.messages.responses import HostResult
from simnode.protocol.messages.wire import Fixed

VECTORS = Path(__file__).parent.parent / "vectors"

NEWTYPES = {
    contracts.State,
    contracts.Delta,
    delegates.ContextUpdated,
    error_kinds.ExecutionError,
    error_kinds.ForbiddenSecretAccess,
    error_kinds.IncorrectState,
    error_kinds.MissingDelegate,
    error_kinds.RegisterError,
    error_kinds.UnknownClient,
    requests.UnregisterDelegate,
}
"""Classes of one field that stand for a Rust variant without field names."""


@dataclass(frozen=True)
class Vector:
    """One golden message."""

    name: str
    direction: str
    """`request` or `response`."""
    encoding: str
    """`native` or `flatbuffers`."""
    message: ClientRequest | HostResult
    bytes: bytes | None
    """None where the reference's encoder cannot express the message, for this reason:"""
    reason: str
    raw: dict[str, Any]
    """The whole entry."""

    def __str__(self) -> str:
        return f"{self.direction}-{self.name}"


@cache
def load_json(name: str) -> Any:
    """The contents of a file of `tests/vectors/`; do not change them."""
    return json.loads((VECTORS / name).read_text())


def counting_bytes(length: int) -> bytes:
    """What the vectors describe as `byte i = i % 251`."""
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def load_vectors(encoding: str, direction: str) -> list[Vector]:
    """The golden messages of `encoding` (`native`, `flatbuffers`) and `direction` (`request`, `response`)."""
    return [
        Vector(
            name=raw["name"],
            direction=direction,
            encoding=encoding,
            message=message_from_fields(raw["fields"], direction),
            bytes=None if raw["hex"] is None else bytes.fromhex(raw["hex"]),
            reason=raw.get("reason", ""),
            raw=raw,
        )
        for raw in load_json("messages.json")["vectors"]
        if raw["encoding"] == encoding and raw["direction"] == direction
    ]


def message_from_fields(fields: Any, direction: str) -> Any:
    """The request, or the result, that the `fields` of a vector describe."""
    return _value(schema.CLIENT_REQUEST if direction == "request" else schema.HOST_RESULT, fields)


def _value(shape: schema.Shape, raw: Any) -> Any:
    match shape:
        case Fixed():
            return bytes.fromhex(raw)
        case schema.Bytes():
            return Blob(bytes.fromhex(raw))
        case schema.Option(item):
            return None if raw is None else _value(item, raw)
        case schema.Outcome():
            return raw.get("Err")
        case schema.Product(items):
            return tuple(_value(item, part) for item, part in zip(items, raw, strict=True))
        case schema.Sequence(item):
            return tuple(_value(item, part) for part in raw)
        case schema.Pairs(item):
            return tuple(_value(item, part) for part in (raw["map"] if isinstance(raw, dict) else raw))
        case schema.Choice(variants):
            name, inner = (raw, {}) if isinstance(raw, str) else next(iter(raw.items()))
            return _value(dict(variants)[name], inner)
        case schema.Record():
            return _record(shape, raw)
    return raw


def _record(record: schema.Record, raw: Any) -> Any:
    if record.cls in NEWTYPES:
        ((name, shape),) = record.fields
        return record.cls(**{name: _value(shape, raw)})
    named = _ours(record.cls, dict(raw))
    if named.keys() != {name for name, _ in record.fields}:
        raise ValueError(f"{record.cls.__name__} has other fields than {sorted(named)}")
    return record.cls(**{name: _value(shape, named[name]) for name, shape in record.fields})


def _ours(cls: type, raw: dict[str, Any]) -> dict[str, Any]:
    """The fields of `raw` under the names of our class `cls`."""
    if cls in (contracts.ContractContainer, delegates.DelegateContainer):
        raw |= raw["data"]
    if cls is delegates.DelegateContainer:
        raw["params"] = raw.pop("parameters")
    if cls is requests.QueryNodeDiagnostics:
        raw = raw["config"]
    if "result" in raw:
        raw["error"] = raw.pop("result")
    return raw
