"""simnode: a Freenet node's client side as a multiprocess simulator, and a client for such nodes.

::

    async with simnode.connect("ws://127.0.0.1:7509") as client:
        key = await client.put(code=b"...", state=b"hello")

    with simnode.connect_sync("ws://127.0.0.1:7509") as client:
        print(bytes(client.get(key).state))

Everything named here lives in `simnode.client`, and is imported when it is first used: the pure
core and the actors of a node do not load a client. Next: `client/__init__.py`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simnode.client import Backoff, Client, ClientError, Notification, SyncClient, connect, connect_sync
    from simnode.protocol.messages.contracts import ContractKey

__version__ = "0.1.0"

__all__ = [
    "Backoff",
    "Client",
    "ClientError",
    "ContractKey",
    "Notification",
    "SyncClient",
    "__version__",
    "connect",
    "connect_sync",
]

_HOMES = {"ContractKey": "simnode.protocol.messages.contracts"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "simnode.client")), name)
