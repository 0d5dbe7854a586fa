"""Who may connect, and how. Enters: an HTTP request. Leaves: `Accepted` or a reply. Next: `websocket.py`.

Source: protocol.md §1, after the reference node's `client_events/websocket.rs`.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

from websockets.datastructures import MultipleValuesError
from websockets.http11 import Request

from simnode.protocol.codec.base import Encoding

PATHS = ("/v1/contract/command", "/v2/contract/command")
HEALTH_PATH = "/healthz"
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

AUTH_TOKEN_INVALID = (
    "AUTH_TOKEN_INVALID: The auth token is no longer valid. This usually happens after a node "
    "restart. Please refresh the page to get a new token."
)
CLOSE_AUTH_TOKEN_INVALID = 4401


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRules:
    """Who may connect.

    Attributes:
        hosts: names (without ports) that `Host` and `Origin` may name.
        tokens: valid auth tokens; empty means that none is asked for.
    """

    hosts: frozenset[str] = LOOPBACK_HOSTS
    tokens: frozenset[str] = frozenset()

    @classmethod
    def for_address(cls, host: str, *, allowed_hosts: Iterable[str] = (), tokens: Iterable[str] = ()) -> AccessRules:
        """Loopback names, the address listened on if it is one, and whatever the user allows."""
        own = set() if _is_unspecified(host) else {host.lower()}
        allowed = {name.lower().strip("[]") for name in allowed_hosts}
        return cls(hosts=LOOPBACK_HOSTS | own | allowed, tokens=frozenset(tokens))

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
    """

    status: HTTPStatus
    text: str
    label: str


def judge(request: Request, rules: AccessRules) -> Accepted | Refused:
    """Decides on an upgrade request, or answers a plain HTTP one.

    Checked in this order: Host and Origin (403), path (404, or 200 for `/healthz`), upgrade (426),
    parameters (400).
    """
    try:
        url = urlsplit(request.path)
        refusal = _check_origin(request, rules)
        if refusal is not None:
            return refusal
        if url.path == HEALTH_PATH:
            return Refused(HTTPStatus.OK, "ok\n", "")
        if url.path not in PATHS:
            return Refused(HTTPStatus.NOT_FOUND, f"No such path. The client API is at {PATHS[0]}.\n", "unknown_path")
        if "websocket" not in (request.headers.get("Upgrade") or "").lower():
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


def _check_origin(request: Request, rules: AccessRules) -> Refused | None:
    """Against DNS rebinding (Host) and cross-site WebSocket hijacking (Origin)."""
    host = request.headers.get("Host")
    if host is None:
        return Refused(HTTPStatus.BAD_REQUEST, "a Host header is required\n", "bad_parameter")
    if _host_name(f"//{host}") not in rules.hosts:
        return Refused(HTTPStatus.FORBIDDEN, f"host {host!r} is not allowed here\n", "forbidden_host")
    origin = request.headers.get("Origin")
    if origin is not None and _host_name(origin) not in rules.hosts:
        return Refused(HTTPStatus.FORBIDDEN, f"origin {origin!r} is not allowed here\n", "forbidden_origin")
    return None


def _host_name(url: str) -> str | None:
    """The host in lower case, without port and brackets; None if there is none."""
    name = urlsplit(url).hostname
    return name.rstrip(".") if name else None


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
