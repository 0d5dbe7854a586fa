"""The benchmark's statistics: `tests/bench/measure.py`, `tests/bench/drivers/wire.py`."""

from __future__ import annotations

import os

import pytest
from websockets.frames import Frame, Opcode

from tests.bench.drivers.wire import MessageCounter, NodeFailed
from tests.bench.measure import AnonymousPeak, CpuUse, anonymous_bytes, cpu_seconds, median, others_share


def test_the_median_of_an_even_number_lies_between_the_middle_two() -> None:
    assert median([9.0, 1.0, 2.0, 4.0]) == 3.0


def test_what_others_used_is_what_the_machine_did_less_what_is_ours() -> None:
    before = CpuUse(wall_s=100.0, machine_s=50.0, ours_s=10.0)
    after = CpuUse(wall_s=102.0, machine_s=53.0, ours_s=12.0)
    assert others_share(before, after, cores=2) == pytest.approx(0.25)


def test_a_tick_too_many_of_ours_is_no_negative_share() -> None:
    before = CpuUse(wall_s=0.0, machine_s=0.0, ours_s=0.0)
    after = CpuUse(wall_s=1.0, machine_s=1.0, ours_s=1.01)
    assert others_share(before, after, cores=2) == 0.0


def test_this_process_has_used_some_cpu_and_one_that_is_gone_none() -> None:
    unused_pid = 2**22 + 1  # above the kernel's highest
    assert cpu_seconds([os.getpid()]) > 0.0
    assert cpu_seconds([unused_pid]) == 0.0
    assert anonymous_bytes([unused_pid]) == 0


def test_memory_that_was_given_back_still_counts_in_the_peak() -> None:
    nbytes = 64 << 20
    with AnonymousPeak([os.getpid()]) as peak:
        block: bytes | None = b"x" * nbytes
        while peak.peak_bytes - peak.idle_bytes < nbytes * 0.9:
            assert block is not None  # the sampling thread sees it sooner or later
        block = None
    assert peak.peak_bytes - peak.idle_bytes >= nbytes * 0.9
    assert peak.samples_per_s > 0.0


def fragmented(payload: bytes, size: int) -> bytes:
    """One message as a server sends it in fragments."""
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    frames = [
        Frame(Opcode.CONT if number else Opcode.BINARY, piece, fin=number == len(pieces) - 1).serialize(mask=False)
        for number, piece in enumerate(pieces)
    ]
    return b"".join(frames)


SENT = (
    Frame(Opcode.BINARY, b"a" * 125).serialize(mask=False)
    + Frame(Opcode.PING, b"").serialize(mask=False)
    + Frame(Opcode.BINARY, b"").serialize(mask=False)
    + fragmented(b"b" * 1000, 400)
    + Frame(Opcode.BINARY, b"c" * 70_000).serialize(mask=False)
)


@pytest.mark.parametrize("size", [1, 2, 3, 9, 10, 127, len(SENT)])
def test_messages_are_found_however_the_bytes_arrive(size: int) -> None:
    kept: list[bytearray] = []
    counter = MessageCounter(kept=kept)
    for at in range(0, len(SENT), size):
        counter.feed(memoryview(SENT)[at : at + size])
    assert counter.messages == 4
    assert kept == [b"a" * 125, b"", b"b" * 1000, b"c" * 70_000]


def test_a_close_is_the_nodes_failure() -> None:
    with pytest.raises(NodeFailed, match="closed"):
        MessageCounter().feed(memoryview(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)))
