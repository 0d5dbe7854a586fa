"""Which hosts a node answers to: what users may write, what peers may send."""

from __future__ import annotations

import pytest

from simnode.node.hosts import (
    MAX_NAMES_TOLD,
    AllowedHosts,
    NamesTold,
    NotAllowed,
    host_of_authority,
    host_of_origin,
)


def hosts(*allowed: str) -> AllowedHosts:
    return AllowedHosts.of(allowed)


@pytest.mark.parametrize(
    ("allowed", "answers_to", "refuses"),
    [
        ("node.example", ["node.example"], ["example", "a.node.example", "node.example.evil"]),
        ("Node.Example.", ["node.example"], []),
        ("node.example:8443", ["node.example"], []),
        ("https://node.example", ["node.example"], ["https"]),
        ("https://node.example:8443/", ["node.example"], []),
        ("my_service", ["my_service"], []),
        ("xn--bcher-kva.example", ["xn--bcher-kva.example"], []),
        ("tauri://app", ["app"], []),
        ("192.168.1.5", ["192.168.1.5"], ["192.168.1.6"]),
        ("192.168.1.5:7509", ["192.168.1.5"], []),
        ("192.168.0.0/16", ["192.168.0.1", "192.168.255.255"], ["192.169.0.1", "example"]),
        ("192.168.1.5/16", ["192.168.77.1"], ["10.0.0.1"]),
        ("fe80::1", ["fe80::1"], ["fe80::2"]),
        ("[fe80::1]:80", ["fe80::1"], []),
        ("fe80::1%eth0", ["fe80::1"], []),
        ("fd00::/8", ["fd12::1"], ["fe80::1", "10.0.0.1"]),
        ("[fd00::]/8", ["fd12::1"], []),
        ("*", ["anything", "8.8.8.8", ""], []),
        ("0.0.0.0/0", ["8.8.8.8"], ["fe80::1", "example"]),
    ],
)
def test_what_users_may_write(allowed: str, answers_to: list[str], refuses: list[str]) -> None:
    for host in (*answers_to, "localhost", "127.0.0.1", "127.1.2.3", "::1"):
        assert hosts(allowed).allows(host), host
    for host in refuses:
        assert not hosts(allowed).allows(host), host


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a b", "a,b", "*.example", "http://", "://x", "http://a/path", "http://user@a", "a/path"),
        *(
            "node.example:x",
            "node.example:99999",
            "node:1:2",
            "10.0.0.0/33",
            "10.0.0/8",
            "10.0.0",
            "1.2.3.400",
            "..",
            "a..b",
        ),
        *("[fe80::1", "fe80::1]", "[node]", "bücher.example", "x" * 64, ".".join(["x" * 60] * 5)),
    ],
)
def test_what_is_not_understood_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"xn--|understood|network") as caught:
        hosts("fine.example", text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("sent", "host"),
    [
        ("localhost", "localhost"),
        ("LocalHost.:7509", "localhost"),
        ("[::1]:7509", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
        ("[::ffff:127.0.0.1]:7509", "127.0.0.1"),
        ("[fe80::1%25eth0]", "fe80::1"),
        ("127.0.0.1:", "127.0.0.1"),
        (":7509", ""),
        ("", ""),
    ],
)
def test_a_host_has_one_spelling(sent: str, host: str) -> None:
    assert host_of_authority(sent) == host


@pytest.mark.parametrize("sent", ["a:b", "a:1:2", "::1", "a@b", "a/b", "a?b", "a b", "a,b", "[::1", "[x]", "a:65536"])
def test_what_is_no_host_is_an_error_of_the_peer(sent: str) -> None:
    with pytest.raises(ValueError, match="neither HOST nor HOST:PORT"):
        host_of_authority(sent)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://Localhost:5173", "localhost"),
        ("https://[::1]", "::1"),
        ("chrome-extension://abcdef", "abcdef"),
        ("null", None),
        ("", None),
        ("file://", None),
        ("http://[::1", None),
        ("http://localhost@evil", None),
    ],
)
def test_an_origin_names_a_host_or_none(origin: str, host: str | None) -> None:
    assert host_of_origin(origin) == host


def test_host_and_origin_are_judged_each() -> None:
    rules = hosts("node.example")

    assert rules.refusal(host="node.example", origin="https://localhost:1") is None
    assert rules.refusal(host=None, origin=None) is None
    assert rules.refusal(host="evil", origin="http://localhost") == NotAllowed("Host", "evil", "evil")
    assert rules.refusal(host="localhost", origin="http://evil:1") == NotAllowed("Origin", "http://evil:1", "evil")
    assert rules.refusal(host="localhost", origin="null") == NotAllowed("Origin", "null", None)
    assert hosts("*").refusal(host="evil", origin="null") is None


@pytest.mark.parametrize(
    ("refusal", "help_text"),
    [
        (NotAllowed("Host", "a.example:1", "a.example"), "--allowed-host a.example allows it"),
        (NotAllowed("Host", "10.1.2.3", "10.1.2.3"), "--allowed-host 10.1.2.3 allows it"),
        (NotAllowed("Host", "10.1.2.3", "10.1.2.3"), "a network such as 10.1.0.0/16"),
        (NotAllowed("Host", "[fd00::1]", "fd00::1"), "such as fd00::/64"),
        (NotAllowed("Origin", "null", None), "only --allowed-host '*' allows it"),
    ],
)
def test_a_refusal_says_which_option_helps(refusal: NotAllowed, help_text: str) -> None:
    assert help_text in str(refusal)


def test_a_refusal_suggests_nothing_that_a_shell_would_carry_out_and_stays_one_short_line() -> None:
    """A peer chooses the name, and somebody may paste the suggestion."""
    for value in ("$(reboot)", "x" * 5000, "a\x85b"):
        text = str(NotAllowed("Host", value, value))
        assert "only --allowed-host '*'" in text
        assert len(text.splitlines()) == 1
        assert len(text) < 200


def test_each_name_is_told_once_and_their_number_is_bounded() -> None:
    told = NamesTold()
    names = [f"n{number}" for number in range(10 * MAX_NAMES_TOLD)]

    lines = [told.line_for(NotAllowed("Host", name, name)) for name in names for _ in range(3)]

    said = [line for line in lines if line is not None]
    assert len(said) == MAX_NAMES_TOLD
    assert "--allowed-host n0 " in said[0]
    assert said[-1].endswith("no further refused host is logged")
