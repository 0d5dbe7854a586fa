from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import simnode
from simnode.cli import app, main
from simnode.cli.choices import EncodingName
from simnode.protocol.codec.base import Encoding

COMMANDS = ("serve", "run", "put", "get", "update", "subscribe", "ls", "inspect", "doctor")

LOADED_BY_HELP = """
import sys
import simnode
from simnode.cli import app, main
for command in {commands!r}:
    try:
        app([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
print(sorted({{"ray", "actors", "websockets", "lmdb", "simnode.client"}} & set(sys.modules)), file=sys.stderr)
"""

LOADED_BY_THE_CLIENT = """
import sys
import simnode.cli.checks, simnode.cli.hosting, simnode.cli.transfer
print(sorted({"ray", "ray.actor", "actors.node"} & set(sys.modules)), file=sys.stderr)
"""


def loaded(program: str) -> str:
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return result.stderr.strip()


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_help_loads_neither_ray_nor_the_client():
    """Whoever asks for help waits for none of it."""
    assert loaded(LOADED_BY_HELP.format(commands=COMMANDS)) == "[]"


def test_clients_and_the_doctor_do_not_load_ray():
    assert loaded(LOADED_BY_THE_CLIENT) == "[]"


def test_help_names_every_command():
    text = run("--help").output

    assert all(command in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_are_in_one_pair_of_brackets(command):
    text = run(command, "--help").output

    assert "[default: (" not in text


def test_long_names_of_variables_are_not_cut_in_a_terminal_of_80_columns():
    text = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "80"}).output

    assert "SIMNODE_CONNECTIONS_PER_HANDLER]" in text
    assert "…" not in text


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_the_version_is_told(option):
    assert (run(option).exit_code, run(option).output) == (0, f"simnode {simnode.__version__}\n")


def test_without_a_command_there_is_help():
    assert (run().exit_code, run().output) == (2, run("--help").output)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["dance"], "simnode: No such command 'dance'. (simnode --help)"),
        (["serve", "--dance"], "simnode: No such option: --dance (simnode serve --help)"),
        (["ls", "--timeout", "0"], "simnode: Invalid value for '--timeout': "),
        (["get", "1"], "simnode: Missing option '--output' / '-o'. (simnode get --help)"),
        (["serve", "--port", "x"], "simnode: Invalid value for '--port' (env var: 'SIMNODE_PORT'): "),
    ],
)
def test_a_wrong_command_line_is_one_line_however_narrow_the_screen(monkeypatch, capsys, arguments, line):
    monkeypatch.setattr("sys.argv", ["simnode", *arguments])
    monkeypatch.setenv("COLUMNS", "20")
    with pytest.raises(SystemExit) as caught:
        main()

    said = capsys.readouterr()
    assert (caught.value.code, said.out) == (2, "")
    assert said.err.startswith(line)
    assert said.err.count("\n") == 1


def test_encodings_are_those_of_the_protocol():
    assert [name.value for name in EncodingName] == [encoding.value for encoding in Encoding]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("get", "0OIl", "-o", "x"), "invalid character '0'"),
        (("get", "z" * 45, "-o", "x"), "too small"),
        (("get", "1", "-o", "-", "--json"), "--json"),
        (("put", __file__, "--params", "0g"), "hexadecimal"),
        (("put", "/no/such/file"), "/no/such/file"),
        (("ls", "--url", "http://127.0.0.1:9509/metrics"), "--url: 'http://127.0.0.1:9509/metrics' is not a ws://"),
        (("ls", "--url", "ws://127.0.0.1:99999"), "--url: 'ws://127.0.0.1:99999' is not a ws://"),
        (("ls", "--url", "ws://[::1"), "--url: 'ws://[::1' is not a ws://"),
        (("inspect", ""), "the key is empty"),
        (("ls", "--encoding", "xml"), "xml"),
        (("subscribe", "1", "--count", "0"), "--count"),
        (("serve", "--port", "65536"), "--port: "),
        (("serve", "--store", "disk"), "data-dir"),
        (("serve", "--host", "[::1"), "--host: '[::1' is not an address"),
        (("serve", "--host", "127.0.0.1:7509"), "--host: '127.0.0.1:7509' is not an address"),
        (("serve", "--metrics-host", "http://x"), "--metrics-host: 'http://x' is not an address"),
        (("serve", "--port", "9509"), "port and metrics-port are both 9509"),
        (("serve", "--allowed-host", "example.com/x"), "--allowed-host: 'example.com/x' is no network"),
        (("serve", "--allowed-host", "*.example.com"), "--allowed-host: '*.example.com' is not understood"),
        (("serve", "--config", "/no/such/file"), "/no/such/file"),
        (("dance",), "dance"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_wrong(arguments, complaint):
    result = run(*arguments)

    assert result.exit_code == 2
    assert complaint in result.output
