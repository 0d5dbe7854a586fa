"""Messages made to hurt, by hand: refused ones, and allowed ones that are as many objects as their bytes can be.

Lying lengths, counts of 4 GiB, deep nesting, nested and shared offsets, invalid UTF-8, unknown tags, a
megabyte of nothing; for each encoding and direction.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import flatbuffers
import msgpack

from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.flatbuffers_writer import Table, write
from simnode.protocol.codec.source import MAX_ITEMS, MAX_TEXT_BYTES

NATIVE, FLATBUFFERS, MSGPACK = Encoding.NATIVE, Encoding.FLATBUFFERS, Encoding.MSGPACK
MEGABYTE = 1_000_000
FOUR_GIB = 1 << 32
KEY = bytes(32)


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def packed(value: Any) -> bytes:
    return msgpack.packb(value)


# ---- messages that are refused -------------------------------------------------------------------

NATIVE_REQUESTS = {
    "nothing": b"",
    "half a tag": b"\1\0",
    "unknown request": u32(7),
    "unknown contract op": u32(1, 4),
    "unknown container": u32(1, 0, 1),
    "unknown update": u32(1, 1) + KEY + KEY + u32(6),
    "unknown delegate message": u32(0, 0) + KEY + KEY + u64(0) + u64(1) + u32(11),
    "unknown lifecycle": u32(0, 0) + KEY + KEY + u64(0) + u64(1) + u32(10, 2),
    "tag of 4 GiB": u32(1, FOUR_GIB - 1),
    "bool of 2": u32(1, 2) + KEY + b"\2\0\0",
    "option of 2": u32(2) + b"\2",
    "text longer than the rest": u32(3) + u64(5) + b"four",
    "text of 4 GiB": u32(3) + u64(FOUR_GIB) + b"four",
    "text of all there could be": u32(3) + u64(2**64 - 1),
    "text over its limit": u32(3) + u64(MAX_TEXT_BYTES + 1) + b"t" * (MAX_TEXT_BYTES + 1),
    "text that is no UTF-8": u32(3) + u64(4) + b"\xc3\x28\xa0\xa1",
    "text with a surrogate": u32(3) + u64(3) + b"\xed\xa0\x80",
    "bytes longer than the rest": u32(1, 3) + KEY + b"\1" + u64(2) + b"1",
    "bytes of 4 GiB": u32(1, 3) + KEY + b"\1" + u64(FOUR_GIB),
    "4 GiB of items": u32(0, 0) + KEY + KEY + u64(0) + u64(FOUR_GIB) + bytes(MEGABYTE),
    "4 GiB of related contracts": u32(1, 0, 0, 0) + u64(0) + KEY + u64(0) + KEY + KEY + u64(0) + u64(FOUR_GIB),
    "a megabyte of items": u32(0, 0) + KEY + KEY + u64(0) + u64(MEGABYTE) + u32(10, 0) * MEGABYTE,
    "items that are nothing but a count": u32(4, 2) + b"\0\0\0" + u64(MEGABYTE) + bytes(MEGABYTE),
    "a chunk longer than it is": u32(6, 0, 0, 1) + u64(FOUR_GIB) + b"data",
}

NATIVE_RESULTS = {
    "unknown result": u32(2),
    "unknown error": u32(1, 14),
    "unknown request error": u32(1, 8, 4),
    "text of 4 GiB": u32(1, 6) + u64(FOUR_GIB),
    "4 GiB of peers": u32(0, 2, 0) + u64(FOUR_GIB) + bytes(MEGABYTE),
    "address of a third kind": u32(0, 2, 0) + u64(1) + u64(0) + u32(2),
    "address cut short": u32(0, 2, 0) + u64(1) + u64(0) + u32(1) + bytes(12),
    "4 GiB of a map": u32(0, 2, 2) + b"\0\0" + u64(0) + u64(FOUR_GIB),
}


def root(tag: int, value: Table) -> bytes:
    """A flatbuffers message: a root with a union."""
    return bytes(write(Table("bo", tag, value)))


def contract_request(tag: int, value: Table) -> bytes:
    return root(1, Table("bo", tag, value))


def text_altered(old: bytes, new: bytes) -> bytes:
    """An Authenticate whose token is altered in the bytes."""
    message = root(4, Table("o", "token"))
    assert old in message
    return message.replace(old, new)


def nested_tables(depth: int) -> Table:
    table = Table("o", b"")
    for _ in range(depth):
        table = Table("o", table)
    return table


FLATBUFFERS_REQUESTS = {
    "nothing": b"",
    "offset alone": u32(4),
    "root outside": u32(400) + bytes(100),
    "root unaligned": u32(6) + bytes(20),
    "root at itself": u32(0) + bytes(20),
    "vtable before the message": u32(4) + u32(400) + bytes(100),
    "vtable after the message": u32(4) + struct.pack("<i", -400) + bytes(100),
    "vtable longer than the message": u32(8) + struct.pack("<HHi", 65534, 8, 4) + bytes(20),
    "vtable of odd length": u32(8) + struct.pack("<HHi", 5, 8, 4) + bytes(20),
    "unknown request": root(99, Table("b", 1)),
    "unknown contract request": contract_request(9, Table("b", 1)),
    "union without a value": bytes(write(Table("b", 1))),
    "union without a tag": bytes(write(Table("-o", Table("b", 1)))),
    "key cut short": contract_request(3, Table("o", Table("o", Table("o", KEY[:31])))),
    "key too long": contract_request(3, Table("o", Table("o", Table("o", KEY + b"!")))),
    "key that is missing": contract_request(3, Table("-b", 1)),
    "text without an end": text_altered(b"token\0", b"token!"),
    "text longer than the rest": text_altered(u32(5) + b"token", u32(500) + b"token"),
    "text of 4 GiB": text_altered(u32(5) + b"token", u32(FOUR_GIB - 1) + b"token"),
    "text that is no UTF-8": text_altered(b"token", b"\xc3\x28\xa0\xa1\xff"),
    "text over its limit": root(4, Table("o", "t" * (MAX_TEXT_BYTES + 1))),
    "tables nested in place of bytes": contract_request(3, Table("o", nested_tables(100))),
    "a chunk without data": root(5, Table("uuu", 1, 2, 3)),
}


def key_table() -> Table:
    return Table("oo", KEY, KEY)


class SharingBuilder(flatbuffers.Builder):
    """The stock builder, which lets one object stand in many places; ours writes each anew."""

    def table(self, *fields: int | tuple[int]) -> int:
        """A table of offsets; a number in a tuple is a union's tag."""
        self.StartObject(len(fields))
        for slot, field in enumerate(fields):
            if isinstance(field, tuple):
                self.PrependUint8Slot(slot, field[0], 0)
            else:
                self.PrependUOffsetTRelativeSlot(slot, field, 0)
        return self.EndObject()

    def bytes(self, data: bytes = b"") -> int:
        return self.CreateByteVector(data)

    def repeated(self, table: int, times: int) -> int:
        """A vector that names one table so many times."""
        self.StartVector(4, times, 4)
        for _ in range(times):
            self.PrependUOffsetTRelative(table)
        return self.EndVector()

    def whole(self, root: int) -> bytes:
        self.Finish(root)
        return bytes(self.Output())


