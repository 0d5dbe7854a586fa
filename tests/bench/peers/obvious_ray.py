"""Peer 3: the same, made "distributed": the state is in a Ray actor, and each chunk is a call.

In: nothing. Out: one line `ready ws://…` on stdout; it serves until SIGTERM. One process has the
sockets; each message that arrives is an actor call, and so is each further message of an answer.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# sets Ray's environment, which must be before Ray is imported; the same settings as the node's
from actors.options import INIT, use_fresh_token

import ray  # isort: skip
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.bench.peers.obvious_node import MAX_MESSAGE_BYTES, Conversation, ObviousNode, wants_streaming

OBJECT_STORE_BYTES = 512 * 1024 * 1024
"""Arguments over 100 KiB go through it: room for the largest message several times over."""


class Contracts:
    """The actor. Its methods run one after the other, in the order of the calls."""

    def __init__(self) -> None:
        self._node = ObviousNode()
        self._conversations: dict[int, Conversation] = {}
        #: what is still to be fetched of each connection's current answer
        self._answers: dict[int, Iterator[bytes]] = {}

    def open(self, connection: int, streaming: bool) -> None:
        """A client is there."""
        self._conversations[connection] = Conversation(self._node, streaming=streaming)

    def receive(self, connection: int, message: bytes) -> bytes | None:
        """Takes one message; the first message of the answer, if it completes a request."""
        self._answers[connection] = self._conversations[connection].receive(message)
        return self.next_message(connection)

    def next_message(self, connection: int) -> bytes | None:
        """The next message of the answer; None: that was all."""
        return next(self._answers[connection], None)

    def close(self, connection: int) -> None:
        """The client is gone."""
        del self._conversations[connection]
        self._answers.pop(connection, None)


async def serve_until_told(contracts: Any) -> None:
    numbers = itertools.count()

    async def converse(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        number = next(numbers)
        await contracts.open.remote(number, wants_streaming(websocket.request.path))
        try:
            while True:
                answer = await contracts.receive.remote(number, await websocket.recv(decode=False))
                while answer is not None:
                    await websocket.send(answer)
                    answer = await contracts.next_message.remote(number)
        except ConnectionClosed:
            await contracts.close.remote(number)

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(converse, "127.0.0.1", 0, max_size=MAX_MESSAGE_BYTES) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"ready ws://127.0.0.1:{port}/v1/contract/command", flush=True)
        await stop.wait()


def main() -> None:
    directory = Path(tempfile.mkdtemp(prefix="bench-ray-"))
    try:
        use_fresh_token(directory)
        ray.init(**{**INIT, "object_store_memory": OBJECT_STORE_BYTES}, num_cpus=2, _temp_dir=str(directory))
        asyncio.run(serve_until_told(ray.remote(num_cpus=0)(Contracts).remote()))
        ray.shutdown()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
