"""How a command reaches a node. Enters: options. Leaves: an open client, errors as lines. Next: `transfer.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from simnode.cli.choices import EncodingName
from simnode.cli.output import EXIT_INTERRUPTED, EXIT_USAGE, describe_os_error, fail

if TYPE_CHECKING:
    from simnode.client import Client

DEFAULT_URL = "ws://127.0.0.1:7509"

Url = Annotated[str, typer.Option("--url", envvar="SIMNODE_URL", help="The node; a path is added if there is none.")]
Encoding = Annotated[EncodingName, typer.Option("--encoding", help="Of the messages.")]
Streaming = Annotated[bool, typer.Option("--streaming/--no-streaming", help="Take large answers in chunks.")]
Token = Annotated[str | None, typer.Option("--token", envvar="SIMNODE_TOKEN", help="Shown to the node.")]
TimeoutS = Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Without any progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON, one value a line.")]


def parse_contract(text: str) -> bytes:
    """The instance id that a key's base58 text stands for.

    Raises:
        typer.BadParameter: it is none.
    """
    from simnode.protocol.keys import InvalidIdText, decode_instance_id

    if not text:  # base58 of an instance id of zeros, and what an unset variable of a shell gives
        raise typer.BadParameter("the key is empty")
    try:
        return decode_instance_id(text)
    except InvalidIdText as error:
        raise typer.BadParameter(str(error)) from error


Contract = Annotated[bytes, typer.Argument(metavar="KEY", parser=parse_contract, help="A contract's key, in base58.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A node and how to talk to it."""

    url: str
    encoding: EncodingName
    streaming: bool = True
    token: str | None
    timeout_s: float

    def run(self, work: Callable[[Client], Awaitable[None]]) -> None:
        """Connects and does the work.

        Raises:
            typer.Exit: it failed (1), the URL is none (2), or somebody pressed Ctrl-C (130).
        """
        from simnode.client import ClientError, connect

        async def connected() -> None:
            async with client:
                await work(client)

        try:
            client = connect(
                self.url,
                encoding=self.encoding.value,
                streaming=self.streaming,
                token=self.token,
                timeout_s=self.timeout_s,
            )
        except ValueError as error:
            fail(f"--url: {error}", code=EXIT_USAGE)
        try:
            asyncio.run(connected())
        except ClientError as error:
            fail(error)
        except OSError as error:
            fail(describe_os_error(error))
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None
