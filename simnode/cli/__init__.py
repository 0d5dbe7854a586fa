"""The command `simnode`. Enters: arguments. Leaves: an exit code. Next: `serve.py`, then `contracts.py`.

Each command has a module with its signature and help, which is all that `--help` loads; the work is
in a module that the command imports when it is called. Those that run a node (`supervise.py`,
`experiment_node.py`) import `actors`, and with it Ray; `checks.py` imports the part that knows no Ray.

Exit codes: 0 done; 1 it failed, and one line on standard error says why; 2 it was asked for wrongly;
130 it was interrupted before it was done.
"""

from __future__ import annotations

from simnode.import_path import put_users_directories_last

put_users_directories_last()  # before anything that a user's directory could replace is imported

import typer  # noqa: E402

from simnode.cli import contracts, doctor, inspect, run, serve  # noqa: E402

__all__ = ["app", "main"]

app = typer.Typer(
    name="simnode",
    help="A Freenet node's client side, simulated: serve a node, experiment with it, talk to it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

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
    """The console script."""
    app(prog_name="simnode")
