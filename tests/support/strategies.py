"""Hypothesis strategies for every message, derived from the schema that the codecs follow.

Maps have distinct keys and addresses are in canonical form, so that what is encoded is exactly
what must be decoded.
"""

from __future__ import annotations

import string
from ipaddress import IPv6Address
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from simnode.protocol.blob import Blob
from simnode.protocol.codec import schema
from simnode.protocol.messages.requests import ClientRequest, StreamChunk
from simnode.protocol.messages.responses import HostResult
from simnode.protocol.messages.wire import Fixed, Float, SocketAddress, Unsigned

MAX_ITEMS = 3


def requests() -> SearchStrategy[ClientRequest]:
    """Any request, StreamChunks included."""
    return values(schema.CLIENT_REQUEST)


def results() -> SearchStrategy[HostResult]:
    """Any result, errors, StreamChunks and StreamHeaders included."""
    return values(schema.HOST_RESULT)


def stream_chunks() -> SearchStrategy[StreamChunk]:
    """Any StreamChunk, well-formed or not for reassembly."""
    (record,) = (record for _, record in schema.CLIENT_REQUEST.leaves() if record.cls is StreamChunk)
    return values(record)


def blobs() -> SearchStrategy[Blob]:
    """Blobs on both sides of the size from which an encoder no longer copies them."""
    return st.one_of(st.binary(max_size=40), st.integers(2040, 2060).map(bytes)).map(Blob)


def addresses() -> SearchStrategy[str]:
    """`127.0.0.1:7509`, `[::1]:7509`."""
    ports = st.integers(0, 65535)
    v4 = st.builds("{}:{}".format, st.ip_addresses(v=4), ports)
    v6 = st.builds("[{}]:{}".format, st.binary(min_size=16, max_size=16).map(IPv6Address), ports)
    return v4 | v6


def texts() -> SearchStrategy[str]:
    """Text of any characters that UTF-8 has."""
    return st.text(max_size=12) | st.text(string.ascii_letters, max_size=12)


def values(shape: schema.Shape) -> SearchStrategy[Any]:
    """Any value of `shape`."""
    match shape:
        case Unsigned(bits):
            return st.integers(0, 2**bits - 1)
        case Float():
            return st.floats(width=32, allow_nan=False)
        case Fixed(nbytes):
            return st.binary(min_size=nbytes, max_size=nbytes)
        case SocketAddress():
            return addresses()
        case schema.Boolean():
            return st.booleans()
        case schema.Text():
            return texts()
        case schema.Bytes():
            return blobs()
        case schema.Outcome():
            return st.none() | texts()
        case schema.Option(item):
            return st.none() | values(item)
        case schema.Product(items):
            return st.tuples(*map(values, items))
        case schema.Sequence(item):
            return st.lists(values(item), max_size=MAX_ITEMS).map(tuple)
        case schema.Pairs(item):
            return st.lists(values(item), max_size=MAX_ITEMS, unique_by=lambda pair: pair[0]).map(tuple)
        case schema.Record(cls, fields):
            return st.builds(cls, **{name: values(field) for name, field in fields})
        case schema.Choice(variants):
            return st.one_of([values(variant) for _, variant in variants])
