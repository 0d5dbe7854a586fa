"""Who broke which rule. Next: `limits.py`.

ProtocolError
├── LocalProtocolError      our own caller misused the core: a bug, never answered
├── SinkFailed              room for a message takes no bytes: the machine's fault; the message is refused
├── EncodeError             a message that this encoding cannot express: a client's caller is told, a server answers
└── RemoteProtocolError     the peer broke the rules: answered, never fatal to the connection
    ├── DecodeError         a message that is none
    └── ReassemblyError     a chunk that does not fit (see `reassembly.py` for its kinds)
"""

from __future__ import annotations

from enum import Enum


class ProtocolError(Exception):
    """Root of everything the protocol core raises."""


class LocalProtocolError(ProtocolError):
    """The core was called in a way its contract forbids (the calling shell's fault)."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol forbids (the peer's fault)."""


class DecodeError(RemoteProtocolError):
    """A message that cannot be decoded; the text is fit to be sent to the peer."""


class SinkFailed(ProtocolError):
    """A sink could not be written; the text is fit to be sent to the peer."""


class EncodeError(ProtocolError):
    """A message that the connection's encoding has no way to express."""


class ReassemblyErrorKind(Enum):
    """Why a chunk or a stream was refused; the values are the metric's label values."""

    ZERO_TOTAL = "zero_total"
    TOTAL_TOO_LARGE = "total_too_large"
    INDEX_OUT_OF_RANGE = "index_out_of_range"
    TOO_MANY_STREAMS = "too_many_streams"
    TOTAL_MISMATCH = "total_mismatch"
    DUPLICATE_INDEX = "duplicate_index"
    CHUNK_TOO_LARGE = "chunk_too_large"
    STREAM_TOO_LARGE = "stream_too_large"
    OUT_OF_BUDGET = "out_of_budget"
    EXPIRED = "expired"
    NESTED = "nested"
    SINK_FAILED = "sink_failed"


class ReassemblyError(RemoteProtocolError):
    """A chunk that does not fit. Its text is the reference's where the reference has one.

    Args:
        kind: which rule.
        text: what the peer is told, after `stream reassembly error: `.
        stream_id: the stream it was meant for.
        kills_stream: whether the stream is gone; its late chunks are then dropped silently.
    """

    def __init__(self, kind: ReassemblyErrorKind, text: str, *, stream_id: int, kills_stream: bool) -> None:
        super().__init__(text)
        self.kind = kind
        self.stream_id = stream_id
        self.kills_stream = kills_stream
