"""Reading bincode 1.x with its default options, for whatever the schema describes.

Enters: a shape of `schema.py`. Leaves: a function that reads a value of that shape from a message.
Next: `bincode_writer.py`.

Little-endian, fixed width; a bool or an Option's tag is one byte, an enum's tag a u32, a length or
count a u64. Every length is checked against what remains before anything is sliced or looped over.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from simnode.protocol.blob import Blob
from simnode.protocol.codec import schema
from simnode.protocol.codec.schema import Shape
from simnode.protocol.codec.source import MAX_ITEMS, Source
from simnode.protocol.errors import DecodeError
from simnode.protocol.messages.contracts import ContractContainer, ContractKey
from simnode.protocol.messages.requests import Get, Put, StreamChunk
from simnode.protocol.messages.wire import Fixed, Float, SocketAddress, Unsigned

U8: Final = struct.Struct("<B")
U16: Final = struct.Struct("<H")
U32: Final = struct.Struct("<I")
U64: Final = struct.Struct("<Q")
F32: Final = struct.Struct("<f")

UNEXPECTED_END = "io error: unexpected end of file"
"""The reference's text when a number, a tag or a fixed array does not fit in what remains."""

LENGTH_BEYOND_END = "io error: "
"""The reference's text when a byte string or text announces more than what remains."""


Read = Callable[[Source], Any]
"""Raises `DecodeError`, or `struct.error` at an unexpected end: see `decode`."""


def decode(read: Read, message: Blob, *, max_items: int = MAX_ITEMS) -> Any:
    """The value that `message` begins with; what follows it is ignored, as the reference does.

    Raises:
        DecodeError: the bytes are none (the peer's fault).
    """
    try:
        return read(Source(message, max_items=max_items))
    except struct.error:
        raise DecodeError(UNEXPECTED_END) from None


def reader(shape: Shape) -> Read:
    """A function that reads one value of `shape`."""
    match shape:
        case Unsigned(bits):
            return _number_reader({32: U32, 64: U64}[bits])
        case Float():
            return _number_reader(F32)
        case Fixed(nbytes):
            return _number_reader(struct.Struct(f"{nbytes}s"))
        case SocketAddress():
            return read_address
        case schema.Boolean():
            return read_bool
        case schema.Text():
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
        case schema.Record(cls, fields):
            if cls in BY_HAND:
                return BY_HAND[cls]
            field_readers = {name: reader(field) for name, field in fields}
            make = BY_HAND_OVER_FIELDS.get(cls)
            return _record_reader(cls, field_readers) if make is None else make(**field_readers)
    return _choice_reader(tuple(reader(variant) for _, variant in shape.variants))


def _number_reader(layout: struct.Struct) -> Read:
    unpack_from, size = layout.unpack_from, layout.size

    def read(source: Source) -> Any:
        (value,) = unpack_from(source.view, source.at)
        source.at += size
        return value

    return read


_read_u8: Final = _number_reader(U8)
_read_u16: Final = _number_reader(U16)
_read_u32: Final = _number_reader(U32)
_read_u64: Final = _number_reader(U64)


def read_bool(source: Source) -> bool:
    """One byte, 0 or 1."""
    byte: int = _read_u8(source)
    if byte > 1:
        raise _no_bool(byte)
    return byte == 1


def _no_bool(byte: int) -> DecodeError:
    return DecodeError(f"invalid u8 while decoding bool, expected 0 or 1, found {byte}")


def _take(source: Source) -> tuple[int, int]:
    """Bounds of a byte string whose length is next, after a check that all of it is there."""
    (length,) = U64.unpack_from(source.view, source.at)
    start = source.at + 8
    stop = start + length
    if stop > len(source.view):
        raise DecodeError(LENGTH_BEYOND_END)
    source.at = stop
    return start, stop


def read_blob(source: Source) -> Blob:
    """A slice of the message."""
    return source.message.slice(*_take(source))


def read_text(source: Source) -> str:
    """UTF-8 after its length in bytes."""
    return source.text(*_take(source))


def read_address(source: Source) -> str:
    """A socket address as text."""
    version: int = _read_u32(source)
    if version > 1:
        raise _unknown_tag(version, 2)
    octets = 16 if version else 4
    start = source.at
    source.at += octets
    port: int = _read_u16(source)
    packed = bytes(source.view[start : start + octets])
    return f"[{IPv6Address(packed)}]:{port}" if version else f"{IPv4Address(packed)}:{port}"


def read_outcome(source: Source) -> str | None:
    """None for `Ok(())`, else the error's text."""
    tag: int = _read_u32(source)
    if tag > 1:
        raise _unknown_tag(tag, 2)
    return read_text(source) if tag else None


def _option_reader(read_item: Read) -> Read:
    def read(source: Source) -> Any:
        tag: int = _read_u8(source)
        if tag > 1:
            raise DecodeError(f"tag for enum is not valid, found {tag}")
        return read_item(source) if tag else None

    return read


