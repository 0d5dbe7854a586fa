import struct

import flatbuffers
import pytest

from simnode.protocol.blob import Blob
from simnode.protocol.codec import flatbuffers_reader
from simnode.protocol.codec.flatbuffers_reader import (
    MAX_DEPTH,
    MAX_SHARED_BYTES,
    MAX_TABLES,
    MIN_TABLE_BYTES,
    SPARE_TABLES,
    read_root,
)
from simnode.protocol.codec.flatbuffers_writer import Table, write
from simnode.protocol.codec.source import MAX_TEXT_BYTES
from simnode.protocol.errors import DecodeError


def built_by_the_stock_builder() -> bytes:
    """A table of every kind of field: u8, u32, bytes, text, table, vector of tables; slot 6 absent."""
    builder = flatbuffers.Builder(256)
    data = builder.CreateByteVector(b"\1\2\3\4\5")
    text = builder.CreateString("données")
    items = []
    for number in (10, 20):
        builder.StartObject(1)
        builder.PrependUint32Slot(0, number, 0)
        items.append(builder.EndObject())
    builder.StartVector(4, 2, 4)
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    tables = builder.EndVector()
    builder.StartObject(7)
    builder.PrependUint8Slot(0, 7, 0)
    builder.PrependUint32Slot(1, 0xFFFFFFFE, 0)
    builder.PrependUOffsetTRelativeSlot(2, data, 0)
    builder.PrependUOffsetTRelativeSlot(3, text, 0)
    builder.PrependUOffsetTRelativeSlot(4, items[0], 0)
    builder.PrependUOffsetTRelativeSlot(5, tables, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def test_every_kind_of_field_is_read_as_the_stock_builder_wrote_it():
    root = read_root(Blob(built_by_the_stock_builder()), "Root")
    assert root.u8(0, "u8") == 7
    assert root.flag(0, "flag") is True
    assert root.u32(1, "u32") == 0xFFFFFFFE
    assert root.blob(2, "blob") == b"\1\2\3\4\5"
    assert root.fixed(2, "fixed", 5) == b"\1\2\3\4\5"
    assert root.text(3, "text") == "données"
    assert root.table(4, "table").u32(0, "number") == 10
    assert [table.u32(0, "number") for table in root.tables(5, "tables")] == [10, 20]


def test_a_blob_is_a_slice_that_remembers_where_it_lives():
    segment = object()
    message = Blob(built_by_the_stock_builder(), origin=segment, start=100)
    blob = read_root(message, "Root").blob(2, "blob")
    assert blob.origin is segment
    assert blob.view.obj is message.view.obj
    assert bytes(message.view[blob.start - 100 : blob.stop - 100]) == b"\1\2\3\4\5"


def test_absent_fields_are_zero_or_none_unless_they_are_required():
    root = read_root(Blob(built_by_the_stock_builder()), "Root")
    for absent in (6, 7):  # inside the vtable, and beyond its end
        assert root.u8(absent, "u8") == 0
        assert root.u32(absent, "u32") == 0
        assert root.flag(absent, "flag") is False
        assert root.optional_blob(absent, "blob") is None
        assert root.optional_text(absent, "text") is None
        assert root.optional_table(absent, "table") is None
        assert root.tables(absent, "tables") == []
        for required in (root.blob, root.text, root.table, root.required_tables):
            with pytest.raises(DecodeError, match=r"^Root\.field is missing$"):
                required(absent, "Root.field")


def test_a_union_needs_its_tag_and_its_value():
    assert read_root(Blob(bytes(write(Table("bo", 3, Table("u", 9))))), "Root").union(0, "union")[0] == 3
    for half in (Table("b-", 3), Table("-o", Table("u", 9))):
        with pytest.raises(DecodeError, match="union is missing"):
            read_root(Blob(bytes(write(half))), "Root").union(0, "union")


def test_a_fixed_field_of_another_length_is_refused_in_the_references_words():
    root = read_root(Blob(built_by_the_stock_builder()), "Root")
    with pytest.raises(DecodeError, match=r"^Key\.data must be exactly 32 bytes; got 5 bytes$"):
        root.fixed(2, "Key.data", 32)


def raw_table(
    *,
    root: int = 12,
    vtable_bytes: int = 8,
    slots: tuple[int, int] = (4, 8),
    soffset: int = 8,
    fields: bytes = bytes(8),
) -> Blob:
    """A message of one table with two slots of four bytes: root 0, vtable 4, table 12, fields 16 and 20, then 24."""
    return Blob(struct.pack("<I4Hi", root, vtable_bytes, 12, *slots, soffset) + fields)


def to(offset: int, tail: bytes = b"") -> bytes:
    """The fields of a `raw_table` whose first leads `offset` bytes on from 16, and what follows them."""
    return struct.pack("<II", offset, 0) + tail


@pytest.mark.parametrize(
    "message",
    [
        Blob(b""),
        Blob(b"\4\0\0"),
        raw_table(root=13),
        raw_table(root=24),
        raw_table(root=0xFFFFFFFC),
        raw_table(soffset=16),
        raw_table(soffset=7),
        raw_table(soffset=-12),
        raw_table(soffset=-(2**31)),
        raw_table(vtable_bytes=7),
        raw_table(vtable_bytes=26),
        raw_table(vtable_bytes=0xFFFE),
    ],
    ids=[
        "empty",
        "three-bytes",
        "root-unaligned",
        "root-at-the-end",
        "root-far-away",
        "vtable-before-the-start",
        "vtable-unaligned",
        "vtable-at-the-end",
        "vtable-far-away",
        "vtable-odd",
        "vtable-too-long",
        "vtable-of-64-kib",
    ],
)
def test_a_root_that_is_no_table_is_refused(message):
    with pytest.raises(DecodeError):
        read_root(message, "Root")


@pytest.mark.parametrize(
    "message",
    [
        raw_table(vtable_bytes=0),
        raw_table(vtable_bytes=2),
        raw_table(vtable_bytes=4),
        Blob(struct.pack("<IiH", 4, -4, 2)),
    ],
    ids=["nothing", "its-length", "both-lengths", "at-the-end"],
)
def test_a_vtable_without_slots_means_that_nothing_is_there(message):
    assert read_root(message, "Root").u32(0, "u32") == 0


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (raw_table(slots=(6, 8)), "u32 at 18 is unaligned"),
        (raw_table(slots=(12, 8)), "u32 at 24 is unaligned or outside"),
        (raw_table(slots=(0xFFFC, 8)), "outside"),
    ],
    ids=["unaligned", "outside", "far-away"],
)
def test_a_number_that_is_not_there_is_refused(message, text):
    with pytest.raises(DecodeError, match=text):
        read_root(message, "Root").u32(0, "number")


