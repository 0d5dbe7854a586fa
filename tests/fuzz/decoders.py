"""What must hold for any bytes given to a decoder. Enters: bytes. Leaves: nothing, or an exception that is a finding.

- Only `DecodeError` escapes.
- What was understood can be said again, and is then understood as the same.
- It costs a small multiple of the bytes (`costs.py`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.errors import DecodeError, EncodeError
from tests.fuzz.costs import cost_of

COSTED = 64
"""One input in so many is costed while fuzzing, because that takes as long as twenty others; chosen
by its checksum, so that a finding is found again."""


class TooDear(AssertionError):
    """A decoder spent more than its input was worth."""


class SaidOtherwise(AssertionError):
    """What was decoded, encoded and decoded again is not the same."""


def check_decoder(encoding: Encoding, direction: str, message: bytes, *, always_costed: bool = False) -> None:
    """Whatever `message` is, it is decoded or refused, at a bounded cost.

    Args:
        encoding: of which codec.
        direction: `request` or `result`.
        message: any bytes.
        always_costed: whether to count the cost of this input in any case.
    """
    codec = codec_for(encoding)
    decode: Callable[[Blob], object] = getattr(codec, f"decode_{direction}")
    encode: Callable[[object], Rope] = getattr(codec, f"encode_{direction}")
    if always_costed or zlib.crc32(message) % COSTED == 0:
        cost = cost_of(lambda: decode(Blob(message)), DecodeError)
        if not cost.is_within(len(message)):
            raise TooDear(f"{len(message)} bytes took {cost.nbytes} bytes and {cost.calls} calls")
    try:
        value = decode(Blob(message))
    except DecodeError as error:
        str(error).encode()  # it is sent to the peer
        return
    try:
        said = bytes(encode(value))
    except EncodeError:
        return  # what only a peer can say: a flatbuffers result with a delegate's kind we leave out
    if bytes(encode(decode(Blob(said)))) != said:
        raise SaidOtherwise(f"{value!r}")
