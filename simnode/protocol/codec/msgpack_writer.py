"""Writing msgpack as the schema directs. Enters: a shape. Leaves: a function that writes it. Next: `msgpack.py`."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgpack

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import schema
from simnode.protocol.codec.msgpack_names import TYPE, fields_in_order, only_variant
from simnode.protocol.codec.output import JOINED_BYTES, EncodedItems, Output
from simnode.protocol.codec.schema import Record, Shape
from simnode.protocol.errors import EncodeError
from simnode.protocol.messages.wire import Fixed, Float, SocketAddress, Unsigned


class MsgpackOutput(Output):
    """An output with a packer for what is small."""

    __slots__ = ("packer",)

    def __init__(self) -> None:
        super().__init__()
        self.packer = msgpack.Packer(use_single_float=True, buf_size=256)

    def pack(self, value: str | bytes | float | bool | None) -> None:
        """Append one scalar."""
        self.small.append(self.packer.pack(value))


Write = Callable[[Any, MsgpackOutput], None]


def encode(write: Write, value: Any) -> Rope:
    """`value` as a rope.

    Raises:
        EncodeError: a number or a fixed array does not fit its width (our caller's fault).
    """
    output = MsgpackOutput()
    write(value, output)
    return output.rope()


def bin_header(nbytes: int) -> bytes:
    """What stands before `nbytes` bytes of a `bin`.

    Raises:
        EncodeError: 4 GiB or more.
    """
    if nbytes < 1 << 8:
        return struct.pack(">BB", 0xC4, nbytes)
    if nbytes < 1 << 16:
        return struct.pack(">BH", 0xC5, nbytes)
    return struct.pack(">BI", 0xC6, nbytes)


def map_header(record: Record, name: str | None) -> bytes:
    """The head of a record's map, and its `type` if it has a name."""
    head: bytes = msgpack.Packer().pack_map_header(len(record.fields) + (name is not None))
    if name is None:
        return head
    typed: bytes = head + msgpack.packb(TYPE) + msgpack.packb(name)
    return typed


def writer(shape: Shape) -> Write:
    """A function that writes one value of `shape`."""
    match shape:
        case Unsigned(bits):
            return _unsigned_writer(bits)
        case Fixed(nbytes):
            return _fixed_writer(nbytes)
        case Float() | schema.Boolean() | schema.Text() | SocketAddress():
            return write_scalar
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
        case schema.Record():
            return record_writer(shape, name=None)
    only = only_variant(shape)
    if only is not None:
        return writer(only)
    return choice_writer({record.cls: record_writer(record, name=path[-1]) for path, record in shape.leaves()})


def _unsigned_writer(bits: int) -> Write:
    def write(value: int, output: MsgpackOutput) -> None:
        if not 0 <= value < 1 << bits:
            raise EncodeError(f"{value} is no unsigned integer of {bits} bits")
        output.pack(value)

    return write


def _fixed_writer(nbytes: int) -> Write:
    def write(value: bytes, output: MsgpackOutput) -> None:
        if len(value) != nbytes:
            raise EncodeError(f"{nbytes} bytes expected, got {len(value)}")
        output.pack(value)

    return write


def write_scalar(value: str | float | bool, output: MsgpackOutput) -> None:
    output.pack(value)


def write_blob(value: Blob, output: MsgpackOutput) -> None:
    size = len(value.view)
    output.small.append(bin_header(size))
    if size > JOINED_BYTES:
        output.write_large(value.view)
    else:
        output.small.append(value.view)


def write_outcome(value: str | None, output: MsgpackOutput) -> None:
    output.small.append(output.packer.pack({"Ok": None} if value is None else {"Err": value}))


def _option_writer(write_item: Write) -> Write:
    def write(value: Any, output: MsgpackOutput) -> None:
        if value is None:
            output.pack(None)
        else:
            write_item(value, output)

    return write


def _product_writer(item_writers: tuple[Write, ...]) -> Write:
    def write(value: tuple[Any, ...], output: MsgpackOutput) -> None:
        output.small.append(output.packer.pack_array_header(len(item_writers)))
        for write_item, item in zip(item_writers, value, strict=True):
            write_item(item, output)

    return write


def _sequence_writer(write_item: Write) -> Write:
    write_items = many(write_item)

    def write(value: tuple[Any, ...], output: MsgpackOutput) -> None:
        if type(value) is EncodedItems:
            output.small.append(output.packer.pack_array_header(value.number))
            for part in value.parts:
                output.write_large(part)
        else:
            output.small.append(output.packer.pack_array_header(len(value)))
            write_items(value, output)

    return write


def many(write_item: Write) -> Write:
    """A function that writes items one after the other, without their number."""

    def write(items: Iterable[Any], output: MsgpackOutput) -> None:
        for item in items:
            write_item(item, output)

    return write


def record_writer(record: Record, *, name: str | None) -> Write:
    """A function that writes a record as a map, its `type` first if it has a name."""
    header = map_header(record, name)
    fields = [(msgpack.packb(spelled), ours, writer(shape)) for spelled, ours, shape in fields_in_order(record)]

    def write(value: Any, output: MsgpackOutput) -> None:
        output.small.append(header)
        for key, ours, write_field in fields:
            output.small.append(key)
            write_field(getattr(value, ours), output)

    return write


def choice_writer(variants: Mapping[type[Any], Write]) -> Write:
    """A function that writes a value as what its class says."""

    def write(value: Any, output: MsgpackOutput) -> None:
        if type(value) not in variants:
            raise EncodeError(f"no variant for {type(value).__name__}")
        variants[type(value)](value, output)

    return write
