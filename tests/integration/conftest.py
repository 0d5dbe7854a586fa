"""Two nodes for all tests of the live node: one as it is by default, one with short times and low limits.

Tests share them, so each test uses contracts of its own (`unique`) and leaves no connection behind.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.support.live_node import LiveNode, live_node

STREAM_TTL_S = 1.0
MAX_MESSAGE_BYTES = 8 * 1024 * 1024
TOKEN = "right"


@pytest.fixture(scope="session")
def node() -> Iterator[LiveNode]:
    """A node with the default settings."""
    with live_node() as running:
        yield running


@pytest.fixture(scope="session")
def strict_node() -> Iterator[LiveNode]:
    """A node that wants a token, and where every limit is near.

    8 MiB a message, streams of a second, 3 subscriptions a client, 2 subscribers a contract, room
    for 24 MiB in flight and 32 MiB at rest, 2 handlers with 10 connections each.
    """
    with live_node(
        tokens=[TOKEN],
        limits={"stream_ttl_s": STREAM_TTL_S, "max_message_bytes": MAX_MESSAGE_BYTES},
        caps={"per_client": 3, "per_contract": 2},
        memory_budget_bytes=24 * 1024 * 1024,
        address_share=1.0,
        store_limit_bytes=32 * 1024 * 1024,
        handlers=2,
        connections_per_handler=10,
    ) as running:
        yield running


@pytest.fixture
def strict_url(strict_node: LiveNode) -> str:
    """Of the strict node, with the token."""
    return f"{strict_node.url}?authToken={TOKEN}"


_numbers = itertools.count()


@pytest.fixture
def unique() -> Callable[[], bytes]:
    """Contract parameters that no other test uses, so that its contracts are its own."""
    return lambda: b"test-%d" % next(_numbers)
