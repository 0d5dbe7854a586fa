"""The examples of MSGPACK.md, as they stand there, against a running node: Python, JavaScript, Go.

Each is cut out of the page and run with the packages that the page names, where its runtime is present.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

import simnode
from tests.support.npm import npm_directory, run_node
from tests.tools import ROOT, tools_dir

# The first run builds or installs what the example needs.
pytestmark = pytest.mark.timeout(300)

PAGE = ROOT / "simnode/protocol/codec/MSGPACK.md"
EXAMPLES = dict(re.findall(r"```(python|javascript|go)\n(.*?)```", PAGE.read_text(), re.DOTALL))

GO_MODULE = """module example
go 1.20
require (
	github.com/gorilla/websocket v1.5.3
	github.com/vmihailenco/msgpack/v5 v5.4.1
)
"""

Example = Callable[[str, str], str]
"""Given a URL and an instance in hex, what it printed."""


class RunningNode(Protocol):
    """What the tests here need of `simnode_node`."""

    @property
    def url(self) -> str:
        """`ws://HOST:PORT/v1/contract/command`, without a query."""
        ...


def run(command: list[str | Path], **environment: str) -> str:
    finished = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def python_example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    program = tmp_path_factory.mktemp("python") / "example.py"
    program.write_text(EXAMPLES["python"])
    return lambda url, instance: run([sys.executable, program, url, instance])


@pytest.fixture(scope="module")
def javascript_example() -> Example:
    program = npm_directory() / "msgpack_example.mjs"
    program.write_text(EXAMPLES["javascript"])
    return lambda url, instance: run_node(program, url, instance)


@pytest.fixture(scope="module")
def go_example() -> Example:
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    directory = tools_dir() / "go_msgpack_example"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "go.mod").write_text(GO_MODULE)
    (directory / "main.go").write_text(EXAMPLES["go"])

    def go_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
        command = [go, *arguments]
        return subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=240, check=False
        )

    fetched = go_command("mod", "download", "all")
    if fetched.returncode != 0:
        pytest.skip(f"the example's modules cannot be fetched: {' '.join(fetched.stderr.split())[-200:]}")
    built = go_command("build", "-o", "example", ".")
    assert built.returncode == 0, built.stderr
    return lambda url, instance: run([directory / "example", url, instance])


@pytest.mark.parametrize("language", ["python", "javascript", "go"])
async def test_the_example_gets_a_contract_and_is_told_of_an_unknown_one(
    simnode_node: RunningNode, language: str, request: pytest.FixtureRequest
) -> None:
    example: Example = request.getfixturevalue(f"{language}_example")
    async with simnode.connect(simnode_node.url, encoding="msgpack") as client:
        key = await client.put(code=b"example", state=bytes(1000))
    assert example(simnode_node.url, key.instance.hex()).split() == ["GetResponse", "1000"]
    assert example(simnode_node.url, bytes(32).hex()).split() == ["NotFound", "0"]
