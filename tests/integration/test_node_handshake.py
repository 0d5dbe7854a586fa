"""Who gets a WebSocket and who an HTTP status (protocol.md §1), and what a token is worth."""

from __future__ import annotations

import socket

import pytest

from simnode.protocol.codec.base import Encoding
from simnode.protocol.messages.error_kinds import Unhandled
from simnode.protocol.messages.requests import Authenticate, Close, Disconnect, Get
from simnode.protocol.messages.responses import Err, NotFound
from tests.support.live_node import LiveNode, wait_until
from tests.support.wire import ConnectionEnded, FrameClient, http

CLOSE_AUTH_TOKEN_INVALID = 4401
AUTH_TOKEN_INVALID = (
    "AUTH_TOKEN_INVALID: The auth token is no longer valid. This usually happens after a node "
    "restart. Please refresh the page to get a new token."
)
NOWHERE = bytes(32)

UPGRADE = (
    b"GET /v1/contract/command HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def serves(client: FrameClient) -> bool:
    return client.ask(Get(key=NOWHERE)) == NotFound(instance_id=NOWHERE)


@pytest.mark.parametrize("path", ["/v1/contract/command", "/v2/contract/command"])
@pytest.mark.parametrize("encoding", list(Encoding))
def test_both_paths_serve_every_encoding(node: LiveNode, path: str, encoding: Encoding) -> None:
    with FrameClient(f"ws://127.0.0.1:{node.port}{path}", encoding=encoding) as client:
        assert client.response.status_code == 101
        assert "Sec-WebSocket-Protocol" not in client.response.headers
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        assert serves(client)


def test_compression_that_a_client_offers_is_declined(node: LiveNode) -> None:
    headers = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
    with FrameClient(node.url, headers=headers) as client:
        assert client.response.status_code == 101
        assert "Sec-WebSocket-Extensions" not in client.response.headers


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/v3/contract/command", 404),
        ("/v1/contract/command/", 404),
        ("/v1/contract/command?encodingProtocol=xml", 400),
        ("/v1/contract/command?streaming=yes", 400),
        ("/v1/contract/command?streaming=", 400),
        ("//[::1/v1/contract/command", 400),
    ],
)
def test_upgrade_that_is_refused_gets_an_http_status(node: LiveNode, path: str, status: int) -> None:
    request = UPGRADE.replace(b"/v1/contract/command", path.encode()) + b"\r\n"
    found, reply = http(node.url, request)
    assert found == status, reply


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Encoding-Protocol: xml\r\n", 400),
        (b"Authorization: Basic eDp5\r\n", 400),
        (b"Origin: http://evil.example\r\n", 403),
        (b"Origin: null\r\n", 403),
        (b"Origin: http://localhost:3000\r\n", 101),
    ],
)
def test_headers_of_an_upgrade_are_judged(node: LiveNode, headers: bytes, status: int) -> None:
    host, port = "127.0.0.1", node.port
    with socket.create_connection((host, port), timeout=5) as sock:
        sock.sendall(UPGRADE + headers + b"\r\n")
        assert int(sock.recv(65536).split(b" ", 2)[1]) == status


def test_foreign_host_is_refused(node: LiveNode) -> None:
    """Else a page of evil.example whose name resolves to 127.0.0.1 could talk to the node."""
    assert http(node.url, UPGRADE.replace(b"localhost", b"evil.example") + b"\r\n")[0] == 403


