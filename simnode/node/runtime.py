"""What an update does to a state. Enters: `UpdateData`. Leaves: a `Merge`, or a refusal. Next: `delegates.py`.

A contract *runtime* decides that in a real node by running the contract's WASM. simnode has one,
built in: `replace`. Another would be another class with this one's methods.
"""

from __future__ import annotations

from dataclasses import dataclass

from simnode.protocol.blob import Blob
from simnode.protocol.limits import MAX_STATE_SIZE
from simnode.protocol.messages.contracts import Delta, State, StateAndDelta, UpdateData


class UpdateRefused(Exception):
    """The contract does not accept this update (the client's fault); the text is fit to be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """How the new state is made.

    Attributes:
        keeps_current: whether it begins with the current state.
        parts: what follows, in order.
    """

    keeps_current: bool
    parts: tuple[Blob, ...]


class ReplaceRuntime:
    """State replaces; Delta appends; StateAndDelta replaces, then appends; Related… is refused.

    Source: protocol.md §6.
    """

    def plan_update(self, update: UpdateData) -> Merge:
        """Raises `UpdateRefused` for an update that speaks of another contract."""
        match update:
            case State(state=state):
                return Merge(keeps_current=False, parts=(state,))
            case Delta(delta=delta):
                return Merge(keeps_current=True, parts=(delta,))
            case StateAndDelta(state=state, delta=delta):
                return Merge(keeps_current=False, parts=(state, delta))
            case _:
                raise UpdateRefused(f"{type(update).__name__} updates are not supported by the replace runtime")


def check_state_size(nbytes: int) -> None:
    """Raises `UpdateRefused` above `MAX_STATE_SIZE` bytes."""
    if nbytes > MAX_STATE_SIZE:
        raise UpdateRefused(f"state of {nbytes} bytes exceeds the maximum of {MAX_STATE_SIZE} bytes")