def _product_reader(item_readers: tuple[Read, ...]) -> Read:
    return lambda source: tuple([read_item(source) for read_item in item_readers])


def _count(source: Source) -> int:
    """A count of items, after a check that they can be there at all: each takes a byte or more."""
    count: int = _read_u64(source)
    if count > len(source.view) - source.at:
        raise DecodeError(UNEXPECTED_END)
    source.announce(count)
    return count


def _sequence_reader(read_item: Read) -> Read:
    return lambda source: tuple([read_item(source) for _ in range(_count(source))])


def _pairs_reader(read_pair: Read) -> Read:
    return lambda source: tuple(dict([read_pair(source) for _ in range(_count(source))]).items())


def _record_reader(cls: type[Any], field_readers: dict[str, Read]) -> Read:
    names, readers = list(field_readers), list(field_readers.values())
    return lambda source: cls(**dict(zip(names, [read_field(source) for read_field in readers], strict=True)))


def _choice_reader(variant_readers: tuple[Read, ...]) -> Read:
    unpack_from, variants = U32.unpack_from, len(variant_readers)

    def read(source: Source) -> Any:
        (tag,) = unpack_from(source.view, source.at)
        if tag >= variants:
            raise _unknown_tag(tag, variants)
        source.at += 4
        return variant_readers[tag](source)

    return read


def _unknown_tag(tag: int, variants: int) -> DecodeError:
    return DecodeError(f"invalid value: integer `{tag}`, expected variant index 0 <= i < {variants}")


# ---- written out for speed: what nearly every message of a busy node needs ------------------------


_KEY: Final = struct.Struct("<32s32s")
_GET: Final = struct.Struct("<32sBBB")
_CHUNK: Final = struct.Struct("<IIIQ")
_HASH_AND_LENGTH: Final = struct.Struct("<32sQ")
_NOUGHT: Final = bytes(8)
"""The tags of the only variant of a `ContractContainer`; also an empty map."""
_PUT_ENDS: Final = {
    _NOUGHT + bytes((subscribe, blocks)): ((), subscribe, blocks)
    for subscribe in (False, True)
    for blocks in (False, True)
}
"""What most PUTs end in: no related contracts, and two flags."""


def _read_contract_key(source: Source) -> ContractKey:
    instance, code = _KEY.unpack_from(source.view, source.at)
    source.at += 64
    return ContractKey(instance, code)


def _read_get(source: Source) -> Get:
    key, return_contract_code, subscribe, blocking_subscribe = _GET.unpack_from(source.view, source.at)
    flags = max(return_contract_code, subscribe, blocking_subscribe)
    if flags > 1:
        raise _no_bool(flags)
    source.at += 35
    return Get(
        key=key,
        return_contract_code=return_contract_code == 1,
        subscribe=subscribe == 1,
        blocking_subscribe=blocking_subscribe == 1,
    )


def _read_chunk(source: Source) -> StreamChunk:
    stream_id, index, total, nbytes = _CHUNK.unpack_from(source.view, source.at)
    start = source.at + 20
    source.at = stop = start + nbytes
    if stop > len(source.view):
        raise DecodeError(LENGTH_BEYOND_END)
    return StreamChunk(stream_id=stream_id, index=index, total=total, data=source.message.slice(start, stop))


def _read_container(source: Source) -> ContractContainer:
    data = read_blob(source)
    code_hash, nbytes = _HASH_AND_LENGTH.unpack_from(source.view, source.at)
    start = source.at + 40
    source.at = stop = start + nbytes
    if stop > len(source.view):
        raise DecodeError(LENGTH_BEYOND_END)
    params = source.message.slice(start, stop)
    return ContractContainer(data=data, code_hash=code_hash, params=params, key=_read_contract_key(source))


def _put_reader(
    *, contract: Read, state: Read, related_contracts: Read, subscribe: Read, blocking_subscribe: Read
) -> Read:
    def read(source: Source) -> Put:
        view, at = source.view, source.at
        if view[at : at + 8] == _NOUGHT:
            source.at = at + 8
            container = _read_container(source)
        else:
            container = contract(source)
        new_state = state(source)
        at = source.at
        rest = _PUT_ENDS.get(bytes(view[at : at + 10]))
        if rest is None:
            rest = related_contracts(source), subscribe(source), blocking_subscribe(source)
        else:
            source.at = at + 10
        related, subscribes, blocks = rest
        return Put(
            contract=container,
            state=new_state,
            related_contracts=related,
            subscribe=subscribes,
            blocking_subscribe=blocks,
        )

    return read


BY_HAND: Final[dict[type[Any], Read]] = {
    ContractContainer: _read_container,
    ContractKey: _read_contract_key,
    Get: _read_get,
    StreamChunk: _read_chunk,
}

BY_HAND_OVER_FIELDS: Final[dict[type[Any], Callable[..., Read]]] = {Put: _put_reader}
"""Those that leave what is rare to the readers of their fields."""
