"""A message that is being written. Enters: pieces. Leaves: a `Rope`. Next: `bincode_writer.py`."""

from __future__ import annotations

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
