"""Clients that vanish with a TCP reset in the middle of something: their room is there for others within a second."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import MIB
from simnode.protocol.messages.responses import PutResponse
from tests.support.live_node import LiveNode, wait_until
from tests.support.wire import FrameClient, put_of

NOTICED_WITHIN_S = 1.0
HANG_UP_AT_ONCE = struct.pack("ii", 1, 0)

FRAME_BYTES = 20 * MIB
SENT_BYTES = 3 * MIB
CLIENTS = 60
CUTS = 30


def reset(sock: socket.socket) -> None:
    """Ends the connection with a reset, as a process that dies with bytes unread does."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HANG_UP_AT_ONCE)
    sock.close()


def wait_until_forgotten(node: LiveNode) -> None:
    wait_until(
        "the node has noticed every reset",
        lambda: node.metric("simnode_connections_open") == 0,
        timeout_s=NOTICED_WITHIN_S,
    )
    wait_until(
        "all rooms are given back", lambda: node.metric("simnode_reserved_bytes") == 0, timeout_s=NOTICED_WITHIN_S
    )


@pytest.mark.parametrize("encoding", list(Encoding))
def test_room_of_clients_that_reset_within_a_large_frame_is_there_for_others(
    node: LiveNode, encoding: Encoding
) -> None:
    """Sixty frames of 20 MiB are more than the node's budget of 1 GiB."""
    header = b"\x82\xff" + struct.pack(">Q", FRAME_BYTES) + b"mask"
    clients = [FrameClient(node.url, encoding=encoding) for _ in range(CLIENTS)]

    def send_and_reset(client: FrameClient) -> None:
        client.sock.sendall(header + bytes(SENT_BYTES))
        reset(client.sock)

    threads = [threading.Thread(target=send_and_reset, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until_forgotten(node)
    with FrameClient(node.url, encoding=encoding) as client:
        request = put_of(bytes(FRAME_BYTES), params=encoding.value.encode())
        assert client.ask(request) == PutResponse(key=request.contract.key)
    wait_until_forgotten(node)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_client_that_resets_anywhere_in_a_chunked_put_is_forgotten(node: LiveNode, encoding: Encoding) -> None:
    """A reset finds the connection reading, paused for its first room, or with unread bytes, as it happens."""
    for cut in range(CUTS):
        client = FrameClient(node.url, encoding=encoding)
        chunks = client.chunks(put_of(bytes(40 * MIB), params=b"cut"), 1)
        wire = b"".join(frame_of(client.encode(chunk)) for chunk in chunks[: 1 + cut % 12])
        client.sock.sendall(wire[: len(wire) - cut * 4001])
        reset(client.sock)
    wait_until_forgotten(node)


def frame_of(message: bytes) -> bytes:
    """A masked binary frame whose mask is zero."""
    return b"\x82\xff" + struct.pack(">Q", len(message)) + bytes(4) + message