def test_a_byte_outside_the_message_is_refused():
    with pytest.raises(DecodeError, match="byte at 24 is outside"):
        read_root(raw_table(slots=(12, 8)), "Root").u8(0, "tag")


@pytest.mark.parametrize(
    "message",
    [
        raw_table(slots=(12, 8)),
        raw_table(slots=(6, 8)),
        raw_table(fields=to(8)),
        raw_table(fields=to(9, bytes(8))),
        raw_table(fields=to(0xFFFFFFFF)),
        raw_table(fields=to(8, struct.pack("<I", 5) + b"four")),
        raw_table(fields=to(8, struct.pack("<I", 0xFFFFFFFF) + b"four")),
    ],
    ids=[
        "offset-outside",
        "offset-unaligned",
        "leads-to-the-end",
        "leads-to-the-unaligned",
        "leads-far-away",
        "a-byte-too-long",
        "4-gib",
    ],
)
@pytest.mark.parametrize("read", ["blob", "text", "tables", "table"])
def test_what_an_offset_leads_to_must_be_there(message, read):
    with pytest.raises(DecodeError):
        getattr(read_root(message, "Root"), read)(0, "field")


@pytest.mark.parametrize(
    ("tail", "text"),
    [
        (b"\4\0\0\0text", "no terminator"),
        (b"\4\0\0\0text!", "no terminator"),
        (b"\2\0\0\0\xff\xfe\0", "not valid utf8"),
        (struct.pack("<I", MAX_TEXT_BYTES + 1) + bytes(MAX_TEXT_BYTES + 2), "maximum is"),
    ],
    ids=["at-the-end", "no-nul", "utf-8", "long"],
)
def test_a_text_that_is_none_is_refused(tail, text):
    with pytest.raises(DecodeError, match=text):
        read_root(raw_table(fields=to(8, tail)), "Root").text(0, "field")


