"""Scripts: every reason for which a connection is refused, or ends."""

from __future__ import annotations

from collections.abc import Callable

from simnode.protocol.limits import MIB
from tests.support.metric_session import TOKEN, MetricSession
from tests.support.wire import FrameClient, get_of, http

CONNECTIONS = 10
PROGRESS_TIMEOUT_S = 3.0


def requests_that_are_no_upgrade_are_refused(session: MetricSession) -> None:
    path = "/v1/contract/command"
    for reason, status, request in (
        ("unknown_path", 404, _request("/nowhere")),
        ("not_an_upgrade", 426, _request(path)),
        ("bad_parameter", 400, _request(f"{path}?encodingProtocol=morse", "Connection: Upgrade", "Upgrade: websocket")),
        ("forbidden_host", 403, _request(path, host="evil.example")),
        ("forbidden_origin", 403, _request(path, "Origin: http://evil.example")),
        ("handshake_failed", 400, b"hello\r\n\r\n"),
    ):
        assert http(session.node.url, request)[0] == status, reason
        session.expect("simnode_connections_refused_total", reason=reason)
    assert http(session.node.url, _request("/healthz"))[0] == 200


def _request(path: str, *headers: str, host: str = "127.0.0.1") -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *headers]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def connections_over_the_cap_are_refused(session: MetricSession) -> None:
    clients = []
    for _ in range(CONNECTIONS):
        opening = session.client()
        clients.append((opening, opening.__enter__()))
    session.check("simnode_connections_open", CONNECTIONS)
    with FrameClient(f"{session.node.url}?authToken={TOKEN}") as refused:
        assert refused.response.status_code == 503
    session.expect("simnode_connections_refused_total", reason="connection_limit")
    for opening, _ in clients:
        opening.__exit__(None, None, None)
    session.check("simnode_connections_open", 0)


def whoever_breaks_the_protocol_is_closed(session: MetricSession) -> None:
    with session.client() as client:
        client.sock.sendall(bytes((0x83, 0x80, 0, 0, 0, 0)))  # an opcode that there is not
        client.ended("protocol_error")
    with session.client() as client:
        client.sock.sendall(bytes((0x82, 0xFF)) + (9 * MIB).to_bytes(8) + bytes(4))
        client.ended("too_big")
    with session.stranger(query="authToken=wrong") as client:
        client.ended("unauthorized")


def whoever_takes_nothing_is_stalled(session: MetricSession) -> None:
    with session.client() as writer:
        key = session.put(writer, bytes(6 * MIB)).contract.key
    session.settle()
    with session.client(receive_buffer_bytes=4096) as client:
        client.send(get_of(key))
        client.has_ended = True
        session.expect("simnode_connections_closed_total", reason="stalled")
        session.expect("simnode_requests_total", kind="get", encoding="native", outcome="ok")
        session.expect("simnode_request_duration_seconds_count", kind="get", encoding="native")
        session.settle()  # nothing of the answer is counted: its last byte has not left


SCRIPTS: tuple[Callable[[MetricSession], None], ...] = (
    requests_that_are_no_upgrade_are_refused,
    connections_over_the_cap_are_refused,
    whoever_breaks_the_protocol_is_closed,
    whoever_takes_nothing_is_stalled,
)
