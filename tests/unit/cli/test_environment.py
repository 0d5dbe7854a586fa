"""Options of `serve` from four places: the command line, the environment, a file, and their defaults."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from simnode.cli import app, supervise
from simnode.cli.config import ServeConfig, load_config
from simnode.cli.environment import drop_service_links, variable_of

SERVE = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
PARAMETERS = {option: parameter for parameter in SERVE.params for option in parameter.opts if option.startswith("--")}
OF_THE_COMMAND = {"--json", "--config"}

#: each option's value in a file, in the environment and on the command line; no two that follow are equal
VALUES: dict[str, tuple[Any, Any, Any]] = {
    "host": ("127.0.0.2", "127.0.0.3", "127.0.0.4"),
    "port": (1, 2, 3),
    "metrics-host": ("127.0.0.2", "127.0.0.3", "127.0.0.4"),
    "metrics-port": (1, 2, 3),
    "handlers": (11, 12, 13),
    "connections-per-handler": (1, 2, 3),
    "data-dir": ("in-file", "in-environment", "on-line"),
    "allow-lost-segments": (True, False, True),
    "memory-budget": ("1MiB", "2MiB", "3MiB"),
    "chunked-responses": ("always", "opt-in", "always"),
    "token": (["a"], ["b"], ["c"]),
    "allowed-host": (["a", "b"], ["c", "d"], ["10.0.0.0/8"]),
    "log-format": ("json", "text", "json"),
}


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """Runs `serve` as far as its settings; returns them and whether it is to speak JSON."""
    monkeypatch.chdir(tmp_path)
    served: list[tuple[ServeConfig, bool]] = []
    monkeypatch.setattr(supervise, "supervise", lambda config, *, as_json: served.append((config, as_json)))

    def run(*arguments: str, **environment: str) -> tuple[ServeConfig, bool]:
        result = CliRunner().invoke(app, ["serve", *arguments], env=environment)
        assert result.exit_code == 0, result.output
        return served.pop()

    return run


def test_every_option_has_its_variable_and_is_in_the_table_above():
    for option, parameter in PARAMETERS.items():
        assert parameter.envvar == variable_of(option)
        assert getattr(parameter, "show_envvar", False), option
    assert {f"--{name}" for name in VALUES} | {"--store"} | OF_THE_COMMAND == set(PARAMETERS)


@pytest.mark.parametrize("name", list(VALUES))
def test_the_command_line_wins_over_the_environment_and_that_over_the_file(serve, tmp_path, name):
    in_file, in_environment, on_line = VALUES[name]
    (tmp_path / "node.toml").write_text(f"{name} = {json.dumps(in_file)}\n")
    variable = in_environment if isinstance(in_environment, list) else [str(in_environment)]
    environment = {variable_of(name): " ".join(variable)}
    values = on_line if isinstance(on_line, list) else [on_line]
    line = [f"--{name}" if value is True else f"--{name}={value}" for value in values]

    def expected(value: Any) -> Any:
        return getattr(ServeConfig.model_validate({name: value}), name.replace("-", "_"))

    def found(*arguments: str, **environment: str) -> Any:
        config, _ = serve("--config", "node.toml", *arguments, **environment)
        return getattr(config, name.replace("-", "_"))

    assert found() == expected(in_file)
    assert found(**environment) == expected(in_environment) != expected(in_file)
    assert found(*line, **environment) == expected(on_line) != expected(in_environment)


def test_the_same_for_the_store_which_must_agree_with_a_directory(serve, tmp_path):
    (tmp_path / "node.toml").write_text('store = "memory"\n')

    assert serve("--config", "node.toml", "--data-dir=d", SIMNODE_STORE="disk")[0].store == "disk"
    assert serve("--data-dir=d", "--store=disk", SIMNODE_STORE="memory")[0].store == "disk"


def test_the_file_and_the_form_of_the_answer_have_variables_too(serve, tmp_path):
    (tmp_path / "node.toml").write_text("port = 1\n")

    config, as_json = serve(SIMNODE_CONFIG="node.toml", SIMNODE_JSON="1")

    assert (config.port, as_json) == (1, True)
    assert serve()[1] is False


def test_an_empty_variable_was_not_given(serve):
    assert serve(SIMNODE_PORT="", SIMNODE_TOKEN="", SIMNODE_ALLOWED_HOST="")[0] == load_config(None, {})


def test_the_defaults_that_help_shows_are_the_settings_own(serve):
    own = load_config(None, {})

    assert serve()[0] == own
    for option, parameter in PARAMETERS.items():
        if option not in OF_THE_COMMAND and parameter.default is not None:
            name = option.removeprefix("--")
            told = ServeConfig.model_validate({name: parameter.default})
            assert getattr(told, name.replace("-", "_")) == getattr(own, name.replace("-", "_")), option


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({"SIMNODE_PORT": "70000"}, "SIMNODE_PORT: "),
        ({"SIMNODE_PORT": "x"}, "'SIMNODE_PORT'"),
        ({"SIMNODE_ALLOWED_HOST": "fine a,b"}, "SIMNODE_ALLOWED_HOST: 'a,b'"),
        ({"SIMNODE_HOST": "[::1"}, "SIMNODE_HOST: '[::1'"),
        ({"SIMNODE_STORE": "attic"}, "'SIMNODE_STORE'"),
    ],
)
def test_a_wrong_variable_is_named(environment, complaint):
    result = CliRunner().invoke(app, ["serve"], env={"COLUMNS": "200", **environment})

    assert result.exit_code == 2
    assert complaint in result.output


def test_what_kubernetes_sets_beside_a_service_of_our_name_is_no_port():
    """Services called `simnode` and `simnode-metrics` give each pod of the namespace such variables."""
    environment = {"SIMNODE_PORT": "tcp://10.0.0.1:7509", "SIMNODE_METRICS_PORT": "tcp://10.0.0.2:9509", "A": "x://y"}

    assert drop_service_links(environment) == ["SIMNODE_PORT", "SIMNODE_METRICS_PORT"]
    assert environment == {"A": "x://y"}
    assert drop_service_links({"SIMNODE_PORT": "7509"}) == []


def test_a_service_link_is_ignored_with_a_word(serve, monkeypatch):
    monkeypatch.setenv("SIMNODE_PORT", "tcp://10.0.0.1:7509")

    assert serve()[0].port == 7509
