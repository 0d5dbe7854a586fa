"""Flatbuffers tables, checked as they are read.

Enters: a message. Leaves: its fields. Next: `flatbuffers_contracts.py`.

Python's `flatbuffers` package has no verifier: on a bad buffer it raises `struct.error` or quietly
returns a truncated vector. Here each offset, length, alignment and text is checked against the
message before it is followed, with the rules of the reference's verifier (Rust flatbuffers 24.12).
Offsets may be shared, so a small message can name a large one: depth, tables and referenced bytes
are capped for the message as a whole, the latter two by its length. Nothing is copied but strings
and fields of a fixed length.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, TypeVar

from simnode.protocol.blob import Blob
from simnode.protocol.codec.source import MAX_ITEMS, Source
from simnode.protocol.errors import DecodeError

MAX_DEPTH = 16
"""Tables inside tables. The deepest message of the schema has 7 levels; the reference allows 64."""

MAX_TABLES = 4 * MAX_ITEMS
"""Tables in one message, counted as often as they are referenced (the reference allows 1,000,000).
An item of a message takes up to three, so what the other encodings accept fits."""

MIN_TABLE_BYTES = 12
"""The smallest table with a field takes so many, with the offset to it: a message of n bytes names at most
n / 12 tables (and `SPARE_TABLES`) unless it names some more than once, to have them read more than once."""

SPARE_TABLES = 64
"""Tables that a short message may name in any case."""

MAX_SHARED_BYTES = 64 * 1024
"""How many bytes more than it has a message may reference: builders do share small vectors."""

MAX_SLOTS = 8
"""Fields of a table that are looked at; the schema's largest table has 5."""

_read_u16 = Struct("<H").unpack_from
_read_u32 = Struct("<I").unpack_from
_read_i32 = Struct("<i").unpack_from
_read_slots = [Struct(f"<{count}H").unpack_from for count in range(MAX_SLOTS + 1)]
_ABSENT: Final[tuple[int, ...]] = (0,) * MAX_SLOTS


