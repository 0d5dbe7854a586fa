"""Every process's log lines into one stream. Enters: log records. Leaves: lines at the supervisor. Next: `handler.py`.

Each process sends its formatted lines as datagrams to a socket in the run directory, and whoever
supervises the node writes them to its own standard error; a line is never split or prefixed, so
JSON stays JSON. Lines that repeat, such as those of a full disk, are counted (`RepeatCounter`).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import logging
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MAX_LINE_BYTES = 60_000

REPEAT_INTERVAL_S = 10.0
"""A line that repeats is written once in so many seconds."""

MAX_KINDS = 256
"""Kinds of lines that are counted at once; a logger that builds its own texts makes a kind of each."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line.

    Args:
        process: whose lines they are.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def formatter(process: str, *, as_json: bool) -> logging.Formatter:
    """How `process` writes its lines."""
    if as_json:
        return JsonFormatter(process)
    return logging.Formatter(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s")


class DatagramLineHandler(logging.Handler):
    """Sends lines to a `LogCollector`; a line that nobody takes is written to standard error instead.

    Args:
        path: of the collector's socket.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = str(path)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        try:
            self._sock.sendto(line.encode()[:MAX_LINE_BYTES], self._path)
        except OSError:
            sys.stderr.write(line + "\n")

    def close(self) -> None:
        self._sock.close()
        super().close()


@dataclass(slots=True)
class _Kind:
    """Lines of one kind since one of them was written.

    Attributes:
        written_at: when one was written, on the counter's clock, in seconds.
        count: how many have come since.
        newest: the last of those.
    """

    written_at: float
    count: int = 0
    newest: logging.LogRecord | None = None


def _without_references(record: logging.LogRecord) -> logging.LogRecord:
    """A copy to keep: arguments and tracebacks would keep alive what they refer to, segments among it."""
    copied = copy.copy(record)
    try:
        copied.msg = record.getMessage()
    except Exception as error:  # to log must not fail where it is called; the first of the kind shows what is wrong
        copied.msg = f"{record.msg} ({error})"
    copied.args = copied.exc_info = copied.exc_text = None
    return copied


class RepeatCounter(logging.Handler):
    """Hands records on to another handler; those that repeat are counted, so that a fault cannot flood the log.

    The first record of a kind is handed on at once. Of those that follow within `interval_s` only the
    newest is, at the interval's end, with how many there were. A kind is a logger, a level, a format
    string and, if there is one, the type of the exception.

    Args:
        target: writes the lines.
        now: a monotonic clock, in seconds.
        interval_s: how often a kind is written.
    """

    def __init__(
        self,
        target: logging.Handler,
        *,
        now: Callable[[], float] = time.monotonic,
        interval_s: float = REPEAT_INTERVAL_S,
    ) -> None:
        super().__init__()
        self._target = target
        self._now = now
        self._interval_s = interval_s
        #: by kind; the one that was written longest ago first
        self._kinds: dict[tuple[object, ...], _Kind] = {}
        self._timer: asyncio.TimerHandle | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.write_due()
        text = record.msg if isinstance(record.msg, str) else type(record.msg)
        key = (record.name, record.levelno, text, record.exc_info[0] if record.exc_info else None)
        kind = self._kinds.get(key)
        if kind is not None:
            kind.count += 1
            kind.newest = _without_references(record)
            return
        if len(self._kinds) >= MAX_KINDS:
            self._write(self._kinds.pop(next(iter(self._kinds))))
        self._kinds[key] = _Kind(self._now())
        self._target.handle(record)

    def start(self) -> None:
        """Writes what is due now and then, in the running loop, though nothing more is logged."""
        self._timer = asyncio.get_running_loop().call_later(self._interval_s / 10, self._tick)

    def stop(self) -> None:
        """Ends that, and writes what has been counted."""
        if self._timer is not None:
            self._timer.cancel()
        self.acquire()  # as `handle` does before `emit`: records come from any thread
        try:
            for kind in self._kinds.values():
                self._write(kind)
            self._kinds.clear()
        finally:
            self.release()

    def write_due(self) -> None:
        """Writes the kinds that were written long enough ago and have come again since; forgets the others."""
        self.acquire()
        try:
            now = self._now()
            for key, kind in list(self._kinds.items()):
                if now - kind.written_at < self._interval_s:
                    break
                del self._kinds[key]
                if kind.count:
                    self._write(kind)
                    self._kinds[key] = _Kind(now)
        finally:
            self.release()

    def _tick(self) -> None:
        self.write_due()
        self.start()

    def _write(self, kind: _Kind) -> None:
        record = kind.newest
        if record is not None:
            record.msg = f"{record.msg} … {kind.count} times more"
            self._target.handle(record)

    def close(self) -> None:
        self._target.close()
        super().close()


def log_socket(run_dir: Path) -> Path:
    """Where a node's lines go."""
    return run_dir / "log.sock"


def send_logs(run_dir: Path, process: str, *, as_json: bool) -> RepeatCounter:
    """This process's lines go to the node's collector from now on.

    Returns:
        The counter of those that repeat, to be started in the process's loop.
    """
    lines = DatagramLineHandler(log_socket(run_dir))
    lines.setFormatter(formatter(process, as_json=as_json))
    counter = RepeatCounter(lines)
    root = logging.getLogger()
    root.handlers[:] = [counter]
    root.setLevel(logging.INFO)
    return counter


class LogCollector:
    """Writes the lines of a node's processes to standard error.

    Args:
        run_dir: the node's.
    """

    def __init__(self, run_dir: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._sock.bind(str(log_socket(run_dir)))

    def start(self) -> None:
        """Begins to read, in the running loop."""
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._read)

    def close(self) -> None:
        """Reads what is there and ends."""
        self._read()
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sys.stderr.write(self._sock.recv(MAX_LINE_BYTES).decode(errors="replace") + "\n")
