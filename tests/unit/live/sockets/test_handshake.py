"""judge(): a table of requests and verdicts (protocol.md §1)."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from simnode.live.sockets.handshake import Accepted, AccessRules, Refused, judge
from simnode.metrics.catalogue import REFUSAL_REASON
from simnode.protocol.codec.base import Encoding

PATH = "/v1/contract/command"
FLATBUFFERS, NATIVE, MSGPACK = Encoding.FLATBUFFERS, Encoding.NATIVE, Encoding.MSGPACK


def request(path: str = PATH, *headers: tuple[str, str], host: str | None = "localhost") -> Request:
    own = [] if host is None else [("Host", host)]
    return Request(path, Headers([*own, ("Upgrade", "websocket"), ("Connection", "Upgrade"), *headers]))


def verdict(path: str = PATH, *headers: tuple[str, str], host: str | None = "localhost") -> Accepted | Refused:
    return judge(request(path, *headers, host=host), AccessRules())


def accepted(encoding: Encoding = FLATBUFFERS, streaming: bool = False, token: str | None = None) -> Accepted:
    return Accepted(encoding=encoding, streaming=streaming, token=token)


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("", [], accepted()),
        ("?encodingProtocol=native", [], accepted(NATIVE)),
        ("?encodingProtocol=flatbuffers", [], accepted(FLATBUFFERS)),
        ("?encodingProtocol=msgpack", [], accepted(MSGPACK)),
        ("?encodingProtocol=Native", [], accepted(NATIVE)),
        ("", [("Encoding-Protocol", "native")], accepted(NATIVE)),
        ("?encodingProtocol=native", [("encoding-protocol", "flatbuffers")], accepted(FLATBUFFERS)),
        ("?encodingProtocol=xml&encodingProtocol=native", [], accepted(NATIVE)),
        ("?streaming=true", [], accepted(streaming=True)),
        ("?streaming=false", [], accepted()),
        ("?streaming=true&encodingProtocol=native", [], accepted(NATIVE, streaming=True)),
        ("?authToken=abc", [], accepted(token="abc")),
        ("?authToken=", [], accepted(token="")),
        ("?authToken=a&authToken=b", [], accepted(token="b")),
        ("?authToken=a%2Bb", [], accepted(token="a+b")),
        ("", [("Authorization", "Bearer abc")], accepted(token="abc")),
        ("", [("Authorization", "bearer  abc ")], accepted(token="abc")),
        ("?authToken=query", [("Authorization", "Bearer header")], accepted(token="header")),
        ("?something=else", [], accepted()),
        ("", [("Origin", "http://localhost:5173")], accepted()),
        ("", [("Origin", "https://127.0.0.1")], accepted()),
        ("", [("Sec-WebSocket-Protocol", "x")], accepted()),
    ],
)
def test_request_is_accepted_with_what_it_asks_for(
    query: str, headers: list[tuple[str, str]], expected: Accepted
) -> None:
    for path in (PATH, "/v2/contract/command"):
        assert verdict(path + query, *headers) == expected


@pytest.mark.parametrize(
    ("path", "headers", "status", "label"),
    [
        ("/", [], HTTPStatus.NOT_FOUND, "unknown_path"),
        ("/v1/contract", [], HTTPStatus.NOT_FOUND, "unknown_path"),
        ("//v1/contract/command", [], HTTPStatus.NOT_FOUND, "unknown_path"),
        ("/healthz", [], HTTPStatus.OK, ""),
        ("/healthz?x=1", [], HTTPStatus.OK, ""),
        (f"{PATH}?encodingProtocol=xml", [], HTTPStatus.BAD_REQUEST, "bad_parameter"),
        (f"{PATH}?encodingProtocol=", [], HTTPStatus.BAD_REQUEST, "bad_parameter"),
        (f"{PATH}?encodingProtocol=native&encodingProtocol=xml", [], HTTPStatus.BAD_REQUEST, "bad_parameter"),
        (f"{PATH}?encodingProtocol=native", [("Encoding-Protocol", "xml")], HTTPStatus.BAD_REQUEST, "bad_parameter"),
        (f"{PATH}?streaming=1", [], HTTPStatus.BAD_REQUEST, "bad_parameter"),
        (f"{PATH}?streaming=True", [], HTTPStatus.BAD_REQUEST, "bad_parameter"),
        (f"{PATH}?streaming=", [], HTTPStatus.BAD_REQUEST, "bad_parameter"),
        (PATH, [("Authorization", "Basic eDp5")], HTTPStatus.BAD_REQUEST, "bad_parameter"),
        (PATH, [("Authorization", "Bearer")], HTTPStatus.BAD_REQUEST, "bad_parameter"),
        (PATH, [("Authorization", "Bearer a"), ("Authorization", "Bearer b")], HTTPStatus.BAD_REQUEST, "bad_parameter"),
        ("http://[::1/", [], HTTPStatus.BAD_REQUEST, "bad_parameter"),
        (PATH, [("Origin", "http://evil.example")], HTTPStatus.FORBIDDEN, "forbidden_origin"),
        (PATH, [("Origin", "http://localhost.evil.example")], HTTPStatus.FORBIDDEN, "forbidden_origin"),
        (PATH, [("Origin", "null")], HTTPStatus.FORBIDDEN, "forbidden_origin"),
        (PATH, [("Origin", "")], HTTPStatus.FORBIDDEN, "forbidden_origin"),
    ],
)
def test_request_is_refused_with_its_status_and_a_label_of_the_metric(
    path: str, headers: list[tuple[str, str]], status: HTTPStatus, label: str
) -> None:
    refused = verdict(path, *headers)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.label) == (status, label)
    assert refused.text.endswith("\n")


def test_every_label_is_one_of_the_metrics() -> None:
    for label in ("unknown_path", "bad_parameter", "forbidden_origin", "forbidden_host", "not_an_upgrade"):
        assert label in REFUSAL_REASON.values


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:7509", "127.0.0.1", "127.0.0.1:7509", "[::1]", "[::1]:7509", "localhost."]
)
def test_loopback_hosts_are_allowed(host: str) -> None:
    assert isinstance(verdict(host=host), Accepted)


@pytest.mark.parametrize(
    "host", ["localhost:x", "localhost:65536", "user@localhost", "localhost/x", "a,localhost", "[::1"]
)
def test_what_is_no_host_is_bad(host: str) -> None:
    refused = verdict(host=host)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.label) == (HTTPStatus.BAD_REQUEST, "bad_parameter")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1:7509", "0.0.0.0", ""])
def test_other_hosts_are_not(host: str) -> None:
    refused = verdict(host=host)
    assert isinstance(refused, Refused)
    assert (refused.status, refused.label) == (HTTPStatus.FORBIDDEN, "forbidden_host")


def test_request_without_a_host_is_bad() -> None:
    refused = verdict(host=None)
    assert isinstance(refused, Refused)
    assert refused.status is HTTPStatus.BAD_REQUEST


def test_host_is_checked_before_anything_else() -> None:
    """A foreign page must learn nothing, not even which paths there are."""
    refused = verdict("/nowhere?streaming=x", host="evil.example")
    assert isinstance(refused, Refused)
    assert refused.status is HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("upgrade", [None, "h2c"])
def test_plain_request_is_told_to_upgrade(upgrade: str | None) -> None:
    headers = [("Host", "localhost")] + ([] if upgrade is None else [("Upgrade", upgrade)])
    refused = judge(Request(PATH, Headers(headers)), AccessRules())
    assert isinstance(refused, Refused)
    assert (refused.status, refused.label) == (HTTPStatus.UPGRADE_REQUIRED, "not_an_upgrade")


@pytest.mark.parametrize("host", ["10.244.3.17:7509", "evil.example", "", "nonsense:x", None])
@pytest.mark.parametrize("headers", [[], [("Origin", "http://evil.example")], [("Host", "twice")]])
@pytest.mark.parametrize(("method", "protocol"), [("GET", "HTTP/1.1"), ("HEAD", "HTTP/1.1"), ("GET", "HTTP/1.0")])
def test_health_is_told_to_everybody(
    host: str | None, headers: list[tuple[str, str]], method: str, protocol: str
) -> None:
    """A kubelet names the pod's address, a load balancer what it likes; `ok` is no secret."""
    own = [] if host is None else [("Host", host)]
    told = judge(Request("/healthz", Headers([*own, *headers]), method, protocol), AccessRules())
    assert told == Refused(HTTPStatus.OK, "ok\n", "")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_health_takes_no_other_method(method: str) -> None:
    refused = judge(Request("/healthz", Headers(), method), AccessRules())
    assert isinstance(refused, Refused)
    assert (refused.status, refused.methods) == (HTTPStatus.METHOD_NOT_ALLOWED, ("GET", "HEAD"))


