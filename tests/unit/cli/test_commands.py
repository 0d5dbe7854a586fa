from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from simnode.cli import app
from simnode.cli.choices import EncodingName
from simnode.protocol.codec.base import Encoding

COMMANDS = ("serve", "run", "put", "get", "update", "subscribe", "ls", "inspect", "doctor")

LOADED_BY_HELP = """
import sys
from simnode.cli import app
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
        (("ls", "--url", "http://127.0.0.1"), "ws://"),
        (("ls", "--encoding", "xml"), "xml"),
        (("subscribe", "1", "--count", "0"), "--count"),
        (("serve", "--port", "65536"), "--port: "),
        (("serve", "--store", "disk"), "data-dir"),
        (("serve", "--config", "/no/such/file"), "/no/such/file"),
        (("dance",), "dance"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_wrong(arguments, complaint):
    result = run(*arguments)

    assert result.exit_code == 2
    assert complaint in result.output
