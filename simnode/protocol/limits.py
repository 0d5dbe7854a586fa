"""The numbers both ends agree on. Enters: nothing. Leaves: constants. Next: `blob.py`.

Source of every streaming figure: `client_api/streaming.rs` of the crate freenet-stdlib 0.12.1,
or, where marked *ours*, a limit that the reference does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB

CHUNK_SIZE = 256 * KIB
"""Bytes of payload in each StreamChunk; the last may be shorter."""

CHUNK_THRESHOLD = 512 * KIB
"""A serialized message longer than this many bytes is chunked, whatever its variant."""

MAX_TOTAL_CHUNKS = 256
"""Chunks in one stream (64 MiB of payload at `CHUNK_SIZE`)."""

MAX_CONCURRENT_STREAMS = 8
"""Incomplete streams a connection may have, in each direction."""

MAX_CHUNKS_PER_BATCH = 64
"""After so many chunks at the latest, the other traffic of the connection goes first."""

STREAM_TTL_S = 60.0
"""A stream expires this long after its last chunk (*ours*: the reference counts from the first)."""

MAX_STATE_SIZE = 50 * MIB
"""Bytes of a contract's state, and (*ours*) of its code."""

MAX_MESSAGE_SIZE = 100 * MIB
"""Bytes of one WebSocket message that a node accepts; beyond it the connection closes with 1009."""

MAX_RESPONSE_SIZE = MAX_TOTAL_CHUNKS * CHUNK_SIZE
"""Bytes of one serialized response (*ours*): what 256 chunks hold, and the Rust client's limit."""

MAX_CHUNK_DATA_SIZE = MIB
"""Bytes of data in one received StreamChunk (*ours*)."""

MAX_ABORTED_STREAMS_REMEMBERED = 64
"""Ids of killed streams whose late chunks are dropped silently (*ours*)."""

WHOLE_MESSAGE_SIZE = CHUNK_THRESHOLD + 64 * KIB
"""A WebSocket message up to this many bytes is handled in one piece in the heap (*ours*): every
unchunked message of a conforming client and every chunk with its envelope fit."""

STREAM_ID_MODULUS = 1 << 32
"""Stream ids are u32 and wrap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may use. The defaults are the protocol's; tests and scenarios narrow them."""

    max_message_bytes: int = MAX_MESSAGE_SIZE
    max_chunk_data_bytes: int = MAX_CHUNK_DATA_SIZE
    max_concurrent_streams: int = MAX_CONCURRENT_STREAMS
    stream_ttl_s: float = STREAM_TTL_S
    max_connection_bytes: int = 256 * MIB
    """Bytes that the incomplete streams of one connection may reserve together (*ours*)."""
