"""A WebSocket client that shows what is on the wire: frames, fragments, close codes, raw bytes.

Enters: a node's URL. Leaves: what it sent, frame by frame. The `websockets` library's sans-I/O
`ClientProtocol` over a blocking socket, so that every wait has a deadline and nothing is hidden.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event
from websockets.uri import parse_uri

from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.keys import code_hash, contract_key
from simnode.protocol.limits import CHUNK_SIZE
from simnode.protocol.messages.contracts import ContractContainer, ContractKey
from simnode.protocol.messages.requests import ClientRequest, Get, Put, StreamChunk
from simnode.protocol.messages.responses import GetResponse, HostResult, StreamHeader
from tests.support.neutral import checked

TIMEOUT_S = 20.0
READ_BYTES = 1 << 20


class ConnectionEnded(Exception):
    """The server ended the TCP connection."""


@dataclass(frozen=True, slots=True)
class Message:
    """A WebSocket message as it came.

    Attributes:
        fragments: the lengths of its frames, in bytes.
    """

    data: bytes
    fragments: tuple[int, ...]


def contract(code: bytes = b"code", params: bytes = b"") -> ContractContainer:
    """A contract under the key that its code and parameters give."""
    key = contract_key(code_hash(Blob(code)), Blob(params))
    return ContractContainer(data=Blob(code), code_hash=key.code, params=Blob(params), key=key)


def put_of(state: bytes, *, code: bytes = b"code", params: bytes = b"", subscribe: bool = False) -> Put:
    """A well-formed PUT."""
    return Put(
        contract=contract(code, params),
        state=Blob(state),
        related_contracts=(),
        subscribe=subscribe,
        blocking_subscribe=False,
    )


def get_of(key: ContractKey, *, code: bool = False, subscribe: bool = False) -> Get:
    """A GET."""
    return Get(key=key.instance, return_contract_code=code, subscribe=subscribe, blocking_subscribe=False)


def chunks_of(message: bytes, stream_id: int, size: int = CHUNK_SIZE) -> list[StreamChunk]:
    """A serialized message as the chunks that carry it."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return [
        StreamChunk(stream_id=stream_id, index=index, total=len(pieces), data=Blob(piece))
        for index, piece in enumerate(pieces)
    ]