def shared_inbound(times: int) -> bytes:
    """ApplicationMessages that are one and the same, so many times: four bytes each."""
    build = SharingBuilder()
    message = build.table((1,), build.table(build.bytes(), build.bytes()))
    inbound = build.repeated(message, times)
    key = build.table(build.bytes(KEY), build.bytes(KEY))
    return build.whole(build.table((2,), build.table((1,), build.table(key, build.bytes(), inbound))))


def shared_related(times: int) -> bytes:
    """A PUT whose related contracts are one and the same, so many times, with a state of 100 kB."""
    build = SharingBuilder()
    instance = build.table(build.bytes(KEY))
    related = build.table(build.repeated(build.table(instance, build.bytes(bytes(100_000))), times))
    code = build.table(build.bytes(), build.bytes(KEY))
    container = build.table((1,), build.table(code, build.bytes(), build.table(instance)))
    put = build.table(container, build.bytes(), related)
    return build.whole(build.table((1,), build.table((1,), put)))


FLATBUFFERS_REQUESTS |= {
    "a table shared 10,000 times": shared_inbound(10_000),
    "a large vector shared 50 times": shared_related(50),
    "4 GiB of offsets": shared_inbound(7).replace(u32(7), u32(FOUR_GIB - 1)),
}

FLATBUFFERS_RESULTS = {
    "unknown response": root(99, Table("b", 1)),
    "unknown contract response": root(1, Table("bo", 9, Table("b", 1))),
    "a state that is missing": root(1, Table("bo", 1, Table("o", Table("o", Table("o", KEY))))),
    "error that is no UTF-8": root(5, Table("o", "error")).replace(b"error", b"\xff\xff\xff\xff\xff"),
}


