"""The messages of the codec bench by the plain way of each library. Enters: payloads. Leaves: bytes, and back.

Flatbuffers: the stock Builder as generated code uses it, and accessors field by field, a vector of
bytes by one slice (`Data(j)`, byte by byte, is all that generated code offers without numpy: it is
measured apart). msgpack: `packb` of a dict, `unpackb` into one. Nothing is checked beyond what the
library checks by itself. Next: `codecs.py`.
"""

from __future__ import annotations

from typing import Any

import flatbuffers
import msgpack
from flatbuffers import number_types
from flatbuffers.encode import Get
from flatbuffers.packer import uoffset
from flatbuffers.table import Table

INSTANCE, CODE = bytes(range(32)), bytes(range(32, 64))

# ---- flatbuffers ---------------------------------------------------------------------------------


def _union(builder: flatbuffers.Builder, tag: int, value: int) -> int:
    builder.StartObject(2)
    builder.PrependUint8Slot(0, tag, 0)
    builder.PrependUOffsetTRelativeSlot(1, value, 0)
    return builder.EndObject()


def _key(builder: flatbuffers.Builder, code: bytes | None) -> int:
    data = builder.CreateByteVector(INSTANCE)
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, data, 0)
    instance = builder.EndObject()
    hashed = builder.CreateByteVector(code) if code else 0
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, instance, 0)
    builder.PrependUOffsetTRelativeSlot(1, hashed, 0)
    return builder.EndObject()


def _finished(builder: flatbuffers.Builder, root: int) -> bytes:
    builder.Finish(root)
    return bytes(builder.Output())


def build_chunk(data: bytes) -> bytes:
    builder = flatbuffers.Builder(1024)
    vector = builder.CreateByteVector(data)
    builder.StartObject(4)
    builder.PrependUint32Slot(0, 7, 0)
    builder.PrependUint32Slot(1, 3, 0)
    builder.PrependUint32Slot(2, 200, 0)
    builder.PrependUOffsetTRelativeSlot(3, vector, 0)
    return _finished(builder, _union(builder, 6, builder.EndObject()))


def build_get_response(state: bytes) -> bytes:
    builder = flatbuffers.Builder(1024)
    vector = builder.CreateByteVector(state)
    key = _key(builder, CODE)
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(0, key, 0)
    builder.PrependUOffsetTRelativeSlot(2, vector, 0)
    return _finished(builder, _union(builder, 1, _union(builder, 1, builder.EndObject())))


def build_get(_: bytes) -> bytes:
    builder = flatbuffers.Builder(1024)
    key = _key(builder, None)
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(0, key, 0)
    return _finished(builder, _union(builder, 1, _union(builder, 3, builder.EndObject())))


class _Accessors:
    """What generated code has: one look at the vtable for each field."""

    def __init__(self, buffer: bytes, position: int) -> None:
        self.table = Table(buffer, position)

    @classmethod
    def root(cls, buffer: bytes) -> _Accessors:
        return cls(buffer, Get(uoffset, buffer, 0))

    def _offset(self, slot: int) -> int:
        return number_types.UOffsetTFlags.py_type(self.table.Offset(4 + 2 * slot))

    def u8(self, slot: int) -> int:
        offset = self._offset(slot)
        return self.table.Get(number_types.Uint8Flags, offset + self.table.Pos) if offset else 0

    def u32(self, slot: int) -> int:
        offset = self._offset(slot)
        return self.table.Get(number_types.Uint32Flags, offset + self.table.Pos) if offset else 0

    def inner(self, slot: int) -> _Accessors:
        return _Accessors(self.table.Bytes, self.table.Indirect(self._offset(slot) + self.table.Pos))

    def union(self, slot: int) -> _Accessors:
        inner = Table(bytearray(), 0)
        self.table.Union(inner, self._offset(slot))
        return _Accessors(inner.Bytes, inner.Pos)

    def bytes(self, slot: int) -> bytes:
        start, length = self.table.Vector(self._offset(slot)), self.table.VectorLen(self._offset(slot))
        return self.table.Bytes[start : start + length]

    def byte(self, slot: int, index: int) -> int:
        offset = self._offset(slot)
        return self.table.Get(number_types.Uint8Flags, self.table.Vector(offset) + index)


def access_chunk(message: bytes) -> Any:
    root = _Accessors.root(message)
    chunk = root.union(1)
    return root.u8(0), chunk.u32(0), chunk.u32(1), chunk.u32(2), chunk.bytes(3)


def access_chunk_by_byte(message: bytes) -> Any:
    chunk = _Accessors.root(message).union(1)
    length = chunk.table.VectorLen(chunk._offset(3))
    return chunk.u32(0), chunk.u32(1), chunk.u32(2), bytes([chunk.byte(3, index) for index in range(length)])


def access_get_response(message: bytes) -> Any:
    root = _Accessors.root(message)
    contract = root.union(1)
    response = contract.union(1)
    key = response.inner(0)
    return root.u8(0), contract.u8(0), key.inner(0).bytes(0), key.bytes(1), response.bytes(2)


def access_get(message: bytes) -> Any:
    root = _Accessors.root(message)
    contract = root.union(1)
    get = contract.union(1)
    instance = get.inner(0).inner(0).bytes(0)
    return root.u8(0), contract.u8(0), instance, get.u8(1), get.u8(2), get.u8(3)


# ---- msgpack -------------------------------------------------------------------------------------


def pack_chunk(data: bytes) -> bytes:
    packed: bytes = msgpack.packb({"type": "StreamChunk", "stream_id": 7, "index": 3, "total": 200, "data": data})
    return packed


def pack_get_response(state: bytes) -> bytes:
    key = {"instance": INSTANCE, "code": CODE}
    packed: bytes = msgpack.packb({"type": "GetResponse", "key": key, "contract": None, "state": state})
    return packed


def pack_get(_: bytes) -> bytes:
    flags = {"return_contract_code": False, "subscribe": False, "blocking_subscribe": False}
    packed: bytes = msgpack.packb({"type": "ContractOp.Get", "key": INSTANCE, **flags})
    return packed


def unpack(message: bytes) -> Any:
    return msgpack.unpackb(message)
