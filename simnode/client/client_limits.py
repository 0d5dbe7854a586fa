"""What a client lets a node use of its memory. Enters: the protocol's figures. Leaves: `Limits`. Next: `session.py`.

They are the client's own, not the defaults of `Limits`, which are a node's: a node guards itself
against strangers, a client has asked for what comes. So it takes all that protocol.md §2 lets a node
send at a time, 8 answers of 64 MiB, and no more.
"""

from __future__ import annotations

from simnode.protocol.limits import (
    MAX_CHUNK_DATA_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_RESPONSE_SIZE,
    STREAM_TTL_S,
    Limits,
)

CLIENT_LIMITS = Limits(
    # the longest answer that a node sends, chunked or whole
    max_message_bytes=MAX_RESPONSE_SIZE,
    # four times what nodes send
    max_chunk_data_bytes=MAX_CHUNK_DATA_SIZE,
    max_concurrent_streams=MAX_CONCURRENT_STREAMS,
    # for a stream that no request waits for longer: the session grants what `timeout_s` does
    stream_ttl_s=STREAM_TTL_S,
    # never what refuses a stream: the two limits above do
    max_connection_bytes=MAX_CONCURRENT_STREAMS * MAX_RESPONSE_SIZE,
)
