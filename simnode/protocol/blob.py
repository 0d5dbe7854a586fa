"""Bytes that stay where they are. Enters: any buffer. Leaves: `Blob` and `Rope`. Next: `messages/`.

A `Blob` is a length and a way to get at a `memoryview`; slicing one copies nothing and remembers
which object (a heap buffer, a leased segment) the bytes live in. A `Rope` is a serialized message
as a list of such pieces: a 50 MiB response is one short header and a view of the state's segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

Buffer = bytes | bytearray | memoryview

_new: Final = object.__new__


class Blob:
    """An immutable run of bytes, by reference.

    Args:
        buffer: where the bytes are; held, not copied, so its owner must not change it.
        origin: the object that owns the bytes when they are not plain heap (a leased segment).
            Slices inherit it, so whoever stores a field of a message can store a reference.
        start: offset of the first byte inside `origin`, in bytes.
    """

    __slots__ = ("origin", "start", "view")

    def __init__(self, buffer: Buffer = b"", *, origin: object = None, start: int = 0) -> None:
        view = memoryview(buffer)
        if type(buffer) is not bytes:
            if view.format != "B" or view.ndim != 1:
                view = view.cast("B")
            if not view.readonly:
                view = view.toreadonly()
        #: one-dimensional, itemsize 1, read-only
        self.view = view
        self.origin = origin
        self.start = start

    @classmethod
    def of(cls, value: Blob | Buffer) -> Blob:
        """`value` itself when it is a Blob, else a Blob over it."""
        return value if isinstance(value, Blob) else cls(value)

    def __len__(self) -> int:
        return len(self.view)

    @property
    def stop(self) -> int:
        """Offset just past the last byte inside `origin`."""
        return self.start + len(self.view)

    def slice(self, start: int, stop: int) -> Blob:
        """The bytes from `start` up to `stop` (both inside this Blob), without a copy.

        Raises:
            IndexError: the range is not inside this Blob (the caller's mistake; a plain slice
                would clamp it silently).
        """
        view = self.view
        if not 0 <= start <= stop <= len(view):
            raise IndexError(f"[{start}:{stop}] is outside a Blob of {len(view)} bytes")
        part = _new(Blob)  # what `__init__` looks for is so already, and a message has many fields
        part.view, part.origin, part.start = view[start:stop], self.origin, self.start + start
        return part

    def __bytes__(self) -> bytes:
        return bytes(self.view)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Blob):
            return self is other or same_bytes(self.view, other.view)
        if isinstance(other, bytes | bytearray | memoryview):
            return same_bytes(self.view, memoryview(other))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(bytes(self.view))

    def __repr__(self) -> str:
        where = "" if self.origin is None else f" at {self.start} of {self.origin!r}"
        shown = bytes(self.view[:16]).hex() + ("…" if len(self) > 16 else "")
        return f"<Blob {len(self)} bytes {shown}{where}>"


COMPARED_AT_ONCE_BYTES = 256 * 1024


def same_bytes(left: memoryview, right: memoryview) -> bool:
    """Whether two byte views hold the same bytes.

    In pieces, because comparing memoryviews directly goes byte by byte through `struct`, and
    comparing whole copies would take twice the memory.
    """
    if len(left) != len(right):
        return False
    step = COMPARED_AT_ONCE_BYTES
    return all(bytes(left[at : at + step]) == bytes(right[at : at + step]) for at in range(0, len(left), step))


class Rope:
    """A serialized message as pieces that are never joined unless somebody asks for `bytes`.

    Args:
        parts: the pieces, in order. Empty ones are dropped.
    """

    __slots__ = ("nbytes", "parts")

    def __init__(self, parts: Iterable[Buffer | Blob] = ()) -> None:
        kept: list[Buffer] = []
        total = 0
        for part in parts:
            view = part.view if isinstance(part, Blob) else part
            nbytes = len(view)
            if nbytes:
                kept.append(view)
                total += nbytes
        self.parts = kept
        #: always the sum of the lengths of `parts`
        self.nbytes = total

    @classmethod
    def joined(cls, pieces: Iterable[Buffer]) -> Rope:
        """One part: the pieces, copied together."""
        data = b"".join(pieces)
        rope = _new(cls)
        rope.parts, rope.nbytes = [data] if data else [], len(data)
        return rope

    def __len__(self) -> int:
        return self.nbytes

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)

    def cut(self, size: int) -> Iterator[Rope]:
        """The rope in pieces of `size` bytes (the last may be shorter), made one at a time.

        An empty rope gives one empty piece, because an empty message is still a message.
        """
        piece: list[Buffer] = []
        wanted = size
        for part in self.parts:
            view = memoryview(part)
            at = 0
            while len(view) - at >= wanted:
                piece.append(view[at : at + wanted])
                at += wanted
                yield Rope(piece)
                piece, wanted = [], size
            if at < len(view):
                piece.append(view[at:])
                wanted -= len(view) - at
        if piece or not self.parts:
            yield Rope(piece)

    def __repr__(self) -> str:
        return f"<Rope {self.nbytes} bytes in {len(self.parts)} parts>"
