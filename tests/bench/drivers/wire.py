"""A WebSocket client by hand. Enters: a URL. Leaves: sockets, frames, counts. Next: the drivers beside it.

Frames are masked before anything is timed, and of what arrives only the headers are read.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from websockets.frames import DATA_OPCODES, Frame, Opcode

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.chunking import cut_into_chunks
from simnode.protocol.codec.base import Codec
from simnode.protocol.keys import code_hash, contract_key
from simnode.protocol.limits import CHUNK_THRESHOLD
from simnode.protocol.messages.contracts import ContractContainer
from simnode.protocol.messages.requests import ClientRequest, Put

TIMEOUT_S = 30.0
RECEIVE_BYTES = 1 << 20
FIN = 0x80
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
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
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
    return Frame(Opcode.BINARY, message).serialize(mask=True)


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
        kept: the messages so far, the last one perhaps in part; None: nothing is kept.
    """

    messages: int = 0
    kept: list[bytearray] | None = None
    #: of the frame under way, as much of it as has come
    _header: bytearray = field(default_factory=bytearray)
    #: bytes of its payload that are still to come
    _left: int = 0

    def feed(self, data: memoryview) -> None:
        """Takes what a socket brought."""
        at = 0
        while at < len(data):
            if self._left:
                payload = data[at : at + self._left]
                at += len(payload)
                self._take(payload)
            else:
                piece = data[at : at + self._header_bytes_missing()]
                at += len(piece)
                self._header += piece
                if not self._header_bytes_missing():
                    self._begin_frame()

    def _header_bytes_missing(self) -> int:
        if len(self._header) < 2:
            return 2 - len(self._header)
        return {126: 4, 127: 10}.get(self._header[1], 2) - len(self._header)

    def _begin_frame(self) -> None:
        if self._opcode is Opcode.CLOSE:
            raise NodeFailed("the node closed the connection")
        if self.kept is not None and self._opcode in (Opcode.TEXT, Opcode.BINARY):
            self.kept.append(bytearray())
        length = self._header[1]
        self._left = length if length < 126 else int.from_bytes(self._header[2:], "big")
        if not self._left:
            self._end_frame()

    def _take(self, payload: memoryview) -> None:
        if self.kept is not None and self._opcode in DATA_OPCODES:
            self.kept[-1] += payload
        self._left -= len(payload)
        if not self._left:
            self._end_frame()

    def _end_frame(self) -> None:
        self.messages += self._opcode in DATA_OPCODES and self._header[0] >= FIN
        self._header.clear()

    @property
    def _opcode(self) -> Opcode:
        return Opcode(self._header[0] & 0x0F)


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
    return receive_one(sock)


def receive_one(sock: socket.socket) -> bytes:
    """The next message."""
    kept: list[bytearray] = []
    receive(sock, MessageCounter(kept=kept), 1)
    return bytes(kept[0])