def test_http_1_0_may_name_no_host_and_cannot_upgrade() -> None:
    """RFC 9110 §7.8: a server ignores Upgrade in such a request."""
    headers = Headers([("Upgrade", "websocket"), ("Connection", "Upgrade")])
    for path, status in ((PATH, HTTPStatus.UPGRADE_REQUIRED), ("/", HTTPStatus.NOT_FOUND)):
        refused = judge(Request(path, headers, "GET", "HTTP/1.0"), AccessRules())
        assert isinstance(refused, Refused)
        assert refused.status is status


# ---- rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "allowed", "host", "is_allowed"),
    [
        ("127.0.0.1", [], "localhost", True),
        ("0.0.0.0", [], "0.0.0.0", False),
        ("0.0.0.0", [], "localhost", True),
        ("::", [], "[::]", False),
        ("10.1.2.3", [], "10.1.2.3:7509", True),
        ("10.1.2.3", [], "10.1.2.4", False),
        ("Node.example", [], "node.example", True),
        ("0.0.0.0", ["Node.Example"], "node.example:7509", True),
        ("0.0.0.0", ["[fe80::1]"], "[fe80::1]:7509", True),
        ("0.0.0.0", ["10.0.0.0/8"], "10.244.3.17:7509", True),
        ("::", ["*"], "anything.example", True),
        ("fe80::1%eth0", [], "[fe80::1]:7509", True),
    ],
)
def test_address_listened_on_and_names_of_the_user_are_allowed(
    address: str, allowed: list[str], host: str, is_allowed: bool
) -> None:
    rules = AccessRules.for_address(address, allowed_hosts=allowed)
    assert isinstance(judge(request(host=host), rules), Accepted) == is_allowed


def test_token_is_valid_if_it_is_one_of_the_tokens() -> None:
    rules = AccessRules.for_address("127.0.0.1", tokens=["one", "zwei ü"])
    assert [rules.is_valid_token(token) for token in ("one", "zwei ü", "on", "one ", "", "two")] == [
        *(True, True),
        *(False, False, False, False),
    ]
    assert not AccessRules().is_valid_token("")


def test_a_page_of_the_same_host_is_allowed_where_the_host_is() -> None:
    """The reference allows it for every private address; here the address listened on or an option does."""
    page = ("Origin", "http://192.168.1.5:5173")
    for rules, is_allowed in (
        (AccessRules.for_address("0.0.0.0"), False),
        (AccessRules.for_address("192.168.1.5"), True),
        (AccessRules.for_address("0.0.0.0", allowed_hosts=["192.168.0.0/16"]), True),
    ):
        assert isinstance(judge(request(PATH, page, host="192.168.1.5:7509"), rules), Accepted) == is_allowed


def test_refusal_says_which_option_helps() -> None:
    refused = verdict(host="node.example:7509")
    assert isinstance(refused, Refused)
    assert "'node.example:7509'" in refused.text
    assert "--allowed-host node.example " in refused.text
