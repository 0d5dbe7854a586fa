"""Contracts, their keys and their updates. Next: `delegates.py`."""

from __future__ import annotations

from simnode.protocol.blob import Blob
from simnode.protocol.messages.wire import H32
from simnode.protocol.record import record


@record(kw_only=False)
class ContractKey:
    """A contract's full key: `instance = BLAKE3(code ‖ params)` (see `keys.py`) and `code`, the code's hash."""

    instance: H32
    code: H32


@record()
class ContractContainer:
    """A contract's code with its parameters: the reference's `ContractContainer::Wasm(V1)`, its only variant."""

    data: Blob
    code_hash: H32
    params: Blob
    key: ContractKey


@record()
class State:
    state: Blob


@record()
class Delta:
    delta: Blob


@record()
class StateAndDelta:
    state: Blob
    delta: Blob


@record()
class RelatedState:
    related_to: H32
    state: Blob


@record()
class RelatedDelta:
    related_to: H32
    delta: Blob


@record()
class RelatedStateAndDelta:
    related_to: H32
    state: Blob
    delta: Blob


UpdateData = State | Delta | StateAndDelta | RelatedState | RelatedDelta | RelatedStateAndDelta

RelatedContracts = tuple[tuple[H32, Blob | None], ...]
"""Instance ids with their states, as pairs: the order on the wire is arbitrary, the last of equal keys wins."""
