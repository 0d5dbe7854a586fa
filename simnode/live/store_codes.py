"""Why the store says no: the codes of its `LinkRefusal`s, which handlers turn into the protocol's errors."""

from typing import Final

MISSING: Final = "missing"
"""There is no such contract."""

LOST: Final = "lost"
"""A segment that it was told of, or that a row refers to, is gone."""

LOST_TEXT: Final = "the node has lost bytes that the request needs"
"""What is said with `LOST`: which segment it was is nothing for a client."""

FULL: Final = "full"
"""The limit of what is stored would be passed; the text says by how much."""

REFUSED: Final = "refused"
"""The contract, or a cap, does not allow it; the text says what."""

UNAVAILABLE: Final = "unavailable"
"""The store cannot carry it out now: its disk is full, no descriptor is left, or the like."""
