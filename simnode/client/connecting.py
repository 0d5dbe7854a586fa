"""The way in. Enters: a URL and options. Leaves: a client. Next: `client.py`."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from simnode.client.addresses import connection_url
from simnode.client.asking import Asker
from simnode.client.client import Client
from simnode.client.dialing import Address
from simnode.client.inbox import DEFAULT_NOTIFICATION_BYTES, Inbox
from simnode.client.link import Link
from simnode.client.receiving import Receiver
from simnode.client.reconnecting import Backoff, ConnectionEvent
from simnode.client.waiting import Change
from simnode.protocol.codec.base import Encoding


def connect(
    url: str,
    *,
    encoding: Encoding | str = Encoding.NATIVE,
    streaming: bool = True,
    token: str | None = None,
    timeout_s: float = 60.0,
    reconnect: Backoff | bool = False,
    on_event: Callable[[ConnectionEvent], None] | None = None,
    notification_buffer_bytes: int = DEFAULT_NOTIFICATION_BYTES,
    open_timeout_s: float = 10.0,
    tls: ssl.SSLContext | None = None,
) -> Client:
    """A client of the node at `url`, not open yet.

    ::

        async with simnode.connect("ws://127.0.0.1:7509") as client:
            ...

    An answer may have 64 MiB, and 8 of them may be arriving in chunks at a time, as the protocol has it:
    up to 512 MiB that the client's own requests have asked for. (`get_stream` holds a chunk instead.)

    Args:
        url: `ws://HOST:PORT/v1/contract/command`, or without the path.
        encoding: "native", "msgpack" or "flatbuffers".
        streaming: whether large answers may come in chunks. Large requests always go in chunks.
        token: sent as `Authorization: Bearer`, so that it appears in no log of URLs.
        timeout_s: for requests that name none: seconds without progress.
        reconnect: whether to make a lost connection anew, and how. What was subscribed to is
            subscribed to again, and each such contract gets a `Notification` without content, or one with
            a whole `State` and `gap` set; deltas are handed out again only after a whole State.
            Requests under way fail with `ConnectionLost` and are never sent again by themselves.
        on_event: called in the event loop for each `ConnectionEvent`: `Lost`, `Retrying`,
            `Restored`, `SubscriptionLost`, `GaveUp`.
        notification_buffer_bytes: what notifications may hold that nobody has taken.
        open_timeout_s: for each handshake.
        tls: for `wss://`; None: the system's certificates.

    Raises:
        ValueError: not a `ws://` or `wss://` URL, or an unknown encoding.
    """
    address = Address(
        url=url,
        encoding=Encoding(encoding),
        streaming=streaming,
        tls=tls,
        open_timeout_s=open_timeout_s,
    )
    connection_url(url, encoding=address.encoding, streaming=streaming)  # a wrong URL fails here, not later
    inbox, change = Inbox(notification_buffer_bytes), Change()
    link = Link(
        address,
        token=token,
        backoff=_backoff_of(reconnect),
        on_event=on_event or _ignore,
        inbox=inbox,
        change=change,
        timeout_s=timeout_s,
    )
    return Client(link, Receiver(inbox, link, change), Asker(link, timeout_s))


def _backoff_of(reconnect: Backoff | bool) -> Backoff | None:
    if isinstance(reconnect, Backoff):
        return reconnect
    return Backoff() if reconnect else None


def _ignore(event: ConnectionEvent) -> None:
    """For users who do not want to know."""
