"""What a person or a program reads. Enters: results. Leaves: lines, bars and exit codes. Next: `connection.py`.

Results go to standard output; progress, notes and errors to standard error, so that a pipe gets
results only. Bars are for terminals.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

UNFOLDED_WIDTH = 10_000
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def note(text: str) -> None:
    """A line for whoever watches."""
    typer.echo(text, err=True)


def emit(text: str) -> None:
    """A line of the result, written at once: the reader may be a program that waits for it."""
    typer.echo(text)
    sys.stdout.flush()


def emit_json(value: Any) -> None:
    """A result as one line of JSON."""
    emit(json.dumps(value, ensure_ascii=False))


def one_line(message: object) -> str:
    """A message without its line breaks and runs of spaces."""
    return " ".join(str(message).split())


def fail(message: object, *, code: int = EXIT_FAILED) -> NoReturn:
    """Ends the program with one line on standard error.

    Raises:
        typer.Exit: always.
    """
    note(f"simnode: {one_line(message)}")
    raise typer.Exit(code)


def describe_os_error(error: OSError) -> str:
    """`No such file or directory: a.bin`, without the number."""
    text = error.strerror or str(error)
    return f"{text}: {error.filename}" if error.filename else text


def format_size(nbytes: int) -> str:
    """`1.5 MiB`; below a KiB the exact number.

    >>> format_size(1536)
    '1.5 KiB'
    """
    amount, unit = float(nbytes), 0
    while amount >= 1024 and unit < len(UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f} {UNITS[unit]}" if unit else f"{nbytes} bytes"


def results_console() -> Console:
    """Standard output for tables; if it is no terminal, whatever FORCE_COLOR says, no line is folded."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=UNFOLDED_WIDTH)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """A table on standard output; piped, it is as wide as it needs to be, so that no line is folded."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    results_console().print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one pair a line, on standard output; `?` for what is not known."""
    width = max(len(name) for name in facts)
    for name, fact in facts.items():
        emit(f"{name.replace('_', ' '):{width}}  {'?' if fact is None else fact}".rstrip())


class Bar:
    """One progress bar in bytes; without a terminal it shows nothing."""

    def __init__(self, set_done: Callable[[int], None] | None = None) -> None:
        self._set_done = set_done

    def set(self, done_bytes: int) -> None:
        """How much is done so far."""
        if self._set_done is not None:
            self._set_done(done_bytes)


@contextmanager
def progress_bar(what: str, total_bytes: int) -> Iterator[Bar]:
    """A bar on standard error for as long as the block lasts."""
    if not sys.stderr.isatty():
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total_bytes)
        yield Bar(lambda done_bytes: progress.update(task, completed=done_bytes))


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """Something moves on standard error while the block lasts, if a person watches."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield
