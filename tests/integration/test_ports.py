"""What can be listened on is found out before Ray starts."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from simnode.cli import app, supervise
from simnode.cli.config import ServeConfig
from simnode.cli.ports import CannotListen, address_to_listen_on, port_is_taken


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[ServeConfig]:
    """The settings with which `serve` would start a node."""
    configs: list[ServeConfig] = []
    monkeypatch.setattr(supervise, "_run", lambda config, *, as_json: configs.append(config))
    monkeypatch.setattr(supervise, "_write_logs", lambda config: None)
    return configs


def serve(*options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["serve", "--port", "0", "--metrics-port", "0", *options])
    return result.exit_code, result.output


@pytest.mark.parametrize("option", ["--host", "--metrics-host"])
@pytest.mark.parametrize(
    ("host", "reason"),
    [("host.invalid", "no address or known name"), ("192.0.2.1", "not an address of this machine"), ("fe80::1", "")],
)
def test_an_address_that_is_not_ours_is_blamed_on_its_option(
    served: list[ServeConfig], option: str, host: str, reason: str
) -> None:
    status, said = serve(option, host)

    assert status == 1
    assert said.startswith(f"simnode: {option}: ")
    assert host in said
    assert reason in said
    assert said.count("\n") == 1
    assert not served


@pytest.mark.parametrize("option", ["--port", "--metrics-port"])
def test_a_port_in_use_is_blamed_on_its_option(served: list[ServeConfig], taken: int, option: str) -> None:
    assert serve(option, str(taken)) == (
        1,
        f"simnode: port {taken} of 127.0.0.1 is in use; choose another with {option}, or 0 for any that is free\n",
    )
    assert not served


def test_a_name_is_its_address_and_clients_may_use_it(served: list[ServeConfig]) -> None:
    assert serve("--host", "localhost", "--metrics-host", "LOCALHOST") == (0, "")
    [config] = served
    assert (config.host, config.metrics_host, config.allowed_host) == ("127.0.0.1", "127.0.0.1", ("localhost",))


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_brackets_are_no_part_of_an_address(served: list[ServeConfig]) -> None:
    assert serve("--host", "[::1]") == (0, "")
    assert served[0].host == "::1"


@pytest.mark.parametrize(
    ("options", "said", "unsaid"),
    [
        (["--host", "0.0.0.0"], ["0.0.0.0 is reachable", "--token", "--allowed-host"], ["metrics"]),
        (["--host", "0.0.0.0", "--token", "t"], ["with a token", "--allowed-host"], ["--token"]),
        (["--host", "::", "--allowed-host", "node.example"], [":: is reachable"], ["--allowed-host"]),
        (["--metrics-host", "0.0.0.0"], ["the metrics on 0.0.0.0 are reachable", "--allowed-host"], ["--token"]),
        (["--allowed-host", "*"], ["every web page"], []),
        (["--allowed-host", "*", "--token", "t"], [], ["warning"]),
        ([], [], ["warning"]),
    ],
)
def test_who_else_can_reach_a_node_is_told_with_the_option_that_helps(
    served: list[ServeConfig], options: list[str], said: list[str], unsaid: list[str]
) -> None:
    status, output = serve(*options)

    assert status == 0
    assert len(served) == 1
    assert [text for text in said if text not in output] == []
    assert [text for text in unsaid if text in output] == []


def test_a_port_that_is_listened_on_is_taken_and_others_are_not(taken: int) -> None:
    assert port_is_taken("127.0.0.1", taken)
    assert not port_is_taken("127.0.0.1", 0)
    assert not port_is_taken("192.0.2.1", taken)


def test_a_name_that_no_resolver_takes_is_an_error_like_any_other() -> None:
    with pytest.raises(CannotListen, match="--host"):
        address_to_listen_on("x" * 70 + ".example", 0, host_option="--host", port_option="--port")
