"""A message that is being written. Enters: pieces. Leaves: a `Rope`. Next: `bincode_writer.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from simnode.protocol.blob import Buffer, Rope

JOINED_BYTES = 2048
"""A blob up to this many bytes is joined with what is around it; a longer one stays where it is."""


class Output:
    """A message being written: small pieces are joined, large ones become parts of their own."""

    __slots__ = ("_parts", "small")

    def __init__(self) -> None:
        #: the pieces since the last large one
        self.small: list[Buffer] = []
        self._parts: list[Buffer] = []

    def write_large(self, part: Buffer) -> None:
        """Append `part` as it is, without a copy."""
        self._parts += (b"".join(self.small), part)
        self.small.clear()

    def rope(self) -> Rope:
        """Everything written."""
        if not self._parts:
            return Rope.joined(self.small)
        return Rope((*self._parts, b"".join(self.small)))


class EncodedItems(tuple[Any, ...]):
    """A long vector, serialized piece by piece beforehand; stands in a message in place of the tuple of its items.

    A codec that is given one writes it as it is (`Codec.encode_items` made the pieces). As a tuple
    it is empty.
    """

    number: int
    """How many items there are."""
    parts: Sequence[Buffer]
    """Their bytes, one after the other, without what a vector begins with."""

    def __new__(cls, parts: Sequence[Buffer], number: int) -> Self:
        items = super().__new__(cls)
        items.parts, items.number = parts, number
        return items
