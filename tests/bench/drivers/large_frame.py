"""What one large frame does to the others of its handler. Driver in Python.

In: a URL without parameters. Out: a line of JSON. One thread sends the frame in small pieces and
asks for a small state on a second connection once a millisecond, so that neither waits for the
other on this side: what a GET takes longer while the frame is under way is the server's doing.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import time

from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.messages.requests import Get
from tests.bench.drivers.wire import MessageCounter, NodeFailed, ask, connect, contract, frame, put, request_frames
from tests.bench.measure import median

PIECE_BYTES = 64 * 1024
INTERVAL_S = 0.001
SMALL_STATE_BYTES = 256
BASELINE_S = 0.5
AFTERWARDS_S = 0.1
"""The GETs go on for so long after the answer: a server may still be busy with what it took."""


class Probe:
    """Small GETs, one at a time, at most one each `INTERVAL_S`."""

    def __init__(self, sock: socket.socket, request: bytes) -> None:
        self.sock = sock
        self.latencies_s: list[float] = []
        self._request = request
        self._due = time.perf_counter()
        self._sent_at: float | None = None
        self._counter = MessageCounter()
        self._buffer = memoryview(bytearray(64 * 1024))

    def wait_s(self) -> float:
        """Seconds until it has something to send; it has to be called by then."""
        return INTERVAL_S if self._sent_at is not None else max(0.0, self._due - time.perf_counter())

    def send_if_due(self) -> None:
        now = time.perf_counter()
        if self._sent_at is None and now >= self._due:
            self.sock.sendall(self._request)
            self._sent_at = now
            self._due = now + INTERVAL_S

    def receive(self) -> None:
        """Takes what has come."""
        received = self.sock.recv_into(self._buffer)
        if not received:
            raise NodeFailed("the node hung up on the small GETs")
        self._counter.feed(self._buffer[:received])
        if self._counter.messages and self._sent_at is not None:
            self.latencies_s.append(time.perf_counter() - self._sent_at)
            self._sent_at, self._counter.messages = None, 0

    def run_for(self, seconds: float) -> list[float]:
        """Asks, and nothing else; returns the latencies."""
        self.latencies_s = []
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop:
            self.send_if_due()
            if select.select([self.sock], [], [], self.wait_s())[0]:
                self.receive()
        return self.latencies_s


def send_beside(probe: Probe, sock: socket.socket, frames: bytes) -> float:
    """Sends a request and takes its answer, with the probe at work meanwhile; returns the seconds it took."""
    probe.latencies_s = []
    unsent = memoryview(frames)
    answer = MessageCounter()
    buffer = memoryview(bytearray(64 * 1024))
    sock.setblocking(False)
    started = time.perf_counter()
    while not answer.messages:
        probe.send_if_due()
        writers = [sock] if unsent else []
        readable, writable, _ = select.select([probe.sock, sock], writers, [], probe.wait_s())
        if probe.sock in readable:
            probe.receive()
        if writable:
            unsent = unsent[sock.send(unsent[:PIECE_BYTES]) :]
        if sock in readable:
            received = sock.recv_into(buffer)
            if not received:
                raise NodeFailed("the node hung up on the frame")
            answer.feed(buffer[:received])
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--frame-bytes", type=int, default=100_000_000)
    options = parser.parse_args()

    codec = codec_for(Encoding.NATIVE)
    url = f"{options.url}?encodingProtocol=native"
    small = connect(url)
    ask(small, request_frames(codec, put("large-frame/small", bytes(SMALL_STATE_BYTES)), 0))
    probe = Probe(small, request_frames(codec, Get(key=contract("large-frame/small").key.instance), 0))
    overhead = len(codec.encode_request(put("large-frame", b"")))
    large = frame(bytes(codec.encode_request(put("large-frame", bytes(options.frame_bytes - overhead)))))

    baseline_s = median(probe.run_for(BASELINE_S))
    took_s = send_beside(probe, connect(url), large)
    beside_s = [*probe.latencies_s, *probe.run_for(AFTERWARDS_S)]
    report = {
        "frame_bytes": options.frame_bytes,
        "seconds": took_s,
        "gets": len(beside_s),
        "baseline_ms": 1e3 * baseline_s,
        "longest_ms": 1e3 * max(beside_s),
        "stall_ms": 1e3 * (max(beside_s) - baseline_s),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
