"""The command `simnode`. Enters: arguments. Leaves: an exit code. Next: `serve.py`, then `contracts.py`.

Each command has a module with its signature and help, which is all that `--help` loads; the work is
in a module that the command imports when it is called. Those that run a node (`supervise.py`,
`experiment_node.py`) import `actors`, and with it Ray; `checks.py` imports the part that knows no Ray.

Exit codes: 0 done; 1 it failed, and one line on standard error says why; 2 it was asked for wrongly;
130 it was interrupted before it was done.
"""

from __future__ import annotations

import os
import sys

from simnode.import_path import put_users_directories_last

put_users_directories_last()  # before anything that a user's directory could replace is imported

from typing import Annotated  # noqa: E402

import typer  # noqa: E402

from simnode import __version__  # noqa: E402
from simnode.cli import contracts, doctor, inspect, run, serve  # noqa: E402
from simnode.cli.environment import drop_service_links  # noqa: E402
from simnode.cli.output import EXIT_USAGE, note, one_line  # noqa: E402

__all__ = ["app", "main"]

NODE_COMMANDS = frozenset({"serve", "doctor"})
"""Commands whose options are environment variables, too."""

app = typer.Typer(
    name="simnode",
    help="A Freenet node's client side, simulated: serve a node, experiment with it, talk to it.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"simnode {__version__}")
        raise typer.Exit


@app.callback()
def _before_a_command(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(EXIT_USAGE)
    if context.invoked_subcommand in NODE_COMMANDS:
        for name in drop_service_links(os.environ):
            note(f"simnode: {name} is the address of a Kubernetes Service, and ignored")


app.command("serve")(serve.serve)
app.command("run")(run.run)
app.command("put")(contracts.put)
app.command("get")(contracts.get)
app.command("update")(contracts.update)
app.command("subscribe")(contracts.subscribe)
app.command("ls")(inspect.ls)
app.command("inspect")(inspect.inspect)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """The console script. Whatever is wrong with a command line is one line on standard error, for people and logs."""
    try:
        status = app(prog_name="simnode", standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        hint = "" if context is None else f" ({context.command_path} --help)"
        note(f"simnode: {one_line(error.format_message())}{hint}")
        sys.exit(error.exit_code)
    sys.exit(status)
