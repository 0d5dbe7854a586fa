from __future__ import annotations

import pytest

from simnode.client.addresses import connection_url, instance_of, is_loopback
from simnode.protocol.codec.base import Encoding
from simnode.protocol.messages.contracts import ContractKey


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://h:1", "ws://h:1/v1/contract/command?encodingProtocol=native&streaming=true"),
        ("ws://h:1/", "ws://h:1/v1/contract/command?encodingProtocol=native&streaming=true"),
        ("wss://h/v2/contract/command", "wss://h/v2/contract/command?encodingProtocol=native&streaming=true"),
        ("ws://h/x?authToken=a%20b", "ws://h/x?authToken=a+b&encodingProtocol=native&streaming=true"),
        ("ws://[::1]:7509/x#part", "ws://[::1]:7509/x?encodingProtocol=native&streaming=true"),
    ],
)
def test_the_parameters_join_whatever_the_url_has(url: str, expected: str) -> None:
    assert connection_url(url, encoding=Encoding.NATIVE, streaming=True) == expected


def test_parameters_of_ours_in_the_url_are_replaced_and_not_repeated() -> None:
    """The reference node answers a repeated parameter with 400."""
    url = "ws://h/x?encodingProtocol=native&streaming=true&a="
    assert connection_url(url, encoding=Encoding.MSGPACK, streaming=False) == (
        "ws://h/x?a=&encodingProtocol=msgpack&streaming=false"
    )


@pytest.mark.parametrize(
    "url",
    [
        *("http://h/x", "h:7509", "ws://", "ws://:7509", "/v1/contract/command", ""),
        *("ws://h:99999", "ws://h:x", "ws://h:0", "ws://[::1", "ws://[h]"),
    ],
)
def test_what_is_no_websocket_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not a ws:// or wss:// URL"):
        connection_url(url, encoding=Encoding.NATIVE, streaming=True)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://127.0.0.1:1", True),
        ("ws://127.9.9.9", True),
        ("ws://[::1]:1/x", True),
        ("ws://localhost/x", True),
        ("ws://node.localhost/x", True),
        ("ws://10.0.0.1", False),
        ("ws://node.example", False),
        ("ws://notlocalhost", False),
    ],
)
def test_only_this_machine_is_loopback(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_a_contract_can_be_named_in_three_ways() -> None:
    instance = bytes(31) + b"\x07"
    assert instance_of(ContractKey(instance, bytes(32))) == instance
    assert instance_of(instance) == instance
    assert instance_of("1" * 31 + "8") == instance


@pytest.mark.parametrize("wrong", [b"short", bytes(33), "0OIl", "z" * 45])
def test_what_names_no_contract_is_a_value_error(wrong: bytes | str) -> None:
    with pytest.raises(ValueError, match=r"32 bytes|invalid character|too small"):
        instance_of(wrong)


def test_another_type_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="not int"):
        instance_of(7)  # type: ignore[arg-type]
