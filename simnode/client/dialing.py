"""How a WebSocket to a node is opened. Enters: a URL. Leaves: the stock client's connection. Next: `session.py`."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidMessage, InvalidStatus, WebSocketException

from simnode.client.addresses import connection_url, is_loopback
from simnode.client.exceptions import ConnectionFailed, HandshakeRefused
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import CHUNK_SIZE

READ_QUEUE_FRAMES = 2
"""Frames that the library may hold before it stops reading: chunks are 256 KiB each."""

KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 6

ERROR_BODY_BYTES = 200
"""How much of a refusal's body is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to connect to, and how.

    Attributes:
        url: of the node; `connection_url` adds the parameters.
        encoding: of the messages.
        streaming: whether large responses may come in chunks.
        tls: for `wss://`; None: the system's certificates.
        open_timeout_s: for the TCP, TLS and WebSocket handshakes together.
        max_message_bytes: the longest message to accept.
    """

    url: str
    encoding: Encoding
    streaming: bool
    tls: ssl.SSLContext | None
    open_timeout_s: float
    max_message_bytes: int


async def dial(address: Address, token: str | None) -> ClientConnection:
    """Opens a WebSocket.

    No pings are sent: a busy node may be silent for long, and the stock keepalive would end a
    healthy connection then. The node pings (and is answered), TCP keepalive finds a dead host,
    and each request has its own timeout.

    Raises:
        HandshakeRefused: the server answered with an HTTP error.
        ConnectionFailed: nobody answered, or something that is no WebSocket server.
        ValueError: not a WebSocket URL (the caller's fault).
    """
    url = connection_url(address.url, encoding=address.encoding, streaming=address.streaming)
    try:
        websocket = await connect(
            url,
            ssl=(address.tls or True) if url.startswith("wss:") else None,
            additional_headers=None if token is None else {"Authorization": f"Bearer {token}"},
            proxy=None if is_loopback(url) else True,
            compression=None,
            open_timeout=address.open_timeout_s,
            ping_interval=None,
            max_size=address.max_message_bytes,
            max_queue=READ_QUEUE_FRAMES,
        )
    except InvalidStatus as refusal:
        body = (refusal.response.body or b"")[:ERROR_BODY_BYTES].decode(errors="replace").strip()
        raise HandshakeRefused(refusal.response.status_code, body) from refusal
    except TimeoutError as error:
        raise ConnectionFailed(f"{address.url}: no handshake within {address.open_timeout_s:g} s") from error
    except ConnectionRefusedError as error:
        raise ConnectionFailed(f"{address.url}: connection refused; nothing listens there") from error
    except InvalidMessage as error:
        raise ConnectionFailed(f"{address.url}: no WebSocket server answers there: {error.__cause__}") from error
    except (OSError, UnicodeError, WebSocketException) as error:  # UnicodeError: no resolver takes such a name
        raise ConnectionFailed(f"{address.url}: {error}") from error
    _tune(websocket)
    return websocket


def _tune(websocket: ClientConnection) -> None:
    """Finds dead hosts, and keeps the kernel's queue short, so that a small request is soon on its way."""
    sock: socket.socket = websocket.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 2 * CHUNK_SIZE)
