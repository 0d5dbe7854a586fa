"""`simnode serve`: its options. Enters: a command line. Leaves: settings. Next: `config.py`, then `supervise.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simnode.cli.choices import ChunkedResponses, LogFormat, StoreKind
from simnode.cli.environment import variable_of
from simnode.cli.output import EXIT_USAGE, fail

OF_THE_COMMAND = frozenset({"config", "as_json"})
"""Options that are no settings of a node, and so in no file."""


def serve(
    context: typer.Context,
    host: Annotated[
        str,
        typer.Option(
            envvar=variable_of("--host"), metavar="HOST", help="Address to listen on; all of them: 0.0.0.0 or ::."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar=variable_of("--port"), metavar="PORT", help="Port for clients; 0: any.")
    ] = 7509,
    metrics_host: Annotated[
        str, typer.Option(envvar=variable_of("--metrics-host"), metavar="HOST", help="Address for Prometheus.")
    ] = "127.0.0.1",
    metrics_port: Annotated[
        int, typer.Option(envvar=variable_of("--metrics-port"), metavar="PORT", help="Port for Prometheus; 0: any.")
    ] = 9509,
    handlers: Annotated[
        int | None,
        typer.Option(
            envvar=variable_of("--handlers"),
            metavar="N",
            help="Processes that talk to clients; if not given, one for each CPU to use, at least 2.",
        ),
    ] = None,
    connections_per_handler: Annotated[
        int,
        typer.Option(
            envvar=variable_of("--connections-per-handler"), metavar="N", help="Clients that one of them takes."
        ),
    ] = 1000,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar=variable_of("--data-dir"),
            metavar="DIR",
            help="Keep contracts here, for the next node too.",
            file_okay=False,
        ),
    ] = None,
    allow_lost_segments: Annotated[
        bool,
        typer.Option(
            "--allow-lost-segments",
            envvar=variable_of("--allow-lost-segments"),
            help="Start although states are missing, and serve the others.",
        ),
    ] = False,
    store: Annotated[
        StoreKind | None,
        typer.Option(
            envvar=variable_of("--store"),
            metavar="KIND",
            help="memory or disk: where contracts are. If not given, disk with a --data-dir, memory without.",
        ),
    ] = None,
    memory_budget: Annotated[
        str,
        typer.Option(
            envvar=variable_of("--memory-budget"), metavar="SIZE", help="For messages in flight, all together."
        ),
    ] = "1GiB",
    chunked_responses: Annotated[
        ChunkedResponses,
        typer.Option(
            envvar=variable_of("--chunked-responses"),
            metavar="WHEN",
            help="opt-in: large responses go in chunks to clients that ask; always: to all.",
        ),
    ] = ChunkedResponses.OPT_IN,
    token: Annotated[
        list[str] | None,
        typer.Option(
            envvar=variable_of("--token"),
            metavar="TOKEN",
            help="A valid auth token; without any, no token is required.",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            envvar=variable_of("--allowed-host"),
            metavar="HOST",
            help="What Host and Origin headers may name beside loopback and --host: a name, an address, a network "
            "such as 192.168.0.0/16, or * for anything. A scheme and a port do not matter.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar=variable_of("--config"),
            metavar="FILE",
            help="These options as TOML; the command line and the environment win.",
        ),
    ] = None,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            envvar=variable_of("--log-format"), metavar="FORMAT", help="text or json: lines on standard error."
        ),
    ] = LogFormat.TEXT,
    as_json: Annotated[
        bool,
        typer.Option("--json", envvar=variable_of("--json"), help="Say 'ready' as one line of JSON, with the pids."),
    ] = False,
) -> None:
    """Run a node until Ctrl-C or SIGTERM.

    Prints one line when it accepts clients: ready ws://HOST:PORT/v1/contract/command. The first
    signal drains and ends it, a second one ends the drain.
    """
    from simnode.cli.config import ConfigError, load_config
    from simnode.cli.supervise import supervise

    options, from_environment = _given(context)
    try:
        settings = load_config(config, options, from_environment=from_environment)
    except ConfigError as error:
        fail(error, code=EXIT_USAGE)
    supervise(settings, as_json=as_json)


def _given(context: typer.Context) -> tuple[dict[str, Any], set[str]]:
    """The settings that the user gave, by the names of the file, and which of them came from the environment."""
    options: dict[str, Any] = {}
    from_environment = set()
    for parameter, value in context.params.items():
        source = context.get_parameter_source(parameter)
        if parameter in OF_THE_COMMAND or source is None or source.name == "DEFAULT":
            continue
        name = parameter.replace("_", "-")
        options[name] = value
        if source.name == "ENVIRONMENT":
            from_environment.add(name)
    return options, from_environment
