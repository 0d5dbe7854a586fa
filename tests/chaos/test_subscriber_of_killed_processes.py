"""A program that follows a contract by deltas, while handlers and stores die under it and somebody writes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import pytest

import simnode
from simnode.client import Backoff, Client, ClientError
from simnode.protocol.codec.base import Encoding
from simnode.protocol.messages.contracts import ContractKey, Delta, State
from tests.chaos.conftest import RESTART_TIMEOUT_S
from tests.support.live_node import LiveNode

QUICK = Backoff(initial_s=0.01, max_s=0.2)
KILLED = ("connection_handler-0", "contract_store-0", "connection_handler-1", "contract_store-0")


class Follower:
    """Keeps the state by notifications alone. The contract only grows, so each state it has must be how the last began.

    Attributes:
        state: None after a gap.
        seen: every change that was applied: where the state ended before it, and what was appended or put.
    """

    def __init__(self) -> None:
        self.state: bytes | None = b"."
        self.seen: list[tuple[int, bytes]] = []
        self.deltas = 0
        self.gaps = 0

    async def follow(self, client: Client) -> None:
        async for note in client.notifications():
            self.gaps += note.gap
            match note.update:
                case State(state=state):
                    self.state = bytes(state)
                    self.seen.append((0, self.state))
                case Delta(delta=delta):
                    assert self.state is not None, "a delta came after a gap"
                    self.seen.append((len(self.state), bytes(delta)))
                    self.state += bytes(delta)
                    self.deltas += 1
                case None:
                    self.state = None

    def check(self, final: bytes) -> None:
        for start, piece in self.seen:
            assert final[start : start + len(piece)] == piece, f"{piece!r} was not what followed byte {start}"


class Writer:
    """Appends again and again; what fails may or may not have been carried out."""

    def __init__(self) -> None:
        self.is_over = False
        self.writes = 0

    async def write(self, client: Client, key: ContractKey) -> None:
        for number in itertools.count():
            if self.is_over:
                return
            try:
                await client.update(key, delta=number.to_bytes(4))
                self.writes += 1
            except ClientError:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("encoding", list(Encoding))
async def test_no_delta_is_applied_to_a_state_that_it_does_not_follow(
    node: LiveNode, unique: Callable[[], bytes], encoding: Encoding
) -> None:
    follower, writer = Follower(), Writer()

    async def until(is_true: Callable[[], bool]) -> None:
        async with asyncio.timeout(RESTART_TIMEOUT_S):
            while not is_true():
                assert not any(task.done() for task in tasks), [task.result() for task in tasks if task.done()]
                await asyncio.sleep(0.01)

    async with (
        simnode.connect(node.url, encoding=encoding, reconnect=QUICK) as reader,
        simnode.connect(node.url, encoding=encoding, reconnect=QUICK, timeout_s=5) as author,
    ):
        key = await reader.put(code=b"code", params=unique(), state=b".", subscribe=True)
        await reader.subscribe(key, summary=b"summary")
        tasks = [asyncio.create_task(follower.follow(reader)), asyncio.create_task(writer.write(author, key))]
        for slot in KILLED:
            deltas = follower.deltas
            await until(lambda deltas=deltas: follower.deltas > deltas + 20)
            pid = node.kill(slot)
            await until(lambda slot=slot, pid=pid: node.pid_of(slot) not in (0, pid))
            writes = writer.writes
            await until(lambda writes=writes: writer.writes > writes + 5)
        deltas = follower.deltas
        await until(lambda: follower.deltas > deltas + 20)  # by deltas again, after all that
        writer.is_over = True
        await tasks[1]
        final = bytes((await author.get(key)).state)
        tasks.pop()
        await until(lambda: follower.state == final)
    await tasks[0]
    follower.check(final)
    assert follower.gaps >= 1, "the subscriber's own handler was killed"
