"""Peer 2: what anybody would write first. Stock `websockets`, `recv()`, a dict, one process.

In: nothing. Out: one line `ready ws://…` on stdout; it serves until it is killed. Compression and
TCP_NODELAY are as the library sets them; only its limit of a message is raised.
"""

from __future__ import annotations

import asyncio

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.bench.peers.obvious_node import MAX_MESSAGE_BYTES, Conversation, ObviousNode, wants_streaming


async def main() -> None:
    node = ObviousNode()

    async def converse(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        conversation = Conversation(node, streaming=wants_streaming(websocket.request.path))
        while True:
            try:
                message = await websocket.recv(decode=False)
                for answer in conversation.receive(message):
                    await websocket.send(answer)
            except ConnectionClosed:
                return  # clients that end without a close frame are the rule

    async with serve(converse, "127.0.0.1", 0, max_size=MAX_MESSAGE_BYTES) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"ready ws://127.0.0.1:{port}/v1/contract/command", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
