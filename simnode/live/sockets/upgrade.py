"""The opening handshake of one connection. Enters: its first bytes. Leaves: the reply. Next: `handshake.py`.

The `websockets` library parses the request and writes the reply (`ServerProtocol`, sans-I/O);
`handshake.judge` decides between the two.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from http import HTTPStatus

from websockets.http11 import Request
from websockets.server import ServerProtocol

from simnode.live.sockets.handshake import Accepted, AccessRules, Refused, judge

MAX_REQUEST_BYTES = 32 * 1024
"""Of the handshake request; the library bounds its lines and headers besides."""

HANDSHAKE_FAILED = "handshake_failed"

_END_OF_HEADERS = b"\r\n\r\n"

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Reply:
    """What a request is answered with.

    Attributes:
        data: for the peer.
        taken: bytes of the request; frames may follow it at once.
        accepted: what the client asked for; None: it was turned away, and the connection ends.
        label: why, of the metric's closed set of reasons; empty for what is no refusal.
    """

    data: bytes
    taken: int
    accepted: Accepted | None = None
    label: str = HANDSHAKE_FAILED


def answer(protocol: ServerProtocol, data: bytes, rules: AccessRules) -> Reply | None:
    """Answers the request that `data` begins with; None if it is not whole yet. HEAD gets no body, whatever the answer.

    Args:
        protocol: of this connection, in which nothing was done yet.
        data: everything that was received; the first `MAX_REQUEST_BYTES` suffice.
        rules: who may connect.
    """
    reply = _answer(protocol, data, rules)
    if reply is not None and data.startswith(b"HEAD "):
        headers, end, _ = reply.data.partition(_END_OF_HEADERS)
        reply.data = headers + end
    return reply


def _answer(protocol: ServerProtocol, data: bytes, rules: AccessRules) -> Reply | None:
    end = data.find(_END_OF_HEADERS, 0, MAX_REQUEST_BYTES)
    if end < 0:
        if (wrong := _what_never_ends(data)) is not None:
            return Reply(data=_rejection(protocol, HTTPStatus.BAD_REQUEST, f"{wrong}\n"), taken=len(data))
        if len(data) < MAX_REQUEST_BYTES:
            return None
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        return Reply(data=_rejection(protocol, status, "the request is too large\n"), taken=len(data))
    taken = end + len(_END_OF_HEADERS)
    # the library gets the request alone: it would take the frames behind it, too
    protocol.receive_data(data[:taken])
    events = protocol.events_received()
    if not events:  # the library has judged these bytes, and answered them if they were too long for it
        answered = b"".join(protocol.data_to_send())
        return Reply(data=answered or _bad_request(protocol), taken=taken)
    request = events[0]
    assert isinstance(request, Request)
    verdict = judge(request, rules)
    if isinstance(verdict, Refused):
        if verdict.not_allowed is not None and (line := rules.told.line_for(verdict.not_allowed)) is not None:
            logger.warning("%s", line)
        data = _rejection(protocol, verdict.status, verdict.text, verdict.methods)
        return Reply(data=data, taken=taken, label=verdict.label)
    response = protocol.accept(request)
    protocol.send_response(response)
    is_accepted = response.status_code == HTTPStatus.SWITCHING_PROTOCOLS
    return Reply(data=b"".join(protocol.data_to_send()), taken=taken, accepted=verdict if is_accepted else None)


def _what_never_ends(data: bytes) -> str | None:
    """Why these bytes cannot become a request, however many follow; None: they can."""
    if data and not data[:1].isalpha():
        return "this is no HTTP; the port takes no TLS (ws://, not wss://)"
    if b"\n\n" in data[:MAX_REQUEST_BYTES]:
        return "the lines of a request end with CR LF"
    return None


def _rejection(protocol: ServerProtocol, status: HTTPStatus, text: str, methods: tuple[str, ...] = ()) -> bytes:
    response = protocol.reject(status, text)
    if status is HTTPStatus.UPGRADE_REQUIRED:
        response.headers["Upgrade"] = "websocket"
    if methods:
        response.headers["Allow"] = ", ".join(methods)
    protocol.send_response(response)
    return b"".join(protocol.data_to_send())


def _bad_request(protocol: ServerProtocol) -> bytes:
    error = protocol.handshake_exc
    assert error is not None
    reason = f"{error}; {error.__cause__}" if error.__cause__ else f"{error}"
    return protocol.reject(HTTPStatus.BAD_REQUEST, f"{reason}\n").serialize()
