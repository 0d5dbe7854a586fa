"""`simnode ls` and `inspect`: what a node has. Enters: a command line. Leaves: tables. Next: `hosting.py`."""

from __future__ import annotations

from simnode.cli.choices import EncodingName
from simnode.cli.connection import DEFAULT_URL, AsJson, Contract, Encoding, Streaming, Target, TimeoutS, Token, Url


def ls(
    url: Url = DEFAULT_URL,
    encoding: Encoding = EncodingName.NATIVE,
    token: Token = None,
    timeout: TimeoutS = 60.0,
    as_json: AsJson = False,
) -> None:
    """List a node's contracts: key, bytes of state, subscribers.

    Asks the node about itself, which the flatbuffers encoding cannot express.
    """
    from simnode.cli import hosting

    target = Target(url=url, encoding=encoding, token=token, timeout_s=timeout)
    target.run(lambda client: hosting.list_contracts(client, as_json=as_json))


def inspect(
    key: Contract,
    url: Url = DEFAULT_URL,
    encoding: Encoding = EncodingName.NATIVE,
    streaming: Streaming = True,
    token: Token = None,
    timeout: TimeoutS = 60.0,
    as_json: AsJson = False,
) -> None:
    """Show a contract: its key, code, parameters, state and subscribers.

    Code and state are fetched, to tell their lengths and hashes. The flatbuffers encoding cannot ask
    for subscribers.
    """
    from simnode.cli import hosting

    target = Target(url=url, encoding=encoding, streaming=streaming, token=token, timeout_s=timeout)
    target.run(lambda client: hosting.show_contract(client, key, as_json=as_json))
