"""Who may ask, and what happens while a part of the node is full or away: three encodings, streaming on and off."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from simnode.protocol.limits import CHUNK_SIZE, MIB
from simnode.protocol.messages.contracts import State
from simnode.protocol.messages.error_kinds import NodeUnavailable, Unhandled
from simnode.protocol.messages.requests import Authenticate, ClientRequest, Get, Subscribe, Update
from simnode.protocol.messages.responses import Err, PutResponse
from tests.support.live_node import LiveNode, live_node
from tests.support.modes import MODES, STRICT_TOKEN, UNKNOWN_INSTANCE, Mode, ModeConnection, open_connection, put_of

TOKEN_INVALID = Unhandled(
    cause="AUTH_TOKEN_INVALID: The auth token is no longer valid. This usually happens after a node restart. "
    "Please refresh the page to get a new token."
)
NOT_AUTHENTICATED = Unhandled(cause="not authenticated: present a valid token first")

in_each_mode = pytest.mark.parametrize("mode", MODES, ids=str)


# ---- tokens --------------------------------------------------------------------------------------


async def is_turned_away(connection: ModeConnection) -> bool:
    """Whether the error comes in the connection's encoding, then the close code."""
    told = connection.reads_as((await connection.receive()).result, TOKEN_INVALID)
    with contextlib.suppress(ConnectionClosed):
        await connection.receive_message()
        return False
    socket = connection.socket
    return told and (socket.close_code, socket.close_reason) == (4401, "AUTH_TOKEN_INVALID")


@in_each_mode
async def test_a_wrong_token_in_the_query_is_told_and_turned_away(strict_node: LiveNode, mode: Mode) -> None:
    async with open_connection(strict_node.url, mode, token="guess") as connection:
        assert await is_turned_away(connection)


@in_each_mode
async def test_a_wrong_token_in_the_header_wins_over_a_right_one(strict_node: LiveNode, mode: Mode) -> None:
    headers = {"Authorization": "Bearer guess"}
    async with open_connection(strict_node.url, mode, token=STRICT_TOKEN, headers=headers) as connection:
        assert await is_turned_away(connection)


async def test_a_wrong_token_in_a_message_is_told_and_turned_away(strict_connection: ModeConnection) -> None:
    assert await strict_connection.lives()
    await strict_connection.send(Authenticate(token="guess"))
    assert await is_turned_away(strict_connection)


@in_each_mode
@pytest.mark.parametrize(
    "asked",
    [Get(key=UNKNOWN_INSTANCE), put_of(b"nobody's code"), Subscribe(key=UNKNOWN_INSTANCE)],
    ids=["get", "put", "subscribe"],
)
async def test_without_a_token_every_request_is_refused_until_one_is_shown(
    strict_node: LiveNode, mode: Mode, asked: ClientRequest
) -> None:
    async with open_connection(strict_node.url, mode) as connection:
        assert connection.reads_as(await connection.ask(asked), NOT_AUTHENTICATED)
        await connection.send(Authenticate(token=STRICT_TOKEN))
        assert await connection.lives()


@in_each_mode
async def test_without_a_token_wrong_chunks_are_answered_all_the_same(strict_node: LiveNode, mode: Mode) -> None:
    async with open_connection(strict_node.url, mode) as connection:
        await connection.send_chunk(1, 0, 0)
        cause = "stream reassembly error: total_chunks is zero"
        assert connection.reads_as((await connection.receive()).result, Unhandled(cause=cause))


# ---- a node that is full, or whose store is away -------------------------------------------------


CRAMPED_BYTES = 16 * MIB


@pytest.fixture(scope="module")
def cramped_node() -> Iterator[LiveNode]:
    """A node with room for 16 MiB in flight, and a store that the last test here kills."""
    with live_node(memory_budget_bytes=CRAMPED_BYTES) as node:
        yield node


@pytest.fixture(params=MODES, ids=str)
async def cramped_connection(request: pytest.FixtureRequest, cramped_node: LiveNode) -> AsyncIterator[ModeConnection]:
    async with open_connection(cramped_node.url, request.param) as connection:
        yield connection


async def test_a_message_for_which_the_node_has_no_room_is_answered(cramped_connection: ModeConnection) -> None:
    nbytes = CRAMPED_BYTES + MIB
    await cramped_connection.socket.send(bytes(nbytes))
    result = (await cramped_connection.receive()).result
    assert cramped_connection.reads_as(result, Unhandled(cause=f"no room for a message of {nbytes} bytes"))
    assert await cramped_connection.lives()


def cause_of(result: object) -> str:
    assert isinstance(result, Err)
    assert isinstance(result.kind, Unhandled)
    return result.kind.cause


async def test_a_stream_for_which_the_node_has_no_room_is_answered(cramped_connection: ModeConnection) -> None:
    await cramped_connection.send_chunk(0, 0, 100)
    beginning = f"stream reassembly error: the node has no room for {100 * CHUNK_SIZE} bytes"
    assert cause_of((await cramped_connection.receive()).result).startswith(beginning)
    assert await cramped_connection.lives()


async def test_a_slow_stream_that_holds_the_room_of_another_is_told_why_it_ends(
    cramped_connection: ModeConnection,
) -> None:
    """Both are answered: the one that came too late, and the slow one, whose room the next may have."""
    await cramped_connection.send_chunk(0, 0, 40, b"a byte or two")
    await cramped_connection.send_chunk(1, 0, 40)
    causes = sorted([cause_of((await cramped_connection.receive()).result) for _ in range(2)])
    assert causes[0].startswith("stream reassembly error: the node has no room for")
    assert causes[1] == "stream reassembly error: the node needs its room, and this is the slowest"
    assert await cramped_connection.lives()


def kill_and_wait(pid: int) -> None:
    """Ends a process; returns when the kernel has closed its sockets."""
    pidfd = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([pidfd], [], [], 10)[0]
    finally:
        os.close(pidfd)


async def test_while_the_store_is_away_everybody_is_told_so_and_stays_connected(cramped_node: LiveNode) -> None:
    """GETs go on, because handlers read the index themselves; writes work again when the store does."""
    put = put_of(b"kept while the store is away", b"old")
    key = put.contract.key
    async with contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(open_connection(cramped_node.url, mode)) for mode in MODES]
        assert await connections[0].ask(put) == PutResponse(key=key)
        kill_and_wait(cramped_node.pid_of("contract_store-0"))
        writes = (put, Update(key=key, data=State(state=put.state)), Subscribe(key=key.instance))
        for write in writes:
            await asyncio.gather(*(connection.send(write) for connection in connections))
        for connection in connections:
            for write in writes:
                result = (await connection.receive()).result
                where = f"{connection.mode}: {type(write).__name__} got {result}"
                assert connection.reads_as(result, NodeUnavailable()), where
            assert (await connection.ask(Get(key=key.instance))).state == b"old"
        async with asyncio.timeout(20):
            for connection in connections:
                while connection.reads_as(answer := await connection.ask(put), NodeUnavailable()):
                    pass
                assert answer == PutResponse(key=key)
