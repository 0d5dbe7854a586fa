import array
from unittest.mock import ANY

import pytest

from simnode.protocol.blob import COMPARED_AT_ONCE_BYTES, Blob, Rope, same_bytes


class Segment:
    """Stands for whatever owns the bytes."""

    def __repr__(self) -> str:
        return "segment 7"


# ---- Blob --------------------------------------------------------------------------------------


def test_an_empty_blob_has_no_bytes():
    assert len(Blob()) == 0
    assert bytes(Blob()) == b""


@pytest.mark.parametrize("buffer", [b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(bytearray(b"abc"))])
def test_a_blob_is_made_from_any_buffer_and_is_read_only(buffer):
    blob = Blob(buffer)
    assert bytes(blob) == b"abc"
    assert blob.view.readonly
    with pytest.raises(TypeError):
        blob.view[0] = 0


def test_a_blob_copies_nothing():
    room = bytearray(b"abc")
    blob = Blob(room)
    room[0] = ord("x")
    assert bytes(blob) == b"xbc"


@pytest.mark.parametrize(
    "buffer",
    [memoryview(array.array("H", [1, 2])), memoryview(b"abcd").cast("b"), memoryview(b"abcd").cast("B", (2, 2))],
    ids=["two-byte items", "signed bytes", "two dimensions"],
)
def test_any_memoryview_becomes_plain_bytes_so_that_lengths_are_bytes(buffer):
    blob = Blob(buffer)
    assert len(blob) == 4
    assert (blob.view.format, blob.view.ndim) == ("B", 1)
    assert bytes(blob) == buffer.tobytes()


def test_of_takes_a_blob_as_it_is_and_wraps_a_buffer():
    blob = Blob(b"abc")
    assert Blob.of(blob) is blob
    assert Blob.of(b"abc") == blob


def test_a_slice_remembers_where_its_bytes_live():
    segment = Segment()
    blob = Blob(b"0123456789", origin=segment, start=100)
    assert (blob.start, blob.stop) == (100, 110)
    inner = blob.slice(2, 8).slice(1, 4)
    assert bytes(inner) == b"345"
    assert (inner.origin, inner.start, inner.stop) == (segment, 103, 106)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (3, 3), (0, 3)])
def test_a_slice_may_touch_the_ends(start, stop):
    assert bytes(Blob(b"abc").slice(start, stop)) == b"abc"[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 4), (4, 4)])
def test_a_slice_outside_the_blob_is_an_error_and_not_clamped(start, stop):
    with pytest.raises(IndexError, match="outside a Blob of 3 bytes"):
        Blob(b"abc").slice(start, stop)


def test_blobs_are_equal_when_their_bytes_are_wherever_they_live():
    assert Blob(b"abc", origin=Segment(), start=5) == Blob(bytearray(b"abc"))
    assert Blob(b"abc") != Blob(b"abd")
    assert Blob(b"abc") != Blob(b"ab")
    assert Blob() != Blob(b"a")


def test_a_blob_equals_a_buffer_of_its_bytes_and_nothing_else():
    blob = Blob(b"abc")
    assert blob == Blob(blob.view)
    assert blob == b"abc"
    assert blob == bytearray(b"abc")
    assert blob == memoryview(b"abc")
    assert blob != b"abd"
    assert blob != "abc"
    assert blob == ANY, "the other side may know better"


def test_equal_blobs_and_bytes_have_one_hash():
    assert hash(Blob(bytearray(b"abc"))) == hash(Blob(b"abc")) == hash(b"abc")


def test_the_text_of_a_blob_shows_its_length_its_beginning_and_its_place():
    assert repr(Blob(b"\x01\x02")) == "<Blob 2 bytes 0102>"
    assert repr(Blob(bytes(17))) == f"<Blob 17 bytes {'00' * 16}…>"
    assert repr(Blob(bytes(16), origin=Segment(), start=9)) == f"<Blob 16 bytes {'00' * 16} at 9 of segment 7>"


@pytest.mark.parametrize("nbytes", [COMPARED_AT_ONCE_BYTES - 1, COMPARED_AT_ONCE_BYTES, COMPARED_AT_ONCE_BYTES + 1])
def test_long_views_are_compared_to_their_last_byte(nbytes):
    left, right = bytearray(nbytes), bytearray(nbytes)
    assert same_bytes(memoryview(left), memoryview(right))
    right[-1] = 1
    assert not same_bytes(memoryview(left), memoryview(right))


# ---- Rope --------------------------------------------------------------------------------------


def test_a_rope_joins_its_parts_only_when_asked():
    state = bytearray(b"state")
    rope = Rope([b"head", Blob(state), memoryview(b"tail")])
    assert len(rope) == rope.nbytes == 13
    state[:] = b"STATE"
    assert bytes(rope) == b"headSTATEtail"


def test_a_rope_drops_empty_parts():
    assert Rope([b"", b"a", Blob(), memoryview(b"")]).parts == [b"a"]
    assert len(Rope()) == 0
    assert bytes(Rope()) == b""


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(
    "parts",
    [[b"0123456789"], [b"01", b"23456", b"7", b"89"], [b"01234", b"56789"], [bytes([i]) for i in b"0123456789"]],
    ids=["one", "uneven", "halves", "single bytes"],
)
def test_cutting_gives_pieces_of_the_size_asked_for_whatever_the_parts(parts, size):
    pieces = [bytes(piece) for piece in Rope(parts).cut(size)]
    assert pieces == [b"0123456789"[at : at + size] for at in range(0, 10, size)]


def test_cutting_an_empty_rope_gives_one_empty_piece():
    assert [bytes(piece) for piece in Rope().cut(4)] == [b""]


def test_cutting_copies_nothing():
    state = bytearray(b"abcdef")
    (first, second) = Rope([state]).cut(3)
    state[:] = b"ABCDEF"
    assert (bytes(first), bytes(second)) == (b"ABC", b"DEF")


def test_pieces_are_cut_when_they_are_asked_for():
    pieces = Rope([b"abcdef"]).cut(2)
    assert bytes(next(pieces)) == b"ab"
    assert bytes(next(pieces)) == b"cd"


def test_the_text_of_a_rope_shows_its_length_and_its_parts():
    assert repr(Rope([b"ab", b"c"])) == "<Rope 3 bytes in 2 parts>"
