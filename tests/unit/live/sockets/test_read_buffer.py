"""ReadBuffer: what was read and not taken is there again, and a buffer that nobody needs goes."""

from __future__ import annotations

import pytest

from simnode.live.sockets.read_buffer import COPIED_REST_BYTES, ReadBuffer
from tests.support.vectors import counting_bytes


@pytest.fixture
def scratch() -> memoryview:
    return memoryview(bytearray(100_000))


@pytest.mark.parametrize("nbytes", [1, COPIED_REST_BYTES, COPIED_REST_BYTES + 1, 50_000])
def test_what_was_kept_survives_another_connections_read(scratch: memoryview, nbytes: int) -> None:
    buffer = ReadBuffer(scratch)
    data = counting_bytes(nbytes)
    scratch[10 : 10 + nbytes] = data
    buffer.keep(scratch, 10, 10 + nbytes, wanted=60_000)
    scratch[:] = bytes(len(scratch))
    assert bytes(buffer.with_kept()[: buffer.kept_bytes]) == data


def test_long_rest_is_read_to_its_end_and_no_further(scratch: memoryview) -> None:
    buffer = ReadBuffer(scratch)
    buffer.keep(scratch, 0, 50_000, wanted=90_000)
    assert len(buffer.with_kept()) == 90_000
    buffer.keep(scratch, 0, 5_000, wanted=6_000)
    assert len(buffer.with_kept()) == 6_000, "also in a buffer that was longer"


def test_short_rest_leaves_the_scratch_for_many_frames(scratch: memoryview) -> None:
    buffer = ReadBuffer(scratch)
    buffer.keep(scratch, 0, 100, wanted=200)
    assert buffer.with_kept() is scratch


def test_rest_that_lies_in_the_buffer_already_is_moved_to_its_front(scratch: memoryview) -> None:
    buffer = ReadBuffer(scratch)
    data = counting_bytes(60_000)
    scratch[:60_000] = data
    buffer.keep(scratch, 0, 60_000, wanted=60_000)
    view = buffer.with_kept()
    buffer.keep(view, 1_000, 60_000, wanted=59_500)
    assert bytes(buffer.kept[: buffer.kept_bytes]) == data[1_000:]
    buffer.keep(buffer.with_kept(), 0, 59_000, wanted=80_000)
    assert bytes(buffer.kept[: buffer.kept_bytes]) == data[1_000:], "and into a longer one"


def test_buffer_stays_while_it_is_needed_and_goes_afterwards(scratch: memoryview) -> None:
    buffer = ReadBuffer(scratch)
    buffer.keep(scratch, 0, 50_000, wanted=60_000)
    buffer.shrink()
    buffer.shrink()
    assert len(buffer.kept) == 60_000, "it holds something"
    buffer.kept_bytes = 0
    kept = buffer.kept.obj
    buffer.keep(scratch, 0, 50_000, wanted=60_000)
    assert buffer.kept.obj is kept, "no other was made"
    buffer.kept_bytes = 0
    buffer.shrink()
    assert buffer.kept.obj is kept, "it was needed a moment ago"
    buffer.shrink()
    assert len(buffer.kept) == 0


def test_buffer_of_a_connection_that_is_over_goes_at_once(scratch: memoryview) -> None:
    buffer = ReadBuffer(scratch)
    buffer.keep(scratch, 0, 50_000, wanted=60_000)
    buffer.clear()
    assert (buffer.kept_bytes, len(buffer.kept)) == (0, 0)
