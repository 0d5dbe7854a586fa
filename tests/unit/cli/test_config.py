from __future__ import annotations

from pathlib import Path

import pytest

from simnode.cli.choices import ChunkedResponses, LogFormat, StoreKind
from simnode.cli.config import ConfigError, ServeConfig, default_handlers, load_config
from simnode.protocol.limits import KIB, MIB

RUN_DIR = Path("/run/of/a/node")


@pytest.fixture
def write(tmp_path: Path):
    def write_file(text: str) -> Path:
        path = tmp_path / "node.toml"
        path.write_text(text)
        return path

    return write_file


def refusal(file: Path | None = None, **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file, {name.replace("_", "-"): value for name, value in options.items()})
    return str(caught.value)


def test_without_a_file_and_options_the_documented_defaults_hold():
    config = load_config(None, {})

    assert (config.host, config.port, config.metrics_port) == ("127.0.0.1", 7509, 9509)
    assert config.handlers == default_handlers() >= 2
    assert config.memory_budget == 1024 * MIB
    assert config.chunked_responses is ChunkedResponses.OPT_IN
    assert not config.is_durable


@pytest.mark.parametrize(("usable", "handlers"), [(1, 2), (2, 2), (7, 7)])
def test_there_is_a_handler_for_each_cpu_to_use_and_never_only_one(monkeypatch, usable, handlers):
    """64 CPUs with a quota of two are two."""
    monkeypatch.setattr("simnode.cli.config.usable_cpus", lambda: usable)

    assert load_config(None, {}).handlers == handlers


def test_a_file_has_the_options_names(write):
    config = load_config(
        write(
            """
            host = "::1"
            port = 0
            metrics-host = "[::1]"
            metrics-port = 1
            handlers = 3
            connections-per-handler = 4
            data-dir = "contracts"
            store = "disk"
            memory-budget = "2GiB"
            chunked-responses = "always"
            token = ["a", "b"]
            allowed-host = "node.example"
            log-format = "json"
            """
        ),
        {},
    )

    assert config == ServeConfig.model_validate(
        {
            "host": "::1",
            "port": 0,
            "metrics-host": "::1",
            "metrics-port": 1,
            "handlers": 3,
            "connections-per-handler": 4,
            "data-dir": Path("contracts"),
            "store": StoreKind.DISK,
            "memory-budget": 2048 * MIB,
            "chunked-responses": ChunkedResponses.ALWAYS,
            "token": ("a", "b"),
            "allowed-host": ("node.example",),
            "log-format": LogFormat.JSON,
        }
    )


def test_the_command_line_wins_over_the_file_and_what_it_does_not_say_stays(write):
    file = write('port = 1\nhandlers = 5\ntoken = "of the file"\n')

    config = load_config(file, {"port": 2, "handlers": None, "token": ["of the line"]})

    assert (config.port, config.handlers, config.token) == (2, 5, ("of the line",))


def test_an_option_that_was_not_given_is_an_empty_list_and_does_not_hide_the_file(write):
    assert load_config(write('token = ["a"]'), {"token": []}).token == ("a",)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("1GiB", 1024 * MIB), ("512MiB", 512 * MIB), ("2048KiB", 2048 * KIB), ("100MB", 100_000_000), ("1048576", MIB)],
)
def test_sizes_have_binary_and_decimal_units(text, nbytes):
    assert load_config(None, {"memory-budget": text}).memory_budget == nbytes


def test_an_unknown_key_is_named_with_its_file_and_line_and_the_likely_one(write):
    message = refusal(write("port = 1\n\nmetrics_port = 2\n"))

    assert message.endswith("node.toml:3: metrics_port: no such setting; do you mean metrics-port?")


def test_a_key_like_no_other_gets_the_list(write):
    assert "connections-per-handler" in refusal(write("colour = 'red'\n"))


def test_a_table_is_an_unknown_key_with_its_line(write):
    assert "node.toml:2: limits: no such setting" in refusal(write("port = 1\n[limits]\na = 1\n"))


def test_a_wrong_value_in_the_file_is_named_with_its_line(write):
    assert "node.toml:2: handlers: input should be greater than 0" in refusal(write("port = 1\nhandlers = 0\n"))


def test_a_wrong_value_on_the_command_line_is_not_blamed_on_the_file(write):
    assert refusal(write("port = 1\n"), port=65536).startswith("--port: ")


@pytest.mark.parametrize("size", ["1 parsec", "-1GiB", "1KiB"])
def test_what_is_no_size_or_too_small_is_refused(size):
    assert refusal(memory_budget=size).startswith("--memory-budget: ")


def test_broken_toml_is_named_with_its_line(write):
    assert "node.toml: " in (message := refusal(write("port = 1\nhandlers\n")))
    assert "line 2" in message


def test_a_missing_file_is_named(tmp_path):
    assert "nowhere.toml: No such file" in refusal(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("given", "host"),
    [("[::1]", "::1"), ("::", "::"), ("0.0.0.0", "0.0.0.0"), ("Node.Example", "node.example"), ("fe80::1%eth0",) * 2],
)
def test_addresses_and_names_can_be_listened_on(given, host):
    assert load_config(None, {"host": given, "metrics-host": given}).host == host


