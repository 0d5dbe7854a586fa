"""What a decoder may spend on n bytes. Enters: a call. Leaves: its memory and its steps, counted.

Neither is a wall-clock time, so the bounds hold on any machine and can be tight.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

BYTES_PER_BYTE = 40
"""A decoder's peak memory is at most so many bytes for each byte of its input (an empty byte string
takes 8 bytes in native encoding, and as an object in a tuple 290), and besides …"""

SPARE_BYTES = 320 * 1024
"""… this: for texts of errors, and for the few tiny objects that any message may have."""

CALLS_PER_BYTE = 3
"""Python functions called for each byte of the input (C's are not counted: a fuzzer's instrumentation
is made of them), and besides …"""

SPARE_CALLS = 2_000
"""… this."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call took, at its peak and over all, and what came out: a value or an exception."""

    nbytes: int
    calls: int
    outcome: object

    def is_within(self, input_bytes: int) -> bool:
        """Whether it is a small multiple of the input's length, and no more."""
        return (
            self.nbytes <= BYTES_PER_BYTE * input_bytes + SPARE_BYTES
            and self.calls <= CALLS_PER_BYTE * input_bytes + SPARE_CALLS
        )


def cost_of(decode: Callable[[], Any], refusal: type[Exception]) -> Cost:
    """Decodes twice: for the memory, and for the number of calls.

    Args:
        decode: gives the same every time.
        refusal: the exception that is an outcome; any other escapes.
    """
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        outcome = _outcome(decode, refusal)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        _outcome(decode, refusal)
    finally:
        sys.setprofile(None)
    return Cost(peak - before, calls, outcome)


def _outcome(decode: Callable[[], Any], refusal: type[Exception]) -> object:
    try:
        return decode()
    except refusal as error:
        return error.with_traceback(None)
