"""`simnode serve`: its options. Enters: a command line. Leaves: settings. Next: `config.py`, then `supervise.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simnode.cli.choices import ChunkedResponses, LogFormat, StoreKind
from simnode.cli.output import EXIT_USAGE, fail


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port for clients; 0: any.", show_default="7509")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(help="Port for Prometheus, on 127.0.0.1; 0: any.", show_default="9509")
    ] = None,
    handlers: Annotated[
        int | None, typer.Option(help="Processes that talk to clients.", show_default="one for each CPU, at least 2")
    ] = None,
    connections_per_handler: Annotated[
        int | None, typer.Option(help="Clients that one of them takes.", show_default="1000")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep contracts here, for the next node too.", file_okay=False)
    ] = None,
    allow_lost_segments: Annotated[
        bool, typer.Option("--allow-lost-segments", help="Start although states are missing, and serve the others.")
    ] = False,
    store: Annotated[
        StoreKind | None,
        typer.Option(help="Where contracts are.", show_default="disk if there is a --data-dir, else memory"),
    ] = None,
    memory_budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="For messages in flight, all together.", show_default="1GiB")
    ] = None,
    chunked_responses: Annotated[
        ChunkedResponses | None,
        typer.Option(help="Large responses go in chunks to clients that ask, or to all.", show_default="opt-in"),
    ] = None,
    token: Annotated[
        list[str] | None,
        typer.Option(envvar="SIMNODE_TOKEN", help="A valid auth token; without any, nobody is asked for one."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A name that Host and Origin headers may have, beside loopback and --host."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="These options as TOML; the command line wins.")
    ] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="Of standard error.", show_default="text")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say 'ready' as one line of JSON, with the pids.")] = False,
) -> None:
    """Run a node until Ctrl-C or SIGTERM.

    Prints one line when it accepts clients: ready ws://HOST:PORT/v1/contract/command. The first
    signal drains and ends it, a second one ends the drain.
    """
    from simnode.cli.config import ConfigError, load_config
    from simnode.cli.supervise import supervise

    options = {
        "host": host,
        "port": port,
        "metrics-port": metrics_port,
        "handlers": handlers,
        "connections-per-handler": connections_per_handler,
        "data-dir": data_dir,
        "allow-lost-segments": allow_lost_segments or None,
        "store": store,
        "memory-budget": memory_budget,
        "chunked-responses": chunked_responses,
        "token": token,
        "allowed-host": allowed_host,
        "log-format": log_format,
    }
    try:
        settings = load_config(config, options)
    except ConfigError as error:
        fail(error, code=EXIT_USAGE)
    supervise(settings, as_json=as_json)
