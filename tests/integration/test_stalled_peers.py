"""Clients that take nothing of what is due to them, on a node that waits for them for two seconds only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import MIB
from simnode.protocol.messages.responses import PutResponse
from tests.support.live_node import LiveNode, live_node, wait_until
from tests.support.wire import FrameClient, get_of, put_of

PROGRESS_TIMEOUT_S = 2.0
CLIENTS = 10


@pytest.fixture(scope="module")
def impatient_node() -> Iterator[LiveNode]:
    with live_node(progress_timeout_s=PROGRESS_TIMEOUT_S) as running:
        yield running


@pytest.mark.parametrize("encoding", list(Encoding))
def test_stalled_client_is_counted_as_stalled(impatient_node: LiveNode, encoding: Encoding) -> None:
    """Not as lost, which would say that it went of its own accord."""
    node = impatient_node

    def closed(reason: str) -> float:
        return node.metric("simnode_connections_closed_total", f'reason="{reason}"')

    with FrameClient(node.url, encoding=encoding) as writer:
        request = put_of(bytes(8 * MIB), params=encoding.value.encode())
        assert writer.ask(request) == PutResponse(key=request.contract.key)
        stalled, lost = closed("stalled"), closed("connection_lost")
        clients = [FrameClient(node.url, encoding=encoding, receive_buffer_bytes=4096) for _ in range(CLIENTS)]
        try:
            for client in clients:
                client.send(get_of(request.contract.key))
            wait_until("all are given up", lambda: node.metric("simnode_connections_open") == 1, timeout_s=10)
        finally:
            for client in clients:
                client.sock.close()
        assert (closed("stalled") - stalled, closed("connection_lost") - lost) == (CLIENTS, 0)
