"""Where a node is and which contract is meant. Enters: what users write. Leaves: a URL, an id. Next: `exceptions.py`.

A contract may be named by its `ContractKey`, by its instance id (32 bytes), or by that id's
base58 text; `instance_of` understands all three.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from simnode.protocol.codec.base import Encoding
from simnode.protocol.keys import ID_BYTES, decode_instance_id
from simnode.protocol.messages.contracts import ContractKey

DEFAULT_PATH = "/v1/contract/command"

KeyLike = ContractKey | bytes | str
"""A contract: its key, its 32-byte instance id, or that id in base58."""


def connection_url(url: str, *, encoding: Encoding, streaming: bool) -> str:
    """The URL to connect to, with the connection's parameters in its query.

    Args:
        url: `ws://HOST:PORT/v1/contract/command`; without a path, that path is meant. Its other
            query parameters are kept, `encodingProtocol` and `streaming` are replaced, because
            the reference node refuses a repeated parameter.
        encoding: of the messages.
        streaming: whether large responses may come in chunks.

    Raises:
        ValueError: not a `ws://` or `wss://` URL with a host.

    >>> connection_url("ws://127.0.0.1:7509", encoding=Encoding.NATIVE, streaming=True)
    'ws://127.0.0.1:7509/v1/contract/command?encodingProtocol=native&streaming=true'
    """
    try:
        parts = urlsplit(url)
        # .port judges itself when it is asked for
        is_websocket = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ValueError(f"{url!r} is not a ws:// or wss:// URL: {error}") from None
    if not is_websocket:
        raise ValueError(f"{url!r} is not a ws:// or wss:// URL with a host")
    ours = {"encodingProtocol": encoding.value, "streaming": "true" if streaming else "false"}
    kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in ours]
    path = DEFAULT_PATH if parts.path in ("", "/") else parts.path
    return urlunsplit((parts.scheme, parts.netloc, path, urlencode([*kept, *ours.items()]), ""))


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine itself, which no proxy can stand for."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False  # a name that only a resolver knows


def instance_of(contract: KeyLike) -> bytes:
    """The instance id of a contract, 32 bytes.

    Raises:
        ValueError: bytes of another length, or text that is no base58 of at most 32 bytes.
        TypeError: none of the three forms.
    """
    match contract:
        case ContractKey(instance):
            return instance
        case bytes():
            if len(contract) != ID_BYTES:
                raise ValueError(f"an instance id has {ID_BYTES} bytes, not {len(contract)}")
            return contract
        case str():
            return decode_instance_id(contract)
    raise TypeError(f"a contract is named by a ContractKey, bytes or base58 text, not {type(contract).__name__}")
