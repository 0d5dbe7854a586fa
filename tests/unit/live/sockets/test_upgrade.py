"""What a plain HTTP request is answered with, byte by byte."""

from __future__ import annotations

import logging

import pytest
from websockets.server import ServerProtocol

from simnode.live.sockets.handshake import AccessRules
from simnode.live.sockets.upgrade import Reply, answer

PATH = "/v1/contract/command"
UPGRADE = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"


def reply_to(request_line: str, headers: str = "Host: localhost\r\n", rules: AccessRules | None = None) -> Reply:
    data = f"{request_line}\r\n{headers}\r\n".encode("latin-1")
    reply = answer(ServerProtocol(max_size=None), data, AccessRules() if rules is None else rules)
    assert reply is not None
    return reply


def parts(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    head, end, body = reply.data.partition(b"\r\n\r\n")
    assert end
    status_line, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status_line.split()[1]), headers, body


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("headers", ["", "Host: 10.244.3.17:7509\r\n", "Host: x\r\nOrigin: http://evil.example\r\n"])
def test_health_is_200_for_everybody(version: str, headers: str) -> None:
    status, found, body = parts(reply_to(f"GET /healthz {version}", headers))

    assert (status, found["Content-Length"], body) == (200, "3", b"ok\n")


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("/healthz HTTP/1.1", "", 200),
        ("/healthz HTTP/1.0", "", 200),
        ("/ HTTP/1.1", "Host: localhost\r\n", 404),
        (f"{PATH} HTTP/1.1", "Host: localhost\r\n", 426),
        (f"{PATH} HTTP/1.1", "Host: evil.example\r\n", 403),
        (f"{PATH} HTTP/1.1", "", 400),
        (f"{PATH} HTTP/1.1", f"Host: localhost\r\n{UPGRADE}", 405),
        (f"{PATH} HTTP/2.0", "", 400),
        (f"/{'x' * 9000} HTTP/1.1", "Host: localhost\r\n", 414),
        ("/ HTTP/1.1", f"X: {'x' * 9000}\r\n", 431),
    ],
)
def test_head_has_no_body_whatever_the_answer(request_line: str, headers: str, status: int) -> None:
    """Some of these answers are the library's own."""
    got = parts(reply_to(f"GET {request_line}", headers))
    head = parts(reply_to(f"HEAD {request_line}", headers))

    assert head[0] == status
    assert head[2] == b""
    assert int(head[1]["Content-Length"]) > 0
    assert got[2] or status == 405  # a GET with these headers is another request


def test_endless_head_has_no_body_either() -> None:
    reply = answer(ServerProtocol(max_size=None), b"HEAD / HTTP/1.1\r\nX: " + b"x" * 40_000, AccessRules())

    assert reply is not None
    assert parts(reply)[0::2] == (431, b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"\x16\x03\x01\x02\x00", "no TLS"), (b"GET /healthz HTTP/1.0\n\n", "CR LF"), (b"\0", "no HTTP")],
)
def test_what_can_never_become_a_request_is_answered_at_once(data: bytes, reason: str) -> None:
    """A client that begins with TLS waits for our part of it, and we would wait for the rest of a request."""
    reply = answer(ServerProtocol(max_size=None), data, AccessRules())

    assert reply is not None
    status, _, body = parts(reply)
    assert status == 400
    assert reason in body.decode()


@pytest.mark.parametrize("data", [b"", b"G", b"GET /healthz HTTP/1.1\r\n", b"GET / HTTP/1.1\nHost: a\n"])
def test_what_may_become_a_request_is_waited_for(data: bytes) -> None:
    assert answer(ServerProtocol(max_size=None), data, AccessRules()) is None


def test_a_method_that_a_path_does_not_take_is_told_which_it_takes() -> None:
    status, headers, _ = parts(reply_to("POST /healthz HTTP/1.1"))

    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("request_line", "headers", "reason"),
    [
        (f"POST {PATH} HTTP/1.1", "Host: localhost\r\nContent-Length: 3\r\n", "unsupported request body"),
        (f"POST {PATH} HTTP/1.1", "Host: localhost\r\nTransfer-Encoding: chunked\r\n", "transfer codings"),
        (f"GET {PATH} HTTP/2.0", "", "unsupported protocol"),
    ],
)
def test_what_the_library_cannot_read_is_answered_with_the_reason(request_line: str, headers: str, reason: str) -> None:
    status, _, body = parts(reply_to(request_line, headers))

    assert status == 400
    assert reason in body.decode()


def test_a_refused_host_is_logged_once_with_the_option_that_helps(caplog: pytest.LogCaptureFixture) -> None:
    rules = AccessRules()
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            for host in ("node.example", "node.example:7509", "10.1.2.3"):
                assert reply_to(f"GET {PATH} HTTP/1.1", f"Host: {host}\r\n", rules).label == "forbidden_host"

    assert [("--allowed-host node.example " in line, "10.1.0.0/16" in line) for line in caplog.messages] == [
        (True, False),
        (False, True),
    ]
