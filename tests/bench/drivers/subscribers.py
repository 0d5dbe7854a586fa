"""Updates of one contract to many subscribers, at times with one that does not read. Driver in Python.

In: a URL without parameters, how many subscribers in which encodings. Out: a line `ready` when all
have subscribed and one update has gone round; after a line on stdin, the work; then a line of JSON
with the seconds from each update to the last subscriber's whole notification.
"""

from __future__ import annotations

import argparse
import json
import random
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field

from simnode.protocol.blob import Blob
from simnode.protocol.chunking import count_chunks
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import CHUNK_THRESHOLD
from simnode.protocol.messages.contracts import State
from simnode.protocol.messages.requests import StreamChunk, Subscribe, Update
from simnode.protocol.messages.responses import UpdateNotification, UpdateResponse
from tests.bench.drivers.wire import (
    RECEIVE_BYTES,
    MessageCounter,
    NodeFailed,
    ask,
    connect,
    put,
    receive_one,
    request_frames,
)

LABEL = "subscribers"
QUIET_S = 0.3
"""A socket that brings nothing for so long has been read empty."""
TIMEOUT_S = 30.0


@dataclass(slots=True, eq=False)
class Subscriber:
    """A client that only listens."""

    sock: socket.socket
    encoding: Encoding
    #: messages that carry one notification
    expected: int
    counter: MessageCounter = field(default_factory=MessageCounter)


class Audience:
    """All subscribers, and the one connection that updates.

    Args:
        url: of the server, without parameters.
        count: how many subscribers.
        encodings: theirs, each of a block: whichever way connections are dealt out to processes, each has all.
        state_bytes: of the contract.
    """

    def __init__(self, url: str, count: int, encodings: list[Encoding], state_bytes: int) -> None:
        self._codec = codec_for(Encoding.NATIVE)
        self._state = bytearray(random.Random(1).randbytes(state_bytes))
        self._version = 0
        self._put = put(LABEL, bytes(self._state))
        self._updater = connect(f"{url}?encodingProtocol=native")
        ask(self._updater, request_frames(self._codec, self._put, 0))
        self.subscribers = [
            self._subscribe(url, encodings[number * len(encodings) // count]) for number in range(count)
        ]
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))

    def _subscribe(self, url: str, encoding: Encoding) -> Subscriber:
        codec = codec_for(encoding)
        sock = connect(f"{url}?encodingProtocol={encoding.value}&streaming=true")
        key = self._put.contract.key
        ask(sock, request_frames(codec, Subscribe(key=key.instance), 0))
        notification = UpdateNotification(key=key, update=State(state=Blob(self._state)))
        nbytes = len(codec.encode_result(notification))
        return Subscriber(sock, encoding, count_chunks(nbytes) if nbytes > CHUNK_THRESHOLD else 1)

    def update(self, readers: list[Subscriber]) -> float:
        """Changes the state; returns the seconds until each of `readers` has it whole."""
        self._version += 1
        self._state[:8] = self._version.to_bytes(8, "little")
        update = Update(key=self._put.contract.key, data=State(state=Blob(bytes(self._state))))
        frames = request_frames(self._codec, update, self._version)
        for reader in readers:
            reader.counter.messages = 0
        started = time.perf_counter()
        self._updater.sendall(frames)
        self._read_all(readers)
        took_s = time.perf_counter() - started
        result = self._codec.decode_result(Blob(receive_one(self._updater)))
        if not isinstance(result, UpdateResponse):
            raise NodeFailed(f"instead of UpdateResponse: {result}")
        return took_s

    def verify(self, reader: Subscriber) -> None:
        """One update, of which this subscriber's notification is looked at."""
        kept: list[bytearray] = []
        reader.counter.kept = kept
        self.update(self.subscribers)
        reader.counter.kept = None
        codec = codec_for(reader.encoding)
        results = [codec.decode_result(Blob(message)) for message in kept]
        if len(results) > 1:
            chunks = [bytes(result.data) for result in results if isinstance(result, StreamChunk)]
            results = [codec.decode_result(Blob(b"".join(chunks)))]
        match results:
            case [UpdateNotification(update=State(state=state))] if state == self._state:
                return
        raise NodeFailed(f"the notification in {reader.encoding.value} does not hold the new state")

    def drain(self, subscriber: Subscriber) -> None:
        """Reads what waits for one that did not read."""
        subscriber.sock.settimeout(QUIET_S)
        try:
            while received := subscriber.sock.recv_into(self._buffer):
                subscriber.counter.feed(self._buffer[:received])
        except TimeoutError:
            subscriber.sock.settimeout(TIMEOUT_S)
        else:
            raise NodeFailed("the node hung up on the stalled subscriber")

    def _read_all(self, readers: list[Subscriber]) -> None:
        waiting = 0
        with selectors.EpollSelector() as selector:
            for reader in readers:
                selector.register(reader.sock, selectors.EVENT_READ, reader)
                waiting += 1
            while waiting:
                ready = selector.select(TIMEOUT_S)
                if not ready:
                    raise NodeFailed(f"{waiting} subscribers had no notification within {TIMEOUT_S:.0f} s")
                for key, _ in ready:
                    reader = key.data
                    received = reader.sock.recv_into(self._buffer)
                    if not received:
                        raise NodeFailed("the node hung up on a subscriber")
                    reader.counter.feed(self._buffer[:received])
                    if reader.counter.messages >= reader.expected:
                        selector.unregister(reader.sock)
                        waiting -= 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--encodings", default="native,msgpack")
    parser.add_argument("--state-bytes", type=int, default=1 << 20)
    parser.add_argument("--updates", type=int, default=3, help="in each phase")
    parser.add_argument("--phases", type=int, default=8, help="pairs of: all read, one does not")
    options = parser.parse_args()

    encodings = [Encoding(name) for name in options.encodings.split(",")]
    audience = Audience(options.url, options.subscribers, encodings, options.state_bytes)
    for encoding in encodings:
        audience.verify(next(reader for reader in audience.subscribers if reader.encoding is encoding))
    print("ready", flush=True)
    sys.stdin.readline()

    stalled, *others = audience.subscribers
    all_read_s: list[float] = []
    one_stalled_s: list[float] = []
    for _ in range(options.phases):
        audience.update(audience.subscribers)  # as the first of the other phase is not counted either
        all_read_s += [audience.update(audience.subscribers) for _ in range(options.updates)]
        audience.update(others)  # fills the buffers on the way to the one that does not read
        one_stalled_s += [audience.update(others) for _ in range(options.updates)]
        audience.drain(stalled)
    rounds = options.phases * (2 * options.updates + 2)
    print(json.dumps({"updates": rounds, "all_read_s": all_read_s, "one_stalled_s": one_stalled_s}))


if __name__ == "__main__":
    main()