def nested(depth: int) -> Blob:
    table = Table("u", 1)
    for _ in range(depth - 1):
        table = Table("o", table)
    return Blob(bytes(write(table)))


def test_tables_nest_only_so_deep():
    table = read_root(nested(MAX_DEPTH), "Root")
    for _ in range(MAX_DEPTH - 1):
        table = table.table(0, "inner")
    assert table.u32(0, "leaf") == 1
    table = read_root(nested(MAX_DEPTH + 1), "Root")
    for _ in range(MAX_DEPTH - 1):
        table = table.table(0, "inner")
    with pytest.raises(DecodeError, match="nested more than"):
        table.table(0, "inner")


def repeated(count: int, padding: int = 0) -> Blob:
    """`raw_table` with a vector of `count` offsets, all to the same empty table right after it."""
    elements = b"".join(struct.pack("<I", 4 * (count - index) + 4) for index in range(count))
    empty = struct.pack("<HHi", 4, 4, 4)
    return raw_table(fields=to(8, struct.pack("<I", count) + elements + empty + bytes(padding)))


def read_repeated(count: int, padding: int = 0) -> int:
    return len(read_root(repeated(count, padding), "Root").tables(0, "items"))


def test_one_table_referenced_too_often_for_the_length_of_its_message_is_refused_before_it_is_read():
    """A third of the bytes of `repeated` would do for tables of their own."""
    assert read_repeated(SPARE_TABLES) == SPARE_TABLES
    with pytest.raises(DecodeError, match="more tables than a message of this length"):
        read_repeated(2 * SPARE_TABLES)
    assert read_repeated(2 * SPARE_TABLES, padding=MIN_TABLE_BYTES * SPARE_TABLES) == 2 * SPARE_TABLES


def test_tables_are_capped_however_long_the_message_is():
    padding = MIN_TABLE_BYTES * MAX_TABLES
    assert read_repeated(MAX_TABLES - 1, padding) == MAX_TABLES - 1
    with pytest.raises(DecodeError, match="more tables"):
        read_repeated(MAX_TABLES, padding)


def test_tables_are_counted_over_the_whole_message(monkeypatch):
    monkeypatch.setattr(flatbuffers_reader, "MAX_TABLES", 4)
    root = read_root(repeated(2), "Root")
    root.tables(0, "items")
    root.optional_table(1, "absent")
    with pytest.raises(DecodeError, match="more tables"):
        root.tables(0, "items")
    fourth = read_root(nested(5), "Root").table(0, "second").table(0, "third").table(0, "fourth")
    with pytest.raises(DecodeError, match="more tables"):
        fourth.table(0, "fifth")


def test_a_large_vector_referenced_twice_is_refused_and_a_small_one_is_not():
    def shared(nbytes: int) -> Blob:
        vector = struct.pack("<I", nbytes) + bytes(nbytes)
        return raw_table(fields=struct.pack("<II", 8, 4) + vector)

    small = read_root(shared(MAX_SHARED_BYTES), "Root")
    assert small.blob(0, "first") == small.blob(1, "second")
    large = read_root(shared(MAX_SHARED_BYTES + 64), "Root")
    large.blob(0, "first")
    with pytest.raises(DecodeError, match="more bytes than the message has"):
        large.blob(1, "second")