@pytest.mark.parametrize(
    "given", ["", "[::1", "::1]", "[node]", "*", "a b", "a:1", "http://a", "1.2.3", "300.1.1.1", "0"]
)
def test_what_cannot_be_listened_on_is_refused_with_its_option(given):
    assert refusal(host=given).startswith(f"--host: {given!r} is not an address or a name")
    assert refusal(metrics_host=given).startswith("--metrics-host: ")


def test_two_servers_cannot_have_one_port(write):
    assert "both 1" in refusal(port=1, metrics_port=1)
    assert "both 1" in refusal(port=1, metrics_port=1, host="0.0.0.0", metrics_host="127.0.0.2")
    assert load_config(None, {"port": 0, "metrics-port": 0}).port == 0
    assert load_config(None, {"port": 1, "metrics-port": 1, "metrics-host": "127.0.0.2"}).port == 1


def test_an_allowed_host_that_is_not_understood_is_refused_with_its_line(write):
    message = refusal(write('port = 1\nallowed-host = ["fine", "http://a/b"]\n'))

    assert "node.toml:2: allowed-host: 'http://a/b' is not understood" in message
    assert "192.168.0.0/16" in message


def test_a_wrong_variable_is_blamed_on_itself():
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"port": 70000}, from_environment={"port"})

    assert str(caught.value).startswith("SIMNODE_PORT: ")


def test_a_store_on_disk_needs_a_directory():
    assert refusal(store="disk") == "store 'disk' needs a data-dir"


def test_a_store_in_memory_has_no_directory():
    """Whoever names a directory expects to find his contracts in it."""
    assert "leave one of them out" in refusal(store="memory", data_dir=Path("x"))


def test_a_directory_alone_means_a_store_on_disk(tmp_path):
    settings = load_config(None, {"data-dir": tmp_path}).node_settings(RUN_DIR)

    assert settings.durable
    assert settings.data_dir == tmp_path


def test_in_memory_the_contracts_are_in_the_run_directory_and_go_with_it():
    settings = load_config(None, {}).node_settings(RUN_DIR)

    assert not settings.durable
    assert settings.data_dir.is_relative_to(RUN_DIR)


def test_every_setting_reaches_the_node():
    options = {
        "host": "127.0.0.2",
        "port": 1,
        "metrics-host": "127.0.0.3",
        "metrics-port": 2,
        "handlers": 3,
        "connections-per-handler": 4,
        "memory-budget": "5MiB",
        "chunked-responses": "always",
        "token": ["t"],
        "allowed-host": ["h"],
        "log-format": "json",
    }

    settings = load_config(None, options).node_settings(RUN_DIR)

    assert (settings.host, settings.port) == ("127.0.0.2", 1)
    assert (settings.metrics_host, settings.metrics_port) == ("127.0.0.3", 2)
    assert (settings.handlers, settings.connections_per_handler) == (3, 4)
    assert (settings.memory_budget_bytes, settings.always_chunk) == (5 * MIB, True)
    assert (settings.tokens, settings.allowed_hosts, settings.json_logs) == ({"t"}, {"h"}, True)


@pytest.mark.parametrize("where", ["file", "option"])
def test_a_tilde_is_the_home_directory_wherever_no_shell_has_seen_it(write, monkeypatch, where):
    """Otherwise a directory called `~` is made."""
    monkeypatch.setenv("HOME", "/home/of/somebody")
    file, options = (write('data-dir = "~/x"'), {}) if where == "file" else (None, {"data-dir": Path("~/x")})

    assert load_config(file, options).data_dir == Path("/home/of/somebody/x")


def test_the_home_of_a_user_who_does_not_exist_is_refused():
    assert refusal(data_dir="~no-such-user/x") == "--data-dir: there is no home directory ~no-such-user"


def test_the_file_itself_may_be_in_the_home_directory(write, monkeypatch, tmp_path):
    write("port = 1")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert load_config(Path("~/node.toml"), {}).port == 1


def test_a_byte_order_mark_before_the_text_is_no_part_of_it(tmp_path):
    (tmp_path / "node.toml").write_bytes("port = 1\r\n".encode("utf-8-sig"))

    assert load_config(tmp_path / "node.toml", {}).port == 1


@pytest.mark.parametrize(
    ("encoding", "complaint"),
    [
        ("utf-16", "this is UTF-16; save it as UTF-8"),
        ("utf-32", "this is UTF-32; save it as UTF-8"),
        ("utf-16-le", "there are zero bytes, as in UTF-16; save it as UTF-8"),
        ("latin-1", "line 2 is not UTF-8 text (byte 0xe9); save it as UTF-8"),
    ],
)
def test_another_encoding_is_named_with_the_file(tmp_path, encoding, complaint):
    (tmp_path / "node.toml").write_bytes("port = 1\ntoken = 'é'\n".encode(encoding))

    assert refusal(tmp_path / "node.toml") == f"{tmp_path / 'node.toml'}: {complaint}"