def typed(name: str, fields: bytes = b"", count: int = 0) -> bytes:
    """A map with a type and so many more fields, as they stand."""
    assert count < 15
    return bytes([0x81 + count]) + packed("type") + packed(name) + fields


NESTED = b"\x91" * 100_000 + b"\x90"

MSGPACK_REQUESTS = {
    "nothing": b"",
    "no map": packed([1, 2, 3]),
    "nil": packed(None),
    "no type": packed({}),
    "type that is a number": packed({"type": 7}),
    "type twice": b"\x82" + 2 * (packed("type") + packed("Close")),
    "unknown type": packed({"type": "Clothes"}),
    "unknown type of a megabyte": packed({"type": "C" * MEGABYTE}),
    "unknown field": packed({"type": "Close", "why": "not"}),
    "unknown field of a megabyte": packed({"type": "Close", "w" * MEGABYTE: 1}),
    "field that is no text": packed({"type": "Close", 7: 7}),
    "field that is missing": packed({"type": "Authenticate"}),
    "field twice": typed("Authenticate", 2 * (packed("token") + packed("t")), 2),
    "an unused code": typed("Authenticate", packed("token") + b"\xc1", 1),
    "an extension": typed("Authenticate", packed("token") + packed(msgpack.ExtType(5, b"12345678")), 1),
    "bytes for text": packed({"type": "Authenticate", "token": b"t"}),
    "text for bytes": packed({"type": "ContractOp.Subscribe", "key": KEY, "summary": "text"}),
    "id of 31 bytes": packed({"type": "ContractOp.Get", "key": KEY[:31]}),
    "number for bool": packed({"type": "ContractOp.Get", "key": KEY, "subscribe": 1}),
    "negative number": packed({"type": "StreamChunk", "stream_id": -1, "index": 0, "total": 1, "data": b""}),
    "number of 33 bits": packed({"type": "StreamChunk", "stream_id": FOUR_GIB, "index": 0, "total": 1, "data": b""}),
    "more after the end": packed({"type": "Close"}) + b"\0",
    "text longer than the rest": typed("Authenticate", packed("token") + b"\xa5four", 1),
    "text of 4 GiB": typed("Authenticate", packed("token") + b"\xdb\xff\xff\xff\xfffour", 1),
    "text over its limit": packed({"type": "Authenticate", "token": "t" * (MAX_TEXT_BYTES + 1)}),
    "text that is no UTF-8": typed("Authenticate", packed("token") + b"\xa4\xc3\x28\xa0\xa1", 1),
    "bytes of 4 GiB": typed("ContractOp.Subscribe", packed("key") + b"\xc6\xff\xff\xff\xff", 1),
    "map of 4 GiB": b"\xdf\xff\xff\xff\xff" + packed("type") + packed("Close"),
    "map of 65,535": b"\xde\xff\xff" + b"".join(packed(f"{number}") + b"\0" for number in range(65_535)),
    "array of 4 GiB": typed("NodeQueries.NodeDiagnostics", packed("contract_keys") + b"\xdd\xff\xff\xff\xff", 1),
    "array of 4 GiB before the type": b"\x82" + packed("x") + b"\xdd\xff\xff\xff\xff" + bytes(MEGABYTE),
    "nested 100,000 deep": typed("NodeQueries.NodeDiagnostics", packed("contract_keys") + NESTED, 1),
    "nested 100,000 deep before the type": b"\x82" + packed("x") + NESTED + packed("type") + packed("Close"),
    "maps nested 100,000 deep before the type": b"\x82" + packed("x") + b"\x81\xa1x" * 100_000,
    "a megabyte of empty arrays": packed([[]] * MEGABYTE),
    "a megabyte of empty arrays in a field": packed(
        {"type": "NodeQueries.NodeDiagnostics", "contract_keys": [[]] * MEGABYTE}
    ),
    "a megabyte of empty arrays before the type": packed({"x": [[]] * MEGABYTE, "type": "Close"}),
    "as many empty arrays as items are allowed": packed({"x": [[]] * (MAX_ITEMS - 1), "type": "Close"}),
}

