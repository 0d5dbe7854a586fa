"""Responses taken piece by piece. Enters: chunks. Leaves: the same, at the reader's pace. Next: `waiting.py`.

A `ResponseStream` hands out the serialized response as it comes, a `StateStream` the state in it.
Both hold one chunk at a time: while a chunk lies unread, the session reads nothing further from
the connection, unless somebody else waits for an answer on it.
"""

from __future__ import annotations

import asyncio
import mmap
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

from simnode.client.exceptions import ClientError, ReplyBroken, RequestTimeout
from simnode.protocol.blob import Blob
from simnode.protocol.codec.base import Codec
from simnode.protocol.errors import DecodeError
from simnode.protocol.events import ChunkReceived
from simnode.protocol.limits import CHUNK_SIZE
from simnode.protocol.messages.contracts import ContractKey
from simnode.protocol.messages.responses import GetResponse, GetResponseContent, HostResult, StreamHeader
from simnode.protocol.reassembly import HeapSink


class ResponseStream:
    """A response under way, chunk by chunk; iterate over it, or `collect()` it.

    ::

        stream = await client.recv_stream()
        async for chunk in stream:
            progress(stream.received_bytes / stream.total_bytes)

    Attributes:
        header: what announced it.
        total_bytes: length of the serialized response, known before the first chunk.
        received_bytes: how much of it has arrived.
    """

    def __init__(self, header: StreamHeader, *, codec: Codec, timeout_s: float, on_demand: Callable[[], None]) -> None:
        self.header = header
        self.total_bytes: int = header.total_bytes
        self.received_bytes = 0
        #: bytes that arrived and were not taken
        self.unread_bytes = 0
        self._codec = codec
        self._timeout_s = timeout_s
        self._on_demand = on_demand
        self._unread: deque[Blob] = deque()
        self._next_index = 0
        self._error: ClientError | None = None
        self._is_closed = False
        self._arrival: asyncio.Future[None] | None = None

    @property
    def key(self) -> ContractKey | None:
        """The contract whose state is coming; None if the node did not say."""
        return self.header.content.key if isinstance(self.header.content, GetResponseContent) else None

    @property
    def is_complete(self) -> bool:
        """Whether all of the announced bytes have arrived."""
        return self.received_bytes >= self.total_bytes

    def __aiter__(self) -> AsyncIterator[memoryview]:
        return self

    async def __anext__(self) -> memoryview:
        """The next piece of the serialized response, in order; the view stays valid for as long as it is kept.

        Raises:
            RequestTimeout: no chunk came for the request's `timeout_s`.
            ReplyBroken: a chunk is missing or in the wrong place (the node's fault).
            ConnectionLost: the connection ended first.
        """
        while not self._unread:
            if self._error is not None:
                raise self._error
            if self._is_closed or self.is_complete:
                raise StopAsyncIteration
            await self._wait()
        chunk = self._unread.popleft()
        self.unread_bytes -= len(chunk)
        self._on_demand()
        return chunk.view

    async def collect(self) -> HostResult:
        """The whole response, put together in one buffer; only before any chunk was taken.

        Raises:
            ReplyBroken: the chunks are no response (the node's fault); else as iterating does.
        """
        assert self.received_bytes == self.unread_bytes, "chunks that were taken cannot be collected"
        return await collect(self, codec=self._codec)

    def close(self) -> None:
        """Nobody wants the rest; it is dropped as it arrives."""
        self._is_closed = True
        self._unread.clear()
        self.unread_bytes = 0
        self._on_demand()

    # ---- for the session ---------------------------------------------------------------------

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the next chunk."""
        return self._arrival is not None

    def feed(self, chunk: ChunkReceived) -> None:
        """A chunk arrived."""
        self.received_bytes += len(chunk.data)
        if self._error is not None:
            return
        if chunk.index != self._next_index:
            self._end(ReplyBroken(f"chunk {chunk.index} came in place of chunk {self._next_index}"))
        elif self.received_bytes > self.total_bytes:
            self._end(ReplyBroken(f"more than the announced {self.total_bytes} bytes came"))
        elif chunk.index + 1 == chunk.total and self.received_bytes < self.total_bytes:
            self._end(ReplyBroken(f"the last chunk came after {self.received_bytes} of {self.total_bytes} bytes"))
        elif not self._is_closed:
            self._unread.append(chunk.data)
            self.unread_bytes += len(chunk.data)
        self._next_index += 1
        self._wake()

    def fail(self, error: ClientError) -> None:
        """No more chunks will come; those that did are still handed out."""
        if self._error is None and not self.is_complete:
            self._end(error)

    # ---- inside ------------------------------------------------------------------------------

    def _end(self, error: ClientError) -> None:
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def _wait(self) -> None:
        assert self._arrival is None, "a stream has one reader"
        self._arrival = asyncio.get_running_loop().create_future()
        self._on_demand()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._arrival
        except TimeoutError:
            raise RequestTimeout(f"stream {self.header.stream_id}", self._timeout_s) from None
        finally:
            self._arrival = None


async def collect(stream: ResponseStream, *, codec: Codec, first: memoryview | None = None) -> HostResult:
    """The response whose chunks are `first`, if one was taken already, and all that follow."""
    sink = HeapSink(stream.total_bytes)
    at = 0
    if first is not None:
        sink.write(0, first)
        at = len(first)
    async for chunk in stream:
        sink.write(at, chunk)
        at += len(chunk)
    try:
        return codec.decode_result(sink.finish(at))
    except DecodeError as error:
        raise ReplyBroken(f"stream {stream.header.stream_id} is no response: {error}") from error


class StateStream:
    """A contract's state, piece by piece; made by `Client.get_stream`.

    Attributes:
        key: the contract's key.
        total_bytes: length of the state, known before the first piece.
    """

    def __init__(self, key: ContractKey, total_bytes: int, pieces: AsyncIterator[memoryview]) -> None:
        self.key = key
        self.total_bytes = total_bytes
        self._pieces = pieces

    @classmethod
    async def open(cls, response: GetResponse | ResponseStream, codec: Codec) -> StateStream:
        """The state in a response, whether it came whole or is still coming.

        Raises:
            ReplyBroken: what comes is no GetResponse; else as `ResponseStream` does.
        """
        if isinstance(response, GetResponse):
            return cls._whole(response)
        first = await anext(response)
        prefix = _bytes_before_state(response.header, codec)
        if prefix is not None and bytes(first[: len(prefix)]) == prefix:
            assert response.key is not None
            return cls(response.key, response.total_bytes - len(prefix), _after(first[len(prefix) :], response))
        # the state lies elsewhere in the message, so the message is needed whole
        result = await collect(response, codec=codec, first=first)
        if not isinstance(result, GetResponse):
            raise ReplyBroken(f"a GetResponse was announced and {type(result).__name__} came")
        return cls._whole(result)

    @classmethod
    def _whole(cls, response: GetResponse) -> StateStream:
        return cls(response.key, len(response.state), _pieces_of(response.state))

    def __aiter__(self) -> AsyncIterator[memoryview]:
        return self._pieces


def _bytes_before_state(header: StreamHeader, codec: Codec) -> bytes | None:
    """How an announced GetResponse without code begins, if it is serialized as this codec does it.

    Found by encoding such a response around a state of the right length that takes no memory:
    an anonymous mapping that nobody touches.
    """
    content = header.content
    if not isinstance(content, GetResponseContent) or content.includes_contract:
        return None
    hollow = memoryview(mmap.mmap(-1, header.total_bytes))
    overhead = len(codec.encode_result(_response(content.key, hollow))) - header.total_bytes
    state_bytes = header.total_bytes - overhead
    if state_bytes < 0:
        return None
    *before, last = codec.encode_result(_response(content.key, hollow[:state_bytes])).parts
    return b"".join(before) if len(last) == state_bytes else None


def _response(key: ContractKey, state: memoryview) -> GetResponse:
    return GetResponse(key=key, contract=None, state=Blob(state))


async def _after(first: memoryview, rest: ResponseStream) -> AsyncIterator[memoryview]:
    if first:
        yield first
    del first  # one chunk at a time
    async for chunk in rest:
        yield chunk


async def _pieces_of(state: Blob) -> AsyncIterator[memoryview]:
    for piece in _cut(state.view):
        yield piece


def _cut(view: memoryview) -> Iterator[memoryview]:
    return (view[at : at + CHUNK_SIZE] for at in range(0, len(view), CHUNK_SIZE))
