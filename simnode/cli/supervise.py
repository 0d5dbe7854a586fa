"""A node for as long as the command runs. Enters: settings, signals. Leaves: a node. Next: `actors/node.py`.

The first SIGINT, SIGTERM, SIGHUP or SIGQUIT, whether the node is up yet or not, makes it drain and end.
A second one ends the drain: the node's processes are killed, its directories still removed. Further
ones change nothing. Under `nohup` SIGHUP stays ignored.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from simnode.cli.choices import LogFormat
from simnode.cli.config import ServeConfig
from simnode.cli.output import describe_os_error, emit, emit_json, fail, note, spinner
from simnode.cli.own_output import own_output
from simnode.cli.ports import CannotListen, address_to_listen_on, is_loopback, reachable_host
from simnode.live.logs import formatter
from simnode.live.sockets.handshake import PATHS
from simnode.storage.data_directory import check_purpose
from simnode.storage.errors import StorageError

if TYPE_CHECKING:
    from actors.node import Node

logger = logging.getLogger(__name__)

LOCK_FILE = ".simnode-lock"

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def supervise(config: ServeConfig, *, as_json: bool) -> None:
    """Runs a node until a signal ends it.

    Args:
        config: of the node.
        as_json: how to say that it is ready.

    Raises:
        typer.Exit: with 1, it did not start; a line on standard error says why.
    """
    os.umask(0o077)  # what a node makes is for its user alone
    _write_logs(config)
    addresses = _with_addresses(config)
    _warn_of_strangers(config, addresses)
    with _locked(config.data_dir):
        _run(addresses, as_json=as_json)


def _with_addresses(config: ServeConfig) -> ServeConfig:
    """The same with addresses in place of names. Finds out before Ray starts whether they can be listened on.

    Raises:
        typer.Exit: with 1, they cannot.
    """
    try:
        host = address_to_listen_on(config.host, config.port, host_option="--host", port_option="--port")
        metrics_host = address_to_listen_on(
            config.metrics_host, config.metrics_port, host_option="--metrics-host", port_option="--metrics-port"
        )
    except CannotListen as refusal:
        fail(refusal)
    names = {given for given, address in ((config.host, host), (config.metrics_host, metrics_host)) if given != address}
    allowed = (*config.allowed_host, *sorted(names))  # clients still use the names
    return config.model_copy(update={"host": host, "metrics_host": metrics_host, "allowed_host": allowed})


def _warn_of_strangers(config: ServeConfig, addresses: ServeConfig) -> None:
    """Says what other machines can reach, and which option lets those in that should be.

    Args:
        config: as the user gave it.
        addresses: the same with addresses in place of names.
    """
    protection = "with a token" if config.token else "and no token is required (--token)"
    named = (
        "; whoever calls it by another name or address is refused: --allowed-host NAME, ADDRESS, NETWORK/BITS or '*'"
    )
    if config.allowed_host:
        named = ""
    if not is_loopback(addresses.host):
        note(f"simnode: warning: {config.host} is reachable from other machines, {protection}{named}")
    if not is_loopback(addresses.metrics_host):
        what = f"the metrics on {config.metrics_host} are reachable from other machines, and need no token"
        note(f"simnode: warning: {what}{named}")
    if "*" in config.allowed_host and not config.token:
        note(
            "simnode: warning: with --allowed-host '*' and no token every web page may use this node through a browser"
        )


def _run(config: ServeConfig, *, as_json: bool) -> None:
    # imported here: it loads Ray, which takes longer than finding out that the command is wrong
    from actors.node import NodeBroken, NodeStartFailed

    try:
        with own_output() as output:
            asyncio.run(_serve(config, output, as_json=as_json))
    except NodeStartFailed as error:
        if isinstance(error.cause, OSError) and error.cause.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
            fail(f"cannot listen on {config.host}, ports {config.port} and {config.metrics_port}: {error.cause}")
        fail(f"the node did not start: {error}")
    except NodeBroken as error:
        fail(f"{error}; the node was ended")
    except StorageError as error:
        fail(f"the node did not start: {error}")
    except OSError as error:  # no room or no right to make its directories
        fail(f"the node did not start: {describe_os_error(error)}")


async def _serve(config: ServeConfig, output: TextIO, *, as_json: bool) -> None:
    from actors.node import Node

    node = Node(config.node_settings)
    task = asyncio.current_task()
    assert task is not None
    told: list[signal.Signals] = []

    def receive(signum: signal.Signals) -> None:
        told.append(signum)
        if len(told) == 2:
            logger.warning("%s: killing what has not drained", signum.name)
            node.hurry()
        if len(told) == 1 and not node.is_stopping:
            task.cancel()

    for signum in SIGNALS:
        if signum is signal.SIGHUP and signal.getsignal(signum) is signal.SIG_IGN:
            continue  # `nohup`
        asyncio.get_running_loop().add_signal_handler(signum, receive, signum)
    try:
        async with AsyncExitStack() as running:
            with spinner(f"starting a node with {config.handlers} handlers …"):
                await running.enter_async_context(node)
            _announce(node, output, as_json=as_json)
            await node.wait_broken()  # until a signal
    except asyncio.CancelledError:  # by a signal; nobody else knows this task
        task.uncancel()
    finally:
        if len(told) > 1:  # it did not drain: the status says which signal ended it
            signal.signal(told[1], signal.SIG_DFL)
            signal.raise_signal(told[1])


def _announce(node: Node, output: TextIO, *, as_json: bool) -> None:
    settings = node.settings
    url = f"ws://{reachable_host(settings.host)}:{settings.port}{PATHS[0]}"
    metrics_url = f"http://{reachable_host(settings.metrics_host)}:{settings.metrics_port}/metrics"
    note(f"metrics {metrics_url}")
    with redirect_stdout(output):
        if as_json:
            facts = {"url": url, "metrics_url": metrics_url, "pid": os.getpid(), "pids": node.pids()}
            emit_json({"ready": facts | {"run_dir": str(settings.run_dir)}})
        else:
            emit(f"ready {url}")


def _write_logs(config: ServeConfig) -> None:
    """This process's lines look like those of the others, which come through it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter("supervisor", as_json=config.log_format is LogFormat.JSON))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("ray").setLevel(logging.WARNING)


@contextmanager
def _locked(data_dir: Path | None) -> Iterator[None]:
    """The data directory is this node's alone; the kernel lets go of the lock however the process dies.

    Raises:
        typer.Exit: with 1, another node has it, or it cannot be made.
    """
    if data_dir is None:
        yield
        return
    try:
        check_purpose(data_dir)
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except StorageError as error:
        fail(error)
    except OSError as error:
        fail(describe_os_error(error))
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fail(f"{data_dir} is in use by another node")
    except OSError as error:
        fail(f"{data_dir}: its filesystem has no locks ({error.strerror}); choose a directory on a local disk")
    else:
        yield
    finally:
        os.close(fd)
