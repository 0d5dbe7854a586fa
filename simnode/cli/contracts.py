"""`simnode put`, `get`, `update`, `subscribe`: their options. Enters: a command line. Next: `transfer.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simnode.cli.choices import EncodingName
from simnode.cli.connection import DEFAULT_URL, AsJson, Contract, Encoding, Streaming, Target, TimeoutS, Token, Url
from simnode.cli.paths import readable_file, user_path


def parse_hex(text: str) -> bytes:
    """Bytes written as hexadecimal digits.

    Raises:
        typer.BadParameter: they are not.
    """
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


StateFile = Annotated[Path, typer.Argument(metavar="FILE", parser=readable_file, help="The state.")]


def put(
    file: StateFile,
    code: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=readable_file,
            help="The contract's code; if not given, an empty WebAssembly module.",
        ),
    ] = None,
    params: Annotated[
        bytes | None,
        typer.Option(metavar="HEX", parser=parse_hex, help="The contract's parameters; if not given, none."),
    ] = None,
    subscribe: Annotated[bool, typer.Option(help="Stay, and print a line for each update.")] = False,
    url: Url = DEFAULT_URL,
    encoding: Encoding = EncodingName.NATIVE,
    streaming: Streaming = True,
    token: Token = None,
    timeout: TimeoutS = 60.0,
    as_json: AsJson = False,
) -> None:
    """Store a contract and print its key.

    Code and parameters make the key: without --code, the 8 bytes 0061736d01000000 are the code, and
    --params tells contracts apart. A key that the node knows already gets FILE as its new state.
    """
    from simnode.cli import transfer

    target = Target(url=url, encoding=encoding, streaming=streaming, token=token, timeout_s=timeout)
    target.run(
        lambda client: transfer.put(client, file, code=code, params=params or b"", subscribe=subscribe, as_json=as_json)
    )


def get(
    key: Contract,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", parser=user_path, help="Where to; -: standard output.")
    ],
    url: Url = DEFAULT_URL,
    encoding: Encoding = EncodingName.NATIVE,
    streaming: Streaming = True,
    token: Token = None,
    timeout: TimeoutS = 60.0,
    as_json: AsJson = False,
) -> None:
    """Write a contract's state to a file, piece by piece as it comes.

    FILE takes its new content when that is complete, and keeps its mode and owner; links are followed.
    A device, a pipe, a mounted file, a file of several names or in a directory that is not writable is
    written in place.
    """
    from simnode.cli import transfer
    from simnode.storage.output_file import is_standard_output

    if as_json and is_standard_output(output):
        raise typer.BadParameter("standard output cannot take both the state and --json", param_hint="--json")
    target = Target(url=url, encoding=encoding, streaming=streaming, token=token, timeout_s=timeout)
    target.run(lambda client: transfer.get(client, key, output, as_json=as_json))


def update(
    key: Contract,
    file: StateFile,
    delta: Annotated[bool, typer.Option("--delta", help="FILE is a change to the state, not a new one.")] = False,
    url: Url = DEFAULT_URL,
    encoding: Encoding = EncodingName.NATIVE,
    streaming: Streaming = True,
    token: Token = None,
    timeout: TimeoutS = 60.0,
    as_json: AsJson = False,
) -> None:
    """Change a contract's state and print the summary of the new one, in hexadecimal."""
    from simnode.cli import transfer

    target = Target(url=url, encoding=encoding, streaming=streaming, token=token, timeout_s=timeout)
    target.run(lambda client: transfer.update(client, key, file, is_delta=delta, as_json=as_json))


def subscribe(
    key: Contract,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after N updates; if not given, at Ctrl-C.")
    ] = None,
    url: Url = DEFAULT_URL,
    encoding: Encoding = EncodingName.NATIVE,
    streaming: Streaming = True,
    token: Token = None,
    timeout: TimeoutS = 60.0,
    as_json: AsJson = False,
) -> None:
    """Print a line for each update of a contract."""
    from simnode.cli import transfer

    target = Target(url=url, encoding=encoding, streaming=streaming, token=token, timeout_s=timeout)
    target.run(lambda client: transfer.subscribe(client, key, count=count, as_json=as_json))