class _Message:
    """What the tables of one message share: its bytes, and how much of them may still be referenced."""

    __slots__ = ("blob", "bytes_left", "size", "tables_left", "view")

    def __init__(self, blob: Blob) -> None:
        self.blob = blob
        self.view = blob.view
        self.size = len(blob.view)
        self.tables_left = min(MAX_TABLES, SPARE_TABLES + self.size // MIN_TABLE_BYTES)
        self.bytes_left = self.size + MAX_SHARED_BYTES

    def follow(self, at: int, name: str) -> int:
        """The position that the unsigned offset at `at` leads to: aligned, and with four bytes behind it."""
        if at & 3 or at + 4 > self.size:
            raise DecodeError(f"{name}: offset at {at} is unaligned or outside the message")
        target: int = at + _read_u32(self.view, at)[0]
        if target & 3 or target + 4 > self.size:
            raise DecodeError(f"{name}: offset at {at} leads to {target}, which is unaligned or outside the message")
        return target

    def vector(self, at: int, width: int, name: str) -> tuple[int, int]:
        """Where the items of the vector at `at` start, and how many of `width` bytes there are."""
        count: int = _read_u32(self.view, at)[0]
        nbytes = count * width
        if nbytes > self.size - at - 4:
            raise DecodeError(f"{name}: {count} items of {width} bytes at {at} are outside the message")
        self.bytes_left -= nbytes
        if self.bytes_left < 0:
            raise DecodeError("the fields reference more bytes than the message has")
        return at + 4, count


class Table:
    """One table of a message. Slots count from 0; `name` is what an error calls the field.

    Every method raises `DecodeError`, and nothing else, when the bytes break the format's rules or
    a required field is absent (the peer's fault).
    """

    __slots__ = ("_at", "_depth", "_message", "_slots")

    def __init__(self, message: _Message, at: int, depth: int, name: str) -> None:
        view = message.view
        vtable = at - _read_i32(view, at)[0]
        if vtable < 0 or vtable & 1 or vtable + 2 > message.size:
            raise DecodeError(f"{name}: vtable at {vtable} is unaligned or outside the message")
        nbytes = _read_u16(view, vtable)[0]
        if nbytes & 1 or vtable + nbytes > message.size:
            raise DecodeError(f"{name}: vtable of {nbytes} bytes at {vtable} is odd or outside the message")
        message.tables_left -= 1
        if message.tables_left < 0:
            raise DecodeError("more tables than a message of this length may have")
        if depth > MAX_DEPTH:
            raise DecodeError(f"tables nested more than {MAX_DEPTH} deep")
        count = min((nbytes - 4) >> 1, MAX_SLOTS)
        self._message = message
        self._at = at
        self._depth = depth
        #: offset of each field from the table's start, in bytes; 0 where the field is absent
        self._slots = _ABSENT if count <= 0 else _read_slots[count](view, vtable + 4) + _ABSENT[count:]

    # ---- scalars: absent means zero ------------------------------------------------------------

    def u8(self, slot: int, name: str) -> int:
        """An unsigned byte."""
        offset = self._slots[slot]
        if not offset:
            return 0
        at = self._at + offset
        if at >= self._message.size:
            raise DecodeError(f"{name}: byte at {at} is outside the message")
        return self._message.view[at]

    def flag(self, slot: int, name: str) -> bool:
        """A bool: any byte but zero is true, as for the reference."""
        return self.u8(slot, name) != 0

    def u32(self, slot: int, name: str) -> int:
        """An unsigned integer of 32 bits."""
        offset = self._slots[slot]
        if not offset:
            return 0
        at = self._at + offset
        if at & 3 or at + 4 > self._message.size:
            raise DecodeError(f"{name}: u32 at {at} is unaligned or outside the message")
        value: int = _read_u32(self._message.view, at)[0]
        return value

    # ---- what stands elsewhere in the message --------------------------------------------------

    def blob(self, slot: int, name: str) -> Blob:
        """A required vector of bytes, as a slice of the message."""
        return _required(self.optional_blob(slot, name), name)

    def optional_blob(self, slot: int, name: str) -> Blob | None:
        """A vector of bytes, as a slice of the message, or None."""
        offset = self._slots[slot]
        if not offset:
            return None
        message = self._message
        start, nbytes = message.vector(message.follow(self._at + offset, name), 1, name)
        return message.blob.slice(start, start + nbytes)

    def fixed(self, slot: int, name: str, nbytes: int) -> bytes:
        """A required vector of exactly `nbytes` bytes, copied."""
        return exactly(self.blob(slot, name), name, nbytes)

    def text(self, slot: int, name: str) -> str:
        """A required string."""
        return _required(self.optional_text(slot, name), name)

    def optional_text(self, slot: int, name: str) -> str | None:
        """A string, or None. It must be UTF-8, not too long, and followed by a NUL that its length does not count."""
        offset = self._slots[slot]
        if not offset:
            return None
        message = self._message
        start, nbytes = message.vector(message.follow(self._at + offset, name), 1, name)
        stop = start + nbytes
        if stop >= message.size or message.view[stop]:
            raise DecodeError(f"{name}: the string at {start} has no terminator")
        return Source(message.blob).text(start, stop)

    def table(self, slot: int, name: str) -> Table:
        """A required table."""
        return _required(self.optional_table(slot, name), name)

    def optional_table(self, slot: int, name: str) -> Table | None:
        """A table, or None."""
        offset = self._slots[slot]
        if not offset:
            return None
        message = self._message
        return Table(message, message.follow(self._at + offset, name), self._depth + 1, name)

    def union(self, slot: int, name: str) -> tuple[int, Table]:
        """A required union of tables: the tag at `slot`, which may be an unknown one, and the value behind it."""
        if not (self._slots[slot] and self._slots[slot + 1]):
            raise DecodeError(f"{name} is missing")
        return self.u8(slot, name), self.table(slot + 1, name)

    def tables(self, slot: int, name: str) -> list[Table]:
        """A vector of tables; an absent one is empty."""
        offset = self._slots[slot]
        if not offset:
            return []
        message = self._message
        start, count = message.vector(message.follow(self._at + offset, name), 4, name)
        if count > message.tables_left:
            raise DecodeError("more tables than a message of this length may have")
        depth = self._depth + 1
        return [Table(message, message.follow(at, name), depth, name) for at in range(start, start + 4 * count, 4)]

    def required_tables(self, slot: int, name: str) -> list[Table]:
        """A required vector of tables."""
        if not self._slots[slot]:
            raise DecodeError(f"{name} is missing")
        return self.tables(slot, name)


def read_root(message: Blob, name: str) -> Table:
    """The root table of `message`, called `name` in errors.

    Raises:
        DecodeError: it is none (the peer's fault).
    """
    shared = _Message(message)
    return Table(shared, shared.follow(0, name), 1, name)


def exactly(blob: Blob, name: str, nbytes: int) -> bytes:
    """`blob` as bytes.

    Raises:
        DecodeError: it has another length than `nbytes` (the peer's fault).
    """
    if len(blob) != nbytes:
        raise DecodeError(f"{name} must be exactly {nbytes} bytes; got {len(blob)} bytes")
    return bytes(blob)


def unknown_tag(union: str, tag: int) -> DecodeError:
    """The error for a union whose tag stands for no table of the schema."""
    return DecodeError(f"unknown {union} discriminant: {tag}")


_T = TypeVar("_T")


def _required(value: _T | None, name: str) -> _T:
    if value is None:
        raise DecodeError(f"{name} is missing")
    return value
