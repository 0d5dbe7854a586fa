"""A connection to each of the shared nodes in each mode: three encodings, streaming on and off."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.live_node import LiveNode
from tests.support.modes import MODES, STRICT_TOKEN, ModeConnection, open_connection


@pytest.fixture(params=MODES, ids=str)
async def connection(request: pytest.FixtureRequest, node: LiveNode) -> AsyncIterator[ModeConnection]:
    """To the node with the default settings; a test that uses it runs once in each mode."""
    async with open_connection(node.url, request.param) as connection:
        yield connection


@pytest.fixture(params=MODES, ids=str)
async def strict_connection(request: pytest.FixtureRequest, strict_node: LiveNode) -> AsyncIterator[ModeConnection]:
    """To the node where every limit is near, authorized; a test that uses it runs once in each mode."""
    async with open_connection(strict_node.url, request.param, token=STRICT_TOKEN) as connection:
        yield connection


@pytest.fixture
def code(request: pytest.FixtureRequest) -> bytes:
    """The code of a contract that no other test has."""
    return request.node.nodeid.encode()
