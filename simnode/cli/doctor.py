"""`simnode doctor`: whether a node can run here. Enters: a command line. Leaves: a table. Next: `checks.py`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from simnode.cli.environment import variable_of
from simnode.cli.output import EXIT_FAILED, emit_json, print_table


def doctor(
    sweep: Annotated[bool, typer.Option("--sweep", help="Remove what dead nodes left behind.")] = False,
    handlers: Annotated[
        int | None,
        typer.Option(
            min=1,
            envvar=variable_of("--handlers"),
            metavar="N",
            help="That the node is to have; if not given, as many as serve takes.",
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, envvar=variable_of("--port"), metavar="PORT", help="That the node is to have."),
    ] = 7509,
    metrics_port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65535,
            envvar=variable_of("--metrics-port"),
            metavar="PORT",
            help="That Prometheus is to scrape.",
        ),
    ] = 9509,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say whether a node can run on this machine, and what to do about what is in the way.

    Exit code 1 if something is.
    """
    from simnode.cli.checks import Status, examine
    from simnode.cli.config import default_handlers

    findings = examine(handlers=handlers or default_handlers(), port=port, metrics_port=metrics_port, sweep=sweep)
    is_healthy = all(finding.status is not Status.FAIL for finding in findings)
    if as_json:
        emit_json({"ok": is_healthy, "checks": [asdict(finding) for finding in findings]})
    else:
        rows = [(finding.status.value, finding.name, finding.found, finding.mend) for finding in findings]
        print_table(("", "WHAT", "FOUND", "TO DO"), rows)
    if not is_healthy:
        raise typer.Exit(EXIT_FAILED)
