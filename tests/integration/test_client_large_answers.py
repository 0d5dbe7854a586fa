"""The public client and a real node: as many large answers at once as the protocol lets a node stream."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Callable

import pytest

import simnode
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import MAX_CONCURRENT_STREAMS, MIB
from tests.support.live_node import LiveNode

STATE_BYTES = 40 * MIB


@pytest.mark.parametrize("encoding", list(Encoding))
async def test_eight_large_states_arrive_side_by_side(
    node: LiveNode, unique: Callable[[], bytes], encoding: Encoding
) -> None:
    async with simnode.connect(node.url, encoding=encoding) as client:
        keys = []
        for number in range(MAX_CONCURRENT_STREAMS):
            with mmap.mmap(-1, STATE_BYTES) as state:
                state[0] = number
                keys.append(await client.put(code=b"code", params=unique(), state=state))
        answers = await asyncio.gather(*(client.get(key) for key in keys))
        assert [(len(answer.state), answer.state.view[0]) for answer in answers] == [
            (STATE_BYTES, number) for number in range(MAX_CONCURRENT_STREAMS)
        ]
        for key in keys:
            await client.update(key, state=b"")  # the tests share the node
