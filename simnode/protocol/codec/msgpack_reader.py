"""Reading msgpack as the schema directs. Enters: a shape. Leaves: a function that reads it. Next: `msgpack_writer.py`.

Why not the `msgpack` package: it copies the message into its own buffer and every `bin` out of it
again, and it builds whatever objects the peer describes before anybody has looked at them. Here
nothing is built that the schema does not ask for, and a `bin` is a slice of the message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from enum import Enum
from typing import Any, Final

from simnode.protocol.blob import Blob
from simnode.protocol.codec import schema
from simnode.protocol.codec.msgpack_names import TYPE, fields_in_order, only_variant
from simnode.protocol.codec.schema import Record, Shape
from simnode.protocol.codec.source import MAX_ITEMS, Source
from simnode.protocol.errors import DecodeError
from simnode.protocol.messages.wire import Fixed, Float, SocketAddress, Unsigned


class Kind(Enum):
    """What a msgpack value is; the values are what a refused peer is told."""

    NIL = "nil"
    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STR = "str"
    BIN = "bin"
    ARRAY = "array"
    MAP = "map"
    OTHER = "an extension or an unused code"


Read = Callable[[Source], Any]
"""Raises `DecodeError`, or `struct.error` at an unexpected end: see `decode`."""

UNEXPECTED_END = "unexpected end of message"

NIL = 0xC0

MAX_FIELDS = 16
"""Keys that a map may have (*ours*): more than any class has fields. Looking for `type` costs no more than that."""

ECHOED_BYTES = 40
"""So much of an unknown name the peer is shown again."""


def decode(read: Read, message: Blob, *, max_items: int = MAX_ITEMS) -> Any:
    """The value that `message` is.

    Raises:
        DecodeError: the bytes are none, or more (the peer's fault).
    """
    source = Source(message, max_items=max_items)
    try:
        value = read(source)
    except struct.error:
        raise DecodeError(UNEXPECTED_END) from None
    if source.at != len(source.view):
        raise DecodeError(f"{len(source.view) - source.at} bytes after the message")
    return value


# ---- heads -------------------------------------------------------------------------------------

_Head = tuple[Kind, Any, struct.Struct | None]
"""The kind, and its value, length or count: in the first byte, or (if there is a layout) in the bytes after it."""


def _heads() -> list[_Head]:
    """What each first byte means. Source: the msgpack specification, "formats"."""
    heads: list[_Head] = [(Kind.OTHER, 0, None)] * 256
    for byte in range(0x80):
        heads[byte] = (Kind.INT, byte, None)
    for low in range(0x10):
        heads[0x80 + low] = (Kind.MAP, low, None)
        heads[0x90 + low] = (Kind.ARRAY, low, None)
    for low in range(0x20):
        heads[0xA0 + low] = (Kind.STR, low, None)
        heads[0xE0 + low] = (Kind.INT, low - 0x20, None)
    heads[NIL] = (Kind.NIL, None, None)
    heads[0xC2] = (Kind.BOOL, False, None)
    heads[0xC3] = (Kind.BOOL, True, None)
    with_layout = {
        0xC4: (Kind.BIN, "BHI"),
        0xCA: (Kind.FLOAT, "fd"),
        0xCC: (Kind.INT, "BHIQ"),
        0xD0: (Kind.INT, "bhiq"),
        0xD9: (Kind.STR, "BHI"),
        0xDC: (Kind.ARRAY, "HI"),
        0xDE: (Kind.MAP, "HI"),
    }
    for first, (kind, layouts) in with_layout.items():
        for byte, layout in enumerate(layouts, first):
            heads[byte] = (kind, None, struct.Struct(f">{layout}"))
    return heads


_HEADS: Final = _heads()


def _head(source: Source) -> tuple[Kind, Any]:
    at = source.at
    if at >= len(source.view):
        raise DecodeError(UNEXPECTED_END)
    kind, value, layout = _HEADS[source.view[at]]
    source.at = at + 1
    if layout is not None:
        (value,) = layout.unpack_from(source.view, at + 1)
        source.at += layout.size
    return kind, value


def _expect(source: Source, expected: Kind) -> Any:
    kind, value = _head(source)
    if kind is not expected:
        raise _mismatch(expected.value, kind)
    return value


def _mismatch(expected: str, found: Kind) -> DecodeError:
    return DecodeError(f"{expected} expected, found {found.value}")


def _take(source: Source, length: int) -> tuple[int, int]:
    """Bounds of the next `length` bytes, after a check that they are there."""
    start = source.at
    stop = start + length
    if stop > len(source.view):
        raise DecodeError(UNEXPECTED_END)
    source.at = stop
    return start, stop


def _skip(source: Source) -> None:
    """Pass over one value of any kind. What it contains counts as items of the message; no recursion."""
    pending = 1
    while pending:
        pending -= 1
        kind, value = _head(source)
        if kind is Kind.STR or kind is Kind.BIN:
            _take(source, value)
        elif kind is Kind.ARRAY or kind is Kind.MAP:
            children = value if kind is Kind.ARRAY else 2 * value
            source.announce(children)
            pending += children
        elif kind is Kind.OTHER:
            raise _mismatch("a value", kind)


# ---- values ------------------------------------------------------------------------------------


def reader(shape: Shape) -> Read:
    """A function that reads one value of `shape`."""
    match shape:
        case Unsigned(bits):
            return _unsigned_reader(bits)
        case Float():
            return read_float
        case Fixed(nbytes):
            return _fixed_reader(nbytes)
        case schema.Boolean():
            return lambda source: _expect(source, Kind.BOOL)
        case schema.Text() | SocketAddress():
            return read_text
        case schema.Bytes():
            return read_blob
        case schema.Outcome():
            return read_outcome
        case schema.Option(item):
            return _option_reader(reader(item))
        case schema.Product(items):
            return _product_reader(tuple(map(reader, items)))
        case schema.Sequence(item):
            return _sequence_reader(reader(item))
        case schema.Pairs(item):
            return _pairs_reader(reader(item))
        case schema.Record():
            return record_reader(shape)
    only = only_variant(shape)
    if only is not None:
        return reader(only)
    return choice_reader({path[-1]: variant_reader(record) for path, record in shape.leaves()})


def _unsigned_reader(bits: int) -> Read:
    def read(source: Source) -> int:
        value: int = _expect(source, Kind.INT)
        if not 0 <= value < 1 << bits:
            raise DecodeError(f"{value} is no unsigned integer of {bits} bits")
        return value

    return read


def read_float(source: Source) -> float:
    """A float, or an int, because JavaScript writes 1.0 as 1."""
    kind, value = _head(source)
    if kind is not Kind.FLOAT and kind is not Kind.INT:
        raise _mismatch(Kind.FLOAT.value, kind)
    return float(value)


def _fixed_reader(nbytes: int) -> Read:
    def read(source: Source) -> bytes:
        length: int = _expect(source, Kind.BIN)
        if length != nbytes:
            raise DecodeError(f"{nbytes} bytes expected, found {length}")
        start, stop = _take(source, length)
        return bytes(source.view[start:stop])

    return read


def read_blob(source: Source) -> Blob:
    """A slice of the message."""
    return source.blob(*_take(source, _expect(source, Kind.BIN)))


def read_text(source: Source) -> str:
    """A str."""
    return source.text(*_take(source, _expect(source, Kind.STR)))


def read_outcome(source: Source) -> str | None:
    """`{"Ok": nil}`, or `{"Err": text}`, of which the text."""
    if _expect(source, Kind.MAP) != 1:
        raise DecodeError("a map of `Ok` or `Err` alone expected")
    which = read_text(source)
    if which == "Err":
        return read_text(source)
    if which != "Ok":
        raise DecodeError(f"`Ok` or `Err` expected, found `{which[:ECHOED_BYTES]}`")
    _expect(source, Kind.NIL)
    return None


def _option_reader(read_item: Read) -> Read:
    def read(source: Source) -> Any:
        at = source.at
        if at < len(source.view) and source.view[at] == NIL:
            source.at = at + 1
            return None
        return read_item(source)

    return read


def _product_reader(item_readers: tuple[Read, ...]) -> Read:
    def read(source: Source) -> tuple[Any, ...]:
        count = _expect(source, Kind.ARRAY)
        if count != len(item_readers):
            raise DecodeError(f"an array of {len(item_readers)} expected, found one of {count}")
        return tuple([read_item(source) for read_item in item_readers])

    return read


def _count(source: Source) -> int:
    """The length of an array, after a check that the items can be there at all: each takes a byte or more."""
    count: int = _expect(source, Kind.ARRAY)
    if count > len(source.view) - source.at:
        raise DecodeError(UNEXPECTED_END)
    source.announce(count)
    return count


def _sequence_reader(read_item: Read) -> Read:
    return lambda source: tuple([read_item(source) for _ in range(_count(source))])


def _pairs_reader(read_pair: Read) -> Read:
    return lambda source: tuple(dict([read_pair(source) for _ in range(_count(source))]).items())


# ---- records and their variants ----------------------------------------------------------------


ReadFields = Callable[[Source, int, dict[str, Any]], Any]
"""Reads so many fields of a record, given what was read of it already, and makes it."""


def record_reader(record: Record) -> Read:
    """A function that reads a map of the fields of `record`, in any order.

    Fields that have a default in the class, and Options, may be absent; others may not, and none
    may be unknown or come twice.
    """
    read_fields = _fields_reader(record, typed=False)
    return lambda source: read_fields(source, _field_count(source), {})


def variant_reader(record: Record) -> ReadFields:
    """The same for a map that has a `type` as well, which `choice_reader` has looked at already."""
    return _fields_reader(record, typed=True)


def _fields_reader(record: Record, *, typed: bool) -> ReadFields:
    cls = record.cls
    fields = {spelled.encode(): (name, reader(shape)) for spelled, name, shape in fields_in_order(record)}
    if typed:
        fields[_TYPE] = (TYPE, read_text)
    absent = {name: None for name, shape in record.fields if isinstance(shape, schema.Option)}
    required = _required(record)

    def read(source: Source, count: int, values: dict[str, Any]) -> Any:
        for _ in range(count):
            spelled = _read_name(source)
            if spelled not in fields:
                raise DecodeError(f"unknown field `{_echoed(spelled)}`")
            name, read_field = fields[spelled]
            if name in values:
                raise DecodeError(f"field `{_echoed(spelled)}` comes twice")
            try:
                values[name] = read_field(source)
            except DecodeError as error:
                raise DecodeError(f"{_echoed(spelled)}: {error}") from None
        values.pop(TYPE, None)
        for field, name in required:
            if name not in values:
                raise DecodeError(f"field `{field}` is missing")
        return cls(**(absent | values))

    return read


def _field_count(source: Source) -> int:
    count: int = _expect(source, Kind.MAP)
    if count > MAX_FIELDS:
        raise DecodeError(f"a map of {MAX_FIELDS} fields at most expected, found one of {count}")
    return count


def _required(record: Record) -> list[tuple[str, str]]:
    """Spelling and name of the fields that must be there."""
    defaults = record.cls.__dataclass_fields__
    return [
        (spelled, name)
        for spelled, name, shape in fields_in_order(record)
        if not isinstance(shape, schema.Option) and defaults[name].default is MISSING
    ]


_TYPE: Final = TYPE.encode()


def _read_name(source: Source) -> bytes:
    """A str that is to be looked up, as its bytes: they need not be UTF-8 until they are shown to somebody."""
    view, at = source.view, source.at
    if at < len(view) and 0xA0 <= view[at] < 0xC0:  # as all names of ours are written
        start, stop = at + 1, at - 0x9F + view[at]
        if stop > len(view):
            raise DecodeError(UNEXPECTED_END)
        source.at = stop
    else:
        start, stop = _take(source, _expect(source, Kind.STR))
    return bytes(view[start:stop])


def _echoed(name: bytes) -> str:
    return name[:ECHOED_BYTES].decode(errors="replace")


def choice_reader(variants: Mapping[str, ReadFields]) -> Read:
    """A function that reads a map by what its `type` names, wherever in the map that is."""
    by_name = {name.encode(): read_fields for name, read_fields in variants.items()}

    def read(source: Source) -> Any:
        count = _field_count(source)
        start = source.at
        for index in range(count):
            if _read_name(source) == _TYPE:
                name = _read_name(source)
                if name not in by_name:
                    raise DecodeError(f"unknown type `{_echoed(name)}`")
                if index == 0:  # as everybody writes it who can
                    return by_name[name](source, count - 1, {TYPE: None})
                source.at = start
                return by_name[name](source, count, {})
            _skip(source)
        raise DecodeError("field `type` is missing")

    return read
