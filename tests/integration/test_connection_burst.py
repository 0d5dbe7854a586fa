"""Many clients connect to a node at the same moment, as after its restart."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.live_node import LiveNode, wait_until

CLIENTS = 1500
"""Fewer than the default cap of 2,000, and more than fit into the sockets between the node's processes."""

UPGRADE = (
    b"GET /v1/contract/command HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@contextmanager
def descriptors_for(number: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 200), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def statuses(port: int, socks: list[socket.socket]) -> Counter[bytes]:
    """Connects all at once; what each is answered."""
    loop = asyncio.get_running_loop()

    async def shake_hands(sock: socket.socket) -> bytes:
        await loop.sock_connect(sock, ("127.0.0.1", port))
        await loop.sock_sendall(sock, UPGRADE)
        return (await loop.sock_recv(sock, 4096)).split(b" ", 2)[1]

    async with asyncio.timeout(30):
        return Counter(await asyncio.gather(*map(shake_hands, socks)))


def test_burst_below_the_cap_is_served_to_the_last_client(node: LiveNode) -> None:
    refused = node.metric("simnode_connections_refused_total")
    with descriptors_for(CLIENTS):
        socks = [socket.socket() for _ in range(CLIENTS)]
        try:
            for sock in socks:
                sock.setblocking(False)
            assert asyncio.run(statuses(node.port, socks)) == {b"101": CLIENTS}
            assert node.metric("simnode_connections_open") == CLIENTS
        finally:
            for sock in socks:
                sock.close()
    wait_until("all are gone", lambda: node.metric("simnode_connections_open") == 0, timeout_s=10)
    assert node.metric("simnode_connections_refused_total") == refused