@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD"])
def test_plain_http_request_is_told_to_upgrade(node: LiveNode, method: bytes) -> None:
    status, reply = http(node.url, method + b" /v1/contract/command HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status == 426
    assert b"Upgrade: websocket" in reply


def test_health_is_told_over_plain_http(node: LiveNode) -> None:
    status, reply = http(node.url, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status == 200
    assert reply.endswith(b"\r\n\r\nok\n")


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: 10.244.3.17:7509\r\nUser-Agent: kube-probe/1.31\r\n\r\n", 200, b"ok\n"),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 200, b"ok\n"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200, b"ok\n"),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, b""),
        (b"POST /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"/healthz takes GET and HEAD.\n"),
        (b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, b""),
        (b"HEAD /v1/contract/command HTTP/1.1\r\nHost: localhost\r\n\r\n", 426, b""),
        (b"HEAD / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, b""),
        (b"HEAD / HTTP/3.0\r\n\r\n", 400, b""),
    ],
)
def test_plain_http_is_answered_as_a_probe_expects(node: LiveNode, request_: bytes, status: int, body: bytes) -> None:
    found, reply = http(node.url, request_)

    assert found == status
    assert reply.partition(b"\r\n\r\n")[2] == body


def test_a_client_that_begins_with_tls_is_answered_at_once(node: LiveNode) -> None:
    assert http(node.url, b"\x16\x03\x01\x02\x00\x01")[0] == 400


def test_what_is_not_http_gets_400(node: LiveNode) -> None:
    assert http(node.url, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n")[0] == 400


def test_endless_request_gets_431(node: LiveNode) -> None:
    assert http(node.url, b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000)[0] == 431


@pytest.mark.parametrize("pauses_at", [(1,), (100,), (4097,), (5000,), (50, 4500, 6000)])
def test_request_in_pieces_is_put_together(node: LiveNode, pauses_at: tuple[int, ...]) -> None:
    """A request of more than 4 KiB, as cookies make it, arrives in several segments."""
    filler = b"".join(b"X-Cookie-%d: %s\r\n" % (number, b"c" * 1000) for number in range(6))
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + filler + b"\r\n"
    assert http(node.url, request, pauses_at=pauses_at)[0] == 200


def test_first_message_may_come_with_the_request(node: LiveNode) -> None:
    """The bytes behind the request are frames already."""
    disconnect = b"\x02\x00\x00\x00\x00"
    mask = b"\x01\x02\x03\x04"
    frame = bytes((0x82, 0x80 | len(disconnect))) + mask
    frame += bytes(byte ^ mask[at % 4] for at, byte in enumerate(disconnect))
    request = UPGRADE.replace(b"/command", b"/command?encodingProtocol=native") + b"\r\n" + frame
    status, reply = http(node.url, request)
    assert status == 101
    assert reply.endswith(b"\x88\x02\x03\xe8")


# ---- tokens --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", list(Encoding))
def test_wrong_token_is_told_in_the_connections_encoding_then_closed_with_4401(
    strict_node: LiveNode, encoding: Encoding
) -> None:
    with FrameClient(f"{strict_node.url}?authToken=wrong", encoding=encoding) as client:
        assert client.response.status_code == 101
        told = client.answer()
        if encoding is Encoding.FLATBUFFERS:
            assert AUTH_TOKEN_INVALID in repr(told)
        else:
            assert told == Err(Unhandled(cause=AUTH_TOKEN_INVALID))
        close = client.closed()
        assert (close.code, close.reason) == (CLOSE_AUTH_TOKEN_INVALID, "AUTH_TOKEN_INVALID")


def test_right_token_is_served_from_query_or_header(strict_node: LiveNode) -> None:
    with FrameClient(f"{strict_node.url}?authToken=right") as client:
        assert serves(client)
    with FrameClient(strict_node.url, headers=[("Authorization", "Bearer right")]) as client:
        assert serves(client)


def test_header_wins_over_query_and_the_last_of_repeated_parameters_counts(strict_node: LiveNode) -> None:
    with FrameClient(f"{strict_node.url}?authToken=wrong", headers=[("Authorization", "Bearer right")]) as client:
        assert serves(client)
    with FrameClient(f"{strict_node.url}?authToken=wrong&authToken=right") as client:
        assert serves(client)
    with FrameClient(f"{strict_node.url}?authToken=right&authToken=wrong") as client:
        client.answer()
        assert client.closed().code == CLOSE_AUTH_TOKEN_INVALID


def test_client_without_a_token_may_only_authenticate(strict_node: LiveNode) -> None:
    with FrameClient(strict_node.url) as client:
        refused = client.ask(Get(key=NOWHERE))
        assert isinstance(refused, Err)
        assert isinstance(refused.kind, Unhandled)
        client.send(Authenticate(token="right"))
        assert serves(client)


def test_token_is_replaced_by_authenticate_and_a_wrong_one_ends_the_connection(strict_node: LiveNode) -> None:
    with FrameClient(f"{strict_node.url}?authToken=right") as client:
        assert serves(client)
        client.send(Authenticate(token="wrong"))
        assert client.answer() == Err(Unhandled(cause=AUTH_TOKEN_INVALID))
        assert client.closed().code == CLOSE_AUTH_TOKEN_INVALID


def test_nothing_is_served_after_a_wrong_token(strict_node: LiveNode) -> None:
    with FrameClient(f"{strict_node.url}?authToken=wrong") as client:
        client.send_anyway(Get(key=NOWHERE))
        assert client.answer() == Err(Unhandled(cause=AUTH_TOKEN_INVALID))
        with pytest.raises(ConnectionEnded):
            client.answer()


def test_client_without_a_token_may_leave(strict_node: LiveNode) -> None:
    with FrameClient(strict_node.url) as client:
        client.send(Disconnect(cause="bye"))
        assert client.closed().code == 1000


@pytest.mark.parametrize("encoding", [Encoding.NATIVE, Encoding.MSGPACK])
def test_close_request_ends_the_connection_with_1000(node: LiveNode, encoding: Encoding) -> None:
    with FrameClient(node.url, encoding=encoding) as client:
        client.send(Close())
        assert client.closed().code == 1000


def test_everything_that_was_asked_for_before_a_disconnect_and_is_ready_is_answered_first(node: LiveNode) -> None:
    with FrameClient(node.url) as client:
        for _ in range(3):
            client.send(Get(key=NOWHERE))
        client.send(Disconnect())
        for _ in range(3):
            assert client.answer() == NotFound(instance_id=NOWHERE)
        assert client.closed().code == 1000


def test_clients_close_frame_is_answered_with_its_code(node: LiveNode) -> None:
    with FrameClient(node.url) as client:
        client.send_close(1001)
        assert client.closed().code == 1001


def test_text_message_is_read_as_bytes(node: LiveNode) -> None:
    """As the reference does; bincode is seldom UTF-8."""
    with FrameClient(node.url) as client:
        client.send_text(client.encode(Get(key=b"\xff" * 32)))
        assert client.answer() == NotFound(instance_id=b"\xff" * 32)


def test_client_beyond_the_nodes_connections_gets_503_and_others_go_on(strict_node: LiveNode) -> None:
    clients: list[FrameClient] = []
    try:
        while len(clients) < 30:
            client = FrameClient(f"{strict_node.url}?authToken=right")
            clients.append(client)
            if client.response.status_code != 101:
                break
        assert clients[-1].response.status_code == 503
        assert clients[-1].body() == b"The node has all the clients it takes"
        assert len(clients) == 21, "2 handlers with 10 connections each"
        assert all(serves(client) for client in clients[:20])
        clients.pop().sock.close()
        left = clients.pop()
        left.send_close()
        left.closed()
        left.sock.close()

        def is_served() -> bool:
            client = FrameClient(f"{strict_node.url}?authToken=right")
            clients.append(client)
            return client.response.status_code == 101

        wait_until("there is room again", is_served, timeout_s=5)
    finally:
        for client in clients:
            client.sock.close()
