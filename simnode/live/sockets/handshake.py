"""Who may connect, and how. Enters: an HTTP request. Leaves: `Accepted` or a reply. Next: `websocket.py`.

Source: protocol.md §1, after the reference node's `client_events/websocket.rs`.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from websockets.datastructures import MultipleValuesError
from websockets.http11 import Request

from simnode.node.hosts import AllowedHosts, NamesTold, NotAllowed
from simnode.protocol.codec.base import Encoding

PATHS = ("/v1/contract/command", "/v2/contract/command")
HEALTH_PATH = "/healthz"
HEALTH_METHODS = ("GET", "HEAD")

AUTH_TOKEN_INVALID = (
    "AUTH_TOKEN_INVALID: The auth token is no longer valid. This usually happens after a node "
    "restart. Please refresh the page to get a new token."
)
CLOSE_AUTH_TOKEN_INVALID = 4401


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """Who may connect.

    Attributes:
        hosts: that `Host` and `Origin` may name.
        tokens: valid auth tokens; empty means that no token is required.
        told: the refused hosts that this process has logged.
    """

    hosts: AllowedHosts = field(default_factory=lambda: AllowedHosts.of(()))
    tokens: frozenset[str] = frozenset()
    told: NamesTold = field(default_factory=NamesTold, compare=False)

    @classmethod
    def for_address(cls, host: str, *, allowed_hosts: Iterable[str] = (), tokens: Iterable[str] = ()) -> AccessRules:
        """Allows loopback, the address listened on if it is one, and what the user allows.

        Raises:
            ValueError: an allowed host is not understood.
        """
        return cls(hosts=AllowedHosts.listening_on(host, allowed_hosts), tokens=frozenset(tokens))

    def is_valid_token(self, token: str) -> bool:
        """Compared in constant time, so that a guess tells nothing about how close it was."""
        return any(hmac.compare_digest(token.encode(), valid.encode()) for valid in self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What a client asked for with its request.

    Attributes:
        token: what it presented, or None; judged after the upgrade, in its own encoding.
    """

    encoding: Encoding
    streaming: bool
    token: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """An HTTP reply instead of an upgrade.

    Attributes:
        label: of the metric's closed set of reasons; empty for what is no refusal.
        methods: that the path takes, for the `Allow` header of a 405.
        not_allowed: the host that was refused, for the log.
    """

    status: HTTPStatus
    text: str
    label: str
    methods: tuple[str, ...] = ()
    not_allowed: NotAllowed | None = None


def judge(request: Request, rules: AccessRules) -> Accepted | Refused:
    """Decides on an upgrade request, or answers a plain HTTP one.

    Checked in this order: `/healthz` (200 for everybody: it tells nothing), Host and Origin (403),
    path (404), upgrade (426), parameters (400).
    """
    try:
        url = urlsplit(request.path)
        if url.path == HEALTH_PATH:
            return _health(request.method)
        refusal = _check_hosts(request, rules.hosts)
        if refusal is not None:
            return refusal
        if url.path not in PATHS:
            return Refused(HTTPStatus.NOT_FOUND, f"No such path. The client API is at {PATHS[0]}.\n", "unknown_path")
        # RFC 9110 §7.8: a server ignores Upgrade in a request of HTTP/1.0
        if request.protocol == "HTTP/1.0" or "websocket" not in (request.headers.get("Upgrade") or "").lower():
            text = "This is a WebSocket endpoint; send an Upgrade request.\n"
            return Refused(HTTPStatus.UPGRADE_REQUIRED, text, "not_an_upgrade")
        return _read_parameters(dict(parse_qsl(url.query, keep_blank_values=True)), request)
    except MultipleValuesError as error:
        return Refused(HTTPStatus.BAD_REQUEST, f"header {error} is repeated\n", "bad_parameter")
    except ValueError as error:
        return Refused(HTTPStatus.BAD_REQUEST, f"{error}\n", "bad_parameter")


def _read_parameters(query: dict[str, str], request: Request) -> Accepted:
    # parse_qsl keeps repeats and dict the last of them: SDKs append to whatever URL they are given
    name = request.headers.get("encoding-protocol") or query.get("encodingProtocol")
    try:
        encoding = Encoding.FLATBUFFERS if name is None else Encoding(name.lower())
    except ValueError:
        known = ", ".join(encoding.value for encoding in Encoding)
        raise ValueError(f"unknown encoding {name!r}; known are {known}") from None
    streaming = query.get("streaming", "false")
    if streaming not in ("true", "false"):
        raise ValueError(f"streaming is true or false, not {streaming!r}")
    return Accepted(encoding=encoding, streaming=streaming == "true", token=_read_token(query, request))


def _read_token(query: dict[str, str], request: Request) -> str | None:
    authorization = request.headers.get("Authorization")
    if authorization is None:
        return query.get("authToken")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ValueError("Authorization must be 'Bearer <token>'")
    return token.strip()


def _health(method: str) -> Refused:
    if method in HEALTH_METHODS:
        return Refused(HTTPStatus.OK, "ok\n", "")
    text = f"{HEALTH_PATH} takes {' and '.join(HEALTH_METHODS)}.\n"
    return Refused(HTTPStatus.METHOD_NOT_ALLOWED, text, "not_an_upgrade", methods=HEALTH_METHODS)


def _check_hosts(request: Request, hosts: AllowedHosts) -> Refused | None:
    """Against DNS rebinding (Host) and cross-site WebSocket hijacking (Origin)."""
    host = request.headers.get("Host")
    if host is None and request.protocol != "HTTP/1.0":  # RFC 9112 §3.2: only HTTP/1.0 may go without
        return Refused(HTTPStatus.BAD_REQUEST, "a Host header is required\n", "bad_parameter")
    refusal = hosts.refusal(host=host, origin=request.headers.get("Origin"))
    if refusal is None:
        return None
    label = "forbidden_host" if refusal.header == "Host" else "forbidden_origin"
    return Refused(HTTPStatus.FORBIDDEN, f"{refusal}\n", label, not_allowed=refusal)