DELEGATE_KEY = {"key": KEY, "code_hash": KEY}


def user_input(responses: int) -> bytes:
    question = {"type": "RequestUserInput", "request_id": 1, "message": b"", "responses": [b""] * responses}
    return packed({"type": "DelegateResponse", "key": DELEGATE_KEY, "values": [question]})


MSGPACK_RESULTS = {
    "unknown error": packed({"type": "Err.Clothes"}),
    "a request": packed({"type": "ContractOp.Get", "key": KEY}),
    "half a megabyte of empty answers": user_input(MEGABYTE // 4),
}

REFUSED = {
    (NATIVE, "request"): NATIVE_REQUESTS,
    (NATIVE, "result"): NATIVE_RESULTS,
    (FLATBUFFERS, "request"): FLATBUFFERS_REQUESTS,
    (FLATBUFFERS, "result"): FLATBUFFERS_RESULTS,
    (MSGPACK, "request"): MSGPACK_REQUESTS,
    (MSGPACK, "result"): MSGPACK_RESULTS,
}
"""By encoding and direction (`request`, `result`): messages by what is wrong with them."""


# ---- allowed, and as large as they can get --------------------------------------------------------


def native_inbound(count: int) -> bytes:
    """The most objects for their bytes that a native request can have: 21 bytes each."""
    return u32(0, 0) + KEY + KEY + u64(0) + u64(count) + (u32(0) + u64(0) + u64(0) + b"\0") * count


def native_responses(count: int) -> bytes:
    """The same of a result: 8 bytes each."""
    return u32(0, 1) + KEY + KEY + u64(1) + u32(1, 1) + u64(0) + u64(count) + u64(0) * count


def flatbuffers_inbound(count: int) -> bytes:
    message = Table("bo", 1, Table("oob", b"", b"", 0))
    return root(2, Table("bo", 1, Table("ooo", key_table(), b"", [message] * count)))


def flatbuffers_responses(count: int) -> bytes:
    question = Table("bo", 2, Table("uoo", 1, b"", [Table("o", b"")] * count))
    return root(2, Table("oo", key_table(), [question]))


def msgpack_inbound(count: int) -> bytes:
    message = {"type": "ApplicationMessage", "payload": b"", "context": b"", "processed": False}
    return packed({"type": "ApplicationMessages", "key": DELEGATE_KEY, "params": b"", "inbound": [message] * count})


def msgpack_responses(count: int) -> bytes:
    """With a message of eight bytes for each empty answer, which is what they have to be worth."""
    question = {"type": "RequestUserInput", "request_id": 1, "message": bytes(8 * count), "responses": [b""] * count}
    return packed({"type": "DelegateResponse", "key": DELEGATE_KEY, "values": [question]})


GROWING: list[tuple[Encoding, str, Callable[[int], bytes]]] = [
    (NATIVE, "request", native_inbound),
    (NATIVE, "result", native_responses),
    (FLATBUFFERS, "request", flatbuffers_inbound),
    (FLATBUFFERS, "result", flatbuffers_responses),
    (MSGPACK, "request", msgpack_inbound),
    (MSGPACK, "result", msgpack_responses),
]
"""Messages of so many items, with the least bytes that an item can have."""
