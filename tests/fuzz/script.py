"""Bytes as a script of what happens to a connection. Enters: bytes. Leaves: numbers and pieces, never an error.

A script that is at its end goes on with zeros, so every input means something.
"""

from __future__ import annotations


class Script:
    """What the fuzzer wants to happen.

    Args:
        data: the input.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, below: int = 256) -> int:
        """The next byte, as a number under `below` (up to 256)."""
        return self.piece(1).ljust(1, b"\0")[0] % below

    def piece(self, nbytes: int) -> bytes:
        """The next `nbytes` bytes, or what is left."""
        piece = self._data[self._at : self._at + nbytes]
        self._at += nbytes
        return piece

    def message(self) -> bytes:
        """A run of bytes behind a length of two bytes."""
        return self.piece(self.number() + 256 * self.number())


def written(*parts: int | bytes) -> bytes:
    """A script: numbers are bytes, byte strings get their length before them."""
    return b"".join(
        bytes([part]) if isinstance(part, int) else len(part).to_bytes(2, "little") + part for part in parts
    )
