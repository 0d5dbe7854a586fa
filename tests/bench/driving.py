"""Drivers: programs that put load on a server and print one line of JSON. Enters: arguments. Leaves: reports.

They inherit the core of whoever starts them. Next: `bench.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.bench.processes import ROOT, RUST_CLIENT, build

DRIVER_TIMEOUT_S = 120.0
WAIT_S = 90
"""For any one answer: on a machine that others keep busy, its own 30 s would end a measurement that only takes long."""


class DriverFailed(Exception):
    """A driver ended with an error; its own words."""


def rust_driver(*arguments: str | int | float) -> dict[str, Any]:
    """Runs a subcommand of `tests/interop/rust_client`; the JSON that it prints."""
    return _report_of([str(build(RUST_CLIENT)), *map(str, arguments), "--timeout-s", str(WAIT_S)])


def python_driver(module: str, *arguments: str | int | float) -> dict[str, Any]:
    """Runs a module of `tests/bench/drivers`; the JSON that it prints."""
    return _report_of(_python_command(module, arguments))


def _python_command(module: str, arguments: tuple[str | int | float, ...]) -> list[str]:
    return [sys.executable, "-m", f"tests.bench.drivers.{module}", *map(str, arguments)]


def _report_of(command: list[str]) -> dict[str, Any]:
    try:
        finished = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=DRIVER_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DriverFailed(f"it did not end within {DRIVER_TIMEOUT_S:.0f} s") from error
    if finished.returncode != 0:
        words = finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"]
        raise DriverFailed(words[-1])
    report: dict[str, Any] = json.loads(finished.stdout)
    return report


class Dialog:
    """A driver that waits to be told to go on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_for(self, word: str) -> None:
        """Until the driver says so.

        Raises:
            DriverFailed: it said something else, or ended.
        """
        line = self.read_line()
        if line != word:
            raise DriverFailed(f"it said {line!r} instead of {word!r}")

    def go_on(self) -> None:
        """Lets the driver do the next thing."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def read_line(self) -> str:
        """What the driver says next.

        Raises:
            DriverFailed: it ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise DriverFailed("it ended early; its own words are above")
        return line.rstrip("\n")


@contextmanager
def python_dialog(module: str, *arguments: str | int | float) -> Iterator[Dialog]:
    """Starts a module of `tests/bench/drivers` that waits for lines; ends it with the block."""
    command = _python_command(module, arguments)
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Dialog(process)
        finally:
            process.kill()
