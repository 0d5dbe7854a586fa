"""A connection on which a test says exactly what it wants and sees exactly what it gets, in any mode.

Enters: a node's URL and a `Mode`. Leaves: `Answer`s: decoded by our client codec, and as bytes.
The socket is the stock `websockets` client; what comes in chunks is put together here, by hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.protocol import State

from simnode.protocol.blob import Blob, Rope
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.codec.flatbuffers_errors import error_text
from simnode.protocol.keys import code_hash, contract_key
from simnode.protocol.messages.contracts import ContractContainer
from simnode.protocol.messages.error_kinds import DeserializationError, ErrorKind
from simnode.protocol.messages.requests import ClientRequest, Get, Put, StreamChunk
from simnode.protocol.messages.responses import Err, HostResult, NotFound, StreamHeader
from tests.support.neutral import checked

ANSWER_TIMEOUT_S = 30.0

UNKNOWN_INSTANCE = b"nobody's contract".ljust(32, b".")
STRICT_TOKEN = "right"
"""What the strict node of `tests/integration/conftest.py` asks for."""


@dataclass(frozen=True)
class Mode:
    """How a connection speaks."""

    encoding: Encoding
    streaming: bool

    def __str__(self) -> str:
        return self.encoding.value + ("-streaming" if self.streaming else "")


MODES = [Mode(encoding, streaming) for encoding in Encoding for streaming in (False, True)]


@dataclass(frozen=True)
class Answer:
    """One result as it came."""

    result: HostResult
    #: the serialized result, put together if it came in pieces
    data: bytes
    header: StreamHeader | None = None
    #: how many StreamChunks it came in; 0: it was a message of its own
    chunks: int = 0


@dataclass
class ModeConnection:
    """An open connection in some mode; see `open_connection`."""

    mode: Mode
    socket: ClientConnection
    _headers: dict[int, StreamHeader] = field(default_factory=dict)
    _pieces: dict[int, list[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.codec = codec_for(self.mode.encoding)

    async def send(self, request: ClientRequest) -> None:
        """One message, however long."""
        await self.socket.send(bytes(self.codec.encode_request(request)))

    async def send_chunk(self, stream_id: int, index: int, total: int, data: bytes = b"") -> None:
        """One StreamChunk, which may be as wrong as the test wants it."""
        chunk = self.codec.encode_request_chunk(stream_id=stream_id, index=index, total=total, data=Rope([data]))
        await self.socket.send(bytes(chunk))

    async def receive_message(self) -> bytes:
        """The next WebSocket message."""
        message = await asyncio.wait_for(self.socket.recv(), ANSWER_TIMEOUT_S)
        assert isinstance(message, bytes), "a node sends binary messages only"
        return message

    async def receive(self) -> Answer:
        """The next whole result."""
        while True:
            data = await self.receive_message()
            result = checked(self.codec.decode_result(Blob(data)))
            match result:
                case StreamHeader(stream_id=stream_id):
                    self._headers[stream_id] = result
                case StreamChunk(stream_id=stream_id, index=index, total=total, data=piece):
                    pieces = self._pieces.setdefault(stream_id, [])
                    assert index == len(pieces), "a node sends the chunks of a stream in order"
                    pieces.append(bytes(piece))
                    if len(pieces) == total:
                        return self._whole(stream_id)
                case _:
                    return Answer(result, data)

    def _whole(self, stream_id: int) -> Answer:
        pieces = self._pieces.pop(stream_id)
        data = b"".join(pieces)
        header = self._headers.pop(stream_id, None)
        return Answer(checked(self.codec.decode_result(Blob(data))), data, header, len(pieces))

    async def ask(self, request: ClientRequest) -> HostResult:
        """Sends a request and waits for the next result, whatever that is."""
        await self.send(request)
        return (await self.receive()).result

    # ---- what nearly every test wants to know ------------------------------------------------

    async def lives(self) -> bool:
        """Whether the next request is answered, and nothing else comes first."""
        return await self.ask(Get(key=UNKNOWN_INSTANCE)) == NotFound(instance_id=UNKNOWN_INSTANCE)

    def reads_as(self, result: HostResult, kind: ErrorKind) -> bool:
        """Whether a result is this error, as far as the encoding tells: flatbuffers have its text alone."""
        if not isinstance(result, Err):
            return False
        if self.mode.encoding is Encoding.FLATBUFFERS:
            return error_text(result.kind) == error_text(kind)
        return result.kind == kind

    async def refuses(self, request: ClientRequest, kind: ErrorKind) -> bool:
        """Whether a request gets this error, and the connection lives."""
        return self.reads_as(await self.ask(request), kind) and await self.lives()

    async def says_undecodable(self) -> bool:
        """Whether the next result is about a message that is none, and the connection lives."""
        result = (await self.receive()).result
        return isinstance(result, Err) and isinstance(result.kind, DeserializationError) and await self.lives()


@asynccontextmanager
async def open_connection(
    url: str, mode: Mode, *, token: str | None = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[ModeConnection]:
    """A connection to `url` in `mode`, with a token in the query."""
    query = {"encodingProtocol": mode.encoding.value, "streaming": str(mode.streaming).lower()}
    if token is not None:
        query["authToken"] = token
    socket = await connect(
        f"{url}?{urlencode(query)}",
        additional_headers=headers,
        compression=None,
        max_size=None,
        ping_interval=None,
        proxy=None,
    )
    try:
        yield ModeConnection(mode, socket)
    finally:
        # one that the node has ended is not closed again: websockets 17.4 then aborts a transport
        # that asyncio has taken apart already, and fails
        if socket.state is State.OPEN:
            await socket.close()


def put_of(code: bytes, state: Blob | bytes = b"", *, subscribe: bool = False) -> Put:
    """The PUT of a contract without parameters, under its right key."""
    hashed = code_hash(code)
    container = ContractContainer(data=Blob(code), code_hash=hashed, params=Blob(), key=contract_key(hashed, b""))
    return Put(contract=container, state=Blob.of(state), subscribe=subscribe)