class FrameClient:
    """One connection. Use it in a `with` block; every wait ends after `timeout_s` with `TimeoutError`.

    Args:
        url: of the node, with its query.
        headers: beyond those of a handshake.
        receive_buffer_bytes: of the socket; small, to be a slow reader.
        source: a local address to connect from, to be another host; empty: any.

    Attributes:
        response: the server's answer to the handshake, whatever it was.
    """

    def __init__(
        self,
        url: str,
        *,
        encoding: Encoding = Encoding.NATIVE,
        headers: Iterable[tuple[str, str]] = (),
        timeout_s: float = TIMEOUT_S,
        receive_buffer_bytes: int = 0,
        source: str = "",
    ) -> None:
        self._codec = codec_for(encoding)
        self._timeout_s = timeout_s
        separator = "&" if "?" in url else "?"
        self._uri = parse_uri(f"{url}{separator}encodingProtocol={encoding.value}")
        self._headers = list(headers)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        if source:
            self.sock.bind((source, 0))
        self.sock.settimeout(timeout_s)
        self._protocol = ClientProtocol(self._uri, max_size=None)
        #: data frames that came and were not taken
        self._frames: deque[Frame] = deque()
        self._fragments: list[bytes] = []
        self._streams: dict[int, list[bytes]] = {}
        self.received_bytes = 0
        #: what came in reads after the one that had the close frame in it
        self.bytes_after_close = 0
        #: pings that came
        self.pings = 0
        try:
            self.response: Response = self._connect()
        except BaseException:
            self.sock.close()
            raise

    def _connect(self) -> Response:
        self.sock.connect((self._uri.host, self._uri.port))
        request = self._protocol.connect()
        for name, value in self._headers:
            request.headers[name] = value
        self._protocol.send_request(request)
        self._flush()
        while not (events := self._protocol.events_received()):
            self._read()
        response, *frames = events
        assert isinstance(response, Response)
        self._take(frames)
        return response

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    # ---- sending -----------------------------------------------------------------------------

    def send(self, message: bytes | ClientRequest, *, fragment_bytes: int = 0) -> None:
        """Sends one message, as one frame or in fragments of `fragment_bytes`."""
        data = message if isinstance(message, bytes) else self.encode(message)
        if not fragment_bytes:
            self._protocol.send_binary(data)
        else:
            for at in range(0, len(data), fragment_bytes):
                piece, fin = data[at : at + fragment_bytes], at + fragment_bytes >= len(data)
                if at == 0:
                    self._protocol.send_binary(piece, fin=fin)
                else:
                    self._protocol.send_continuation(piece, fin=fin)
        self._flush()

    def send_text(self, data: bytes) -> None:
        """Sends a Text message."""
        self._protocol.send_text(data)
        self._flush()

    def send_chunked(self, request: ClientRequest, stream_id: int) -> None:
        """Sends a request in StreamChunks."""
        for chunk in self.chunks(request, stream_id):
            self.send(chunk)

    def send_anyway(self, message: bytes | ClientRequest) -> None:
        """Sends one message whatever the state of the connection, as a rude client would."""
        data = message if isinstance(message, bytes) else self.encode(message)
        self.sock.sendall(Frame(Opcode.BINARY, data).serialize(mask=True))

    def send_close(self, code: int = 1000) -> None:
        """Begins the closing handshake."""
        self._protocol.send_close(code)
        self._flush()

    def encode(self, request: ClientRequest) -> bytes:
        """A request, serialized."""
        return bytes(self._codec.encode_request(request))

    def decode(self, message: bytes) -> HostResult | StreamChunk | StreamHeader:
        """A message of the server, deserialized."""
        return checked(self._codec.decode_result(Blob(message)))

    def chunks(self, request: ClientRequest, stream_id: int) -> list[StreamChunk]:
        """A request as StreamChunks."""
        return chunks_of(self.encode(request), stream_id)

    # ---- receiving ---------------------------------------------------------------------------

    def message(self) -> Message:
        """The next whole message.

        Raises:
            ConnectionEnded: there is none.
            TimeoutError: none came in time.
        """
        fragments: list[bytes] = []
        while True:
            frame = self._frame()
            fragments.append(bytes(frame.data))
            if frame.fin:
                return Message(b"".join(fragments), tuple(map(len, fragments)))

    def result(self) -> HostResult | StreamChunk | StreamHeader:
        """The next message, decoded; chunks are not put together."""
        return self.decode(self.message().data)

    def answer(self) -> HostResult:
        """The next answer, put together when it came in chunks; streams may be interleaved."""
        while True:
            result = self.result()
            if isinstance(result, StreamHeader):
                continue
            if not isinstance(result, StreamChunk):
                return result
            pieces = self._streams.setdefault(result.stream_id, [])
            assert result.index == len(pieces), "a stream is sent in order"
            pieces.append(bytes(result.data))
            if len(pieces) == result.total:
                whole = self.decode(b"".join(self._streams.pop(result.stream_id)))
                assert not isinstance(whole, StreamChunk | StreamHeader)
                return whole

    def ask(self, request: ClientRequest) -> HostResult:
        """Sends a request and returns the next answer."""
        self.send(request)
        return self.answer()

    def got(self, key: ContractKey, *, code: bool = False) -> GetResponse:
        """GETs a contract that is there."""
        answer = self.ask(get_of(key, code=code))
        assert isinstance(answer, GetResponse), answer
        return answer

    def chunk(self) -> StreamChunk:
        """The next message, which is a chunk."""
        chunk = self.result()
        assert isinstance(chunk, StreamChunk), chunk
        return chunk

    def closed(self) -> Close:
        """Reads to the end of the TCP connection and returns the close frame that came before it.

        Raises:
            AssertionError: there was none.
        """
        try:
            while True:
                self._frame()
        except ConnectionEnded:
            pass
        assert self._protocol.close_rcvd is not None, "the connection ended without a close frame"
        return self._protocol.close_rcvd

    def body(self) -> bytes:
        """The body of an HTTP answer that was no upgrade."""
        return bytes(self.response.body or b"")

    def _frame(self) -> Frame:
        while True:
            self._take(self._protocol.events_received())
            if self._frames:
                return self._frames.popleft()
            self._read()

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            assert isinstance(event, Frame)
            if event.opcode is Opcode.PING:
                self.pings += 1
            elif event.opcode in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
                self._frames.append(event)

    def _read(self) -> None:
        try:
            data = self.sock.recv(READ_BYTES)
        except ConnectionResetError as error:
            raise ConnectionEnded("reset") from error
        if not data:
            self._protocol.receive_eof()
            raise ConnectionEnded("end of stream")
        self.received_bytes += len(data)
        if self._protocol.close_rcvd is not None:
            self.bytes_after_close += len(data)
        self._protocol.receive_data(data)
        self._flush()

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self.sock.sendall(data)


def http(url: str, request: bytes, *, pauses_at: Iterable[int] = (), timeout_s: float = TIMEOUT_S) -> tuple[int, bytes]:
    """Sends raw bytes and returns the status and the whole reply.

    Args:
        pauses_at: offsets at which the sender waits until the kernel has delivered what is out.
    """
    address = urlsplit(url)
    assert address.hostname is not None
    with socket.create_connection((address.hostname, address.port), timeout=timeout_s) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = 0
        for stop in (*pauses_at, len(request)):
            sock.sendall(request[at:stop])
            at = stop
            wait_until_taken(sock)
        reply = b""
        while data := sock.recv(65536):
            reply += data
    return int(reply.split(b" ", 2)[1]), reply


def wait_until_taken(sock: socket.socket, *, timeout_s: float = 5.0) -> None:
    """Returns when the peer's kernel has acknowledged everything."""
    import fcntl
    import termios

    deadline = time.monotonic() + timeout_s
    while struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0]:
        assert time.monotonic() < deadline, "the peer does not read"
