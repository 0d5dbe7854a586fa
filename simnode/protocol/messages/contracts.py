"""Contracts, their keys and their updates. Next: `delegates.py`."""

from __future__ import annotations

from dataclasses import dataclass

from simnode.protocol.blob import Blob
from simnode.protocol.messages.wire import H32


@dataclass(frozen=True, slots=True)
class ContractKey:
    """A contract's full key: `instance = BLAKE3(code ‖ params)` (see `keys.py`) and `code`, the code's hash."""

    instance: H32
    code: H32


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractContainer:
    """A contract's code with its parameters: the reference's `ContractContainer::Wasm(V1)`, its only variant."""

    data: Blob
    code_hash: H32
    params: Blob
    key: ContractKey


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    state: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    delta: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class StateAndDelta:
    state: Blob
    delta: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class RelatedState:
    related_to: H32
    state: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class RelatedDelta:
    related_to: H32
    delta: Blob


@dataclass(frozen=True, slots=True, kw_only=True)
class RelatedStateAndDelta:
    related_to: H32
    state: Blob
    delta: Blob


UpdateData = State | Delta | StateAndDelta | RelatedState | RelatedDelta | RelatedStateAndDelta

RelatedContracts = tuple[tuple[H32, Blob | None], ...]
"""Instance ids with their states, as pairs: the order on the wire is arbitrary, the last of equal keys wins."""
