"""Writing bincode 1.x with its default options, for whatever the schema describes.

Enters: a shape of `schema.py`. Leaves: a function that writes a value of that shape. Next: `native.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address
from typing import Any, Final

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import schema
from simnode.protocol.codec.bincode_reader import F32, U16, U32, U64
from simnode.protocol.codec.output import JOINED_BYTES, EncodedItems, Output
from simnode.protocol.codec.schema import Shape
from simnode.protocol.errors import EncodeError
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.responses import GetResponse
from simnode.protocol.messages.wire import Fixed, Float, SocketAddress, Unsigned

Write = Callable[[Any, Output], None]
"""Raises `EncodeError`, or `struct.error` for a number out of range: see `encode`."""


def encode(write: Write, value: Any) -> Rope:
    """`value` as a rope.

    Raises:
        EncodeError: a number or a fixed array does not fit its width (our caller's fault).
    """
    output = Output()
    try:
        write(value, output)
    except struct.error as error:
        raise EncodeError(str(error)) from None
    return output.rope()


def writer(shape: Shape) -> Write:
    """A function that writes one value of `shape`."""
    match shape:
        case Unsigned(bits):
            return _number_writer({32: U32, 64: U64}[bits])
        case Float():
            return _number_writer(F32)
        case Fixed(nbytes):
            return _fixed_writer(nbytes)
        case SocketAddress():
            return write_address
        case schema.Boolean():
            return write_bool
        case schema.Text():
            return write_text
        case schema.Bytes():
            return write_blob
        case schema.Outcome():
            return write_outcome
        case schema.Option(item):
            return _option_writer(writer(item))
        case schema.Product(items):
            return _product_writer(tuple(map(writer, items)))
        case schema.Sequence(item) | schema.Pairs(item):
            return _sequence_writer(writer(item))
        case schema.Record(cls, fields):
            if cls in BY_HAND:
                return BY_HAND[cls]
            field_writers = {name: writer(field) for name, field in fields}
            make = BY_HAND_OVER_FIELDS.get(cls)
            return _record_writer(field_writers) if make is None else make(**field_writers)
    return _choice_writer(dict(_variants(shape)))


def _number_writer(layout: struct.Struct) -> Write:
    pack = layout.pack
    return lambda value, output: output.small.append(pack(value))


def _fixed_writer(nbytes: int) -> Write:
    def write(value: bytes, output: Output) -> None:
        if len(value) != nbytes:
            raise EncodeError(f"{nbytes} bytes expected, got {len(value)}")
        output.small.append(value)

    return write


def write_bool(value: bool, output: Output) -> None:
    output.small.append(b"\1" if value else b"\0")


def write_blob(value: Blob, output: Output) -> None:
    size = len(value.view)
    output.small.append(U64.pack(size))
    if size > JOINED_BYTES:
        output.write_large(value.view)
    else:
        output.small.append(value.view)


def write_text(value: str, output: Output) -> None:
    encoded = value.encode()
    output.small += (U64.pack(len(encoded)), encoded)


def write_address(value: str, output: Output) -> None:
    host, _, port = value.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
        output.small += (U32.pack(address.version == 6), address.packed, U16.pack(int(port)))
    except ValueError as error:
        raise EncodeError(f"no socket address: {value!r} ({error})") from None


def write_outcome(value: str | None, output: Output) -> None:
    output.small.append(U32.pack(value is not None))
    if value is not None:
        write_text(value, output)


def _option_writer(write_item: Write) -> Write:
    def write(value: Any, output: Output) -> None:
        output.small.append(b"\0" if value is None else b"\1")
        if value is not None:
            write_item(value, output)

    return write


def _product_writer(item_writers: tuple[Write, ...]) -> Write:
    def write(value: tuple[Any, ...], output: Output) -> None:
        for write_item, item in zip(item_writers, value, strict=True):
            write_item(item, output)

    return write


def _sequence_writer(write_item: Write) -> Write:
    write_items = many(write_item)

    def write(value: tuple[Any, ...], output: Output) -> None:
        if type(value) is EncodedItems:
            output.small.append(U64.pack(value.number))
            for part in value.parts:
                output.write_large(part)
        else:
            output.small.append(U64.pack(len(value)))
            write_items(value, output)

    return write


def many(write_item: Write) -> Write:
    """A function that writes items one after the other, without their number."""

    def write(items: Iterable[Any], output: Output) -> None:
        for item in items:
            write_item(item, output)

    return write


def _record_writer(field_writers: dict[str, Write]) -> Write:
    writers = tuple(field_writers.items())

    def write(value: Any, output: Output) -> None:
        for name, write_field in writers:
            write_field(getattr(value, name), output)

    return write


# ---- written out for speed, as in `bincode_reader.py` ---------------------------------------------


def _write_contract_key(value: ContractKey, output: Output) -> None:
    if len(value.instance) != 32 or len(value.code) != 32:
        raise EncodeError(f"32 bytes expected, got {len(value.instance)} and {len(value.code)}")
    output.small += (value.instance, value.code)


_NONE_AND_LENGTH: Final = struct.Struct("<BQ")


def _get_response_writer(*, key: Write, contract: Write, state: Write) -> Write:
    def write(value: GetResponse, output: Output) -> None:
        key(value.key, output)
        view = value.state.view
        size = len(view)
        if value.contract is None and size <= JOINED_BYTES:
            output.small += (_NONE_AND_LENGTH.pack(0, size), view)
        else:
            contract(value.contract, output)
            state(value.state, output)

    return write


BY_HAND: Final[dict[type[Any], Write]] = {ContractKey: _write_contract_key}
BY_HAND_OVER_FIELDS: Final[dict[type[Any], Callable[..., Write]]] = {GetResponse: _get_response_writer}

# --------------------------------------------------------------------------------------------------


def _choice_writer(variants: dict[type[Any], tuple[bytes, Write]]) -> Write:
    def write(value: Any, output: Output) -> None:
        if type(value) not in variants:
            raise EncodeError(f"no variant for {type(value).__name__}")
        prefix, write_variant = variants[type(value)]
        output.small.append(prefix)
        write_variant(value, output)

    return write


def _variants(choice: schema.Choice, prefix: bytes = b"") -> Iterator[tuple[type[Any], tuple[bytes, Write]]]:
    """Each class of an enum with the tags that lead to it and the writer of its fields."""
    for tag, (_, shape) in enumerate(choice.variants):
        tags = prefix + U32.pack(tag)
        if isinstance(shape, schema.Choice):
            yield from _variants(shape, tags)
        else:
            yield shape.cls, (tags, writer(shape))
