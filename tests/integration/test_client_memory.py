"""What the client holds in memory, counted by tracemalloc; the node is in another process, so it does not count."""

from __future__ import annotations

import asyncio
import mmap
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

import simnode
from simnode.client import Client
from simnode.protocol.limits import MIB
from simnode.protocol.messages import requests
from simnode.protocol.messages.contracts import ContractKey

STATE_BYTES = 30 * MIB
FEW_BYTES = 3 * MIB
"""Some chunks on their way: in the frame parser, masked, joined with their envelope."""

ROOT = Path(__file__).parents[2]

Peak = Callable[[], int]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.fake_node",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield (await process.stdout.readline()).decode().strip()
    process.stdin.close()
    assert await process.wait() == 0


@pytest.fixture(params=[True, False], ids=["streaming", "whole"])
async def client(url: str, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with simnode.connect(url, streaming=request.param) as client:
        yield client


@pytest.fixture
async def key(client: Client) -> ContractKey:
    with mmap.mmap(-1, STATE_BYTES) as state:
        return await client.put(code=b"code", state=state)


@pytest.fixture
async def peak(key: ContractKey) -> AsyncIterator[Peak]:
    """How much more was held at the worst moment of the test than before it, in bytes."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    yield lambda: tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()


async def test_a_put_copies_some_chunks_of_the_state_at_a_time(client: Client, peak: Peak) -> None:
    with mmap.mmap(-1, STATE_BYTES) as state:
        await client.put(code=b"code", state=state)
    assert peak() < FEW_BYTES


async def test_a_get_puts_the_answer_together_once(client: Client, key: ContractKey, peak: Peak) -> None:
    assert len((await client.get(key)).state) == STATE_BYTES
    # a buffer that grows is up to an eighth larger than what is in it
    assert STATE_BYTES < peak() < STATE_BYTES * 9 / 8 + FEW_BYTES


async def test_a_recv_puts_the_answer_together_once(client: Client, key: ContractKey, peak: Peak) -> None:
    await client.send(requests.Get(key=key.instance))
    await client.recv()
    assert STATE_BYTES < peak() < STATE_BYTES * 9 / 8 + FEW_BYTES


@pytest.mark.parametrize("client", [True], indirect=True, ids=["streaming"])
async def test_a_stream_holds_a_chunk_at_a_time(client: Client, key: ContractKey, peak: Peak) -> None:
    async with client.get_stream(key) as stream:
        assert sum([len(piece) async for piece in stream]) == STATE_BYTES
    await client.send(requests.Get(key=key.instance))
    raw = await client.recv_stream()
    assert sum([len(chunk) async for chunk in raw]) == raw.total_bytes
    assert peak() < FEW_BYTES
