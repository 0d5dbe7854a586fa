"""Every process's log lines into one stream. Enters: log records. Leaves: lines at the supervisor. Next: `handler.py`.

Each process sends its formatted lines as datagrams to a socket in the run directory, and whoever
supervises the node writes them to its own standard error; a line is never split or prefixed, so
JSON stays JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import sys
from pathlib import Path

MAX_LINE_BYTES = 60_000


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


def log_socket(run_dir: Path) -> Path:
    """Where a node's lines go."""
    return run_dir / "log.sock"


def send_logs(run_dir: Path, process: str, *, as_json: bool) -> None:
    """This process's lines go to the node's collector from now on."""
    handler = DatagramLineHandler(log_socket(run_dir))
    handler.setFormatter(formatter(process, as_json=as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


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
