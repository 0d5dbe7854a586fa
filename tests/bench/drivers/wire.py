"""A WebSocket client by hand for the drivers in Python. Enters: a URL. Leaves: sockets, frames, counts. Next: the drivers.

Frames are masked before anything is timed, and of what arrives only the headers are read.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from websockets.frames import apply_mask

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.chunking import cut_into_chunks
from simnode.protocol.codec.base import Codec
from simnode.protocol.keys import code_hash, contract_key
from simnode.protocol.limits import CHUNK_THRESHOLD
from simnode.protocol.messages.contracts import ContractContainer
from simnode.protocol.messages.requests import ClientRequest, Put

TIMEOUT_S = 30.0
RECEIVE_BYTES = 1 << 20
MASK = b"\x37\xfa\x21\x3d"
OPCODE_CONTINUATION, OPCODE_BINARY, OPCODE_CLOSE = 0, 2, 8
MAX_HANDSHAKE_BYTES = 8192


class NodeFailed(Exception):
    """The node did not do what was asked of it."""


def connect(url: str) -> socket.socket:
    """A blocking socket on which the handshake is done; nothing is waiting to be read."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    sock = socket.create_connection((parts.hostname, parts.port), TIMEOUT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        received = sock.recv(MAX_HANDSHAKE_BYTES)
        if not received or len(answer) > MAX_HANDSHAKE_BYTES:
            raise NodeFailed("the node ended the handshake")
        answer += received
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise NodeFailed(f"the node refused the handshake: {answer.splitlines()[0].decode()}")
    return sock


def frame(message: bytes) -> bytes:
    """One final, masked, binary frame."""
    length = len(message)
    if length < 126:
        header = struct.pack("!BB", 0x80 | OPCODE_BINARY, 0x80 | length)
    elif length < 1 << 16:
        header = struct.pack("!BBH", 0x80 | OPCODE_BINARY, 0x80 | 126, length)
    else:
        header = struct.pack("!BBQ", 0x80 | OPCODE_BINARY, 0x80 | 127, length)
    return b"".join((header, MASK, apply_mask(message, MASK)))


def request_frames(codec: Codec, request: ClientRequest, stream_id: int) -> bytes:
    """All frames of one request, chunked as the reference's client chunks it."""
    message = codec.encode_request(request)
    if len(message) <= CHUNK_THRESHOLD:
        return frame(bytes(message))

    def encode_chunk(index: int, total: int, data: Rope) -> Rope:
        return codec.encode_request_chunk(stream_id=stream_id, index=index, total=total, data=data)

    return b"".join(frame(bytes(chunk)) for chunk in cut_into_chunks(message, encode_chunk))


def contract(label: str) -> ContractContainer:
    """A contract of its own for each label."""
    code, params = b"\0asm\1\0\0\0 tests/bench", label.encode()
    key = contract_key(code_hash(code), params)
    return ContractContainer(data=Blob(code), code_hash=key.code, params=Blob(params), key=key)


def put(label: str, state: bytes) -> Put:
    """A PUT of the contract of that label."""
    return Put(contract=contract(label), state=Blob(state))


@dataclass(slots=True)
class MessageCounter:
    """Finds the messages in what a server sends, and keeps them only if asked to.

    Attributes:
        messages: that have come whole.
        kept: the payload of every data frame so far; None: nothing is kept.
    """

    messages: int = 0
    kept: bytearray | None = None
    _header: bytearray = field(default_factory=bytearray)
    _left: int = 0
    _is_data: bool = False
    _is_final: bool = False

    def feed(self, data: memoryview) -> None:
        """Takes what a socket brought."""
        at, stop = 0, len(data)
        while at < stop or (self._left == 0 and self._header):
            if not self._left:
                at = self._take_header(data, at)
                if at < 0:
                    return
            taken = min(self._left, stop - at)
            if self.kept is not None and self._is_data:
                self.kept += data[at : at + taken]
            at += taken
            self._left -= taken
            if not self._left:
                self._header.clear()
                self.messages += self._is_data and self._is_final

    def _take_header(self, data: memoryview, at: int) -> int:
        """Where the payload starts, or -1 when the header is not complete."""
        needed = 2
        while len(self._header) < needed:
            if at == len(data):
                return -1
            self._header.append(data[at])
            at += 1
            if len(self._header) == 2:
                needed = {126: 4, 127: 10}.get(self._header[1], 2)
            elif len(self._header) > 2:
                needed = 4 if self._header[1] == 126 else 10
        first, second = self._header[0], self._header[1]
        if first & 0x0F == OPCODE_CLOSE:
            raise NodeFailed("the node closed the connection")
        self._is_data = first & 0x0F <= OPCODE_BINARY
        self._is_final = bool(first & 0x80)
        self._left = second if second < 126 else int.from_bytes(self._header[2:], "big")
        return at


def receive(sock: socket.socket, counter: MessageCounter, messages: int) -> None:
    """Reads a blocking socket until the counter has seen so many messages."""
    buffer = memoryview(bytearray(RECEIVE_BYTES))
    while counter.messages < messages:
        received = sock.recv_into(buffer)
        if not received:
            raise NodeFailed("the node hung up")
        counter.feed(buffer[:received])


def ask(sock: socket.socket, frames: bytes) -> bytes:
    """Sends one request and returns the one message that answers it."""
    sock.sendall(frames)
    counter = MessageCounter(kept=bytearray())
    receive(sock, counter, 1)
    assert counter.kept is not None
    return bytes(counter.kept)


def pieces(data: bytes, size: int) -> Iterator[memoryview]:
    """Views of `data`, `size` bytes each but for the last."""
    view = memoryview(data)
    return (view[at : at + size] for at in range(0, len(view), size))
