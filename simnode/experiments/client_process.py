"""A real client in a process of its own. Enters: orders on standard input. Leaves: samples. Next: `client_handle.py`.

Run as `python -m simnode.experiments.client_process`; it ends when its standard input does. It uses
the public client as any program would, and keeps no payload: what it puts is mapped from the file,
what it gets is let go before the next get.
"""

from __future__ import annotations

import asyncio
import mmap
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import BinaryIO

from blake3 import blake3

from simnode.client import Client, ClientError, connect
from simnode.experiments.child_process import lines_from_parent
from simnode.experiments.client_protocol import (
    Connect,
    Done,
    Failed,
    GetState,
    Order,
    PutCuts,
    Report,
    Sample,
    read_order,
    to_line,
)
from simnode.protocol.keys import code_hash, contract_key
from simnode.protocol.messages.contracts import ContractKey

CODE = b"simnode experiment"
"""Stands for a contract's WebAssembly: an experiment is about states."""

WARM_UP_STATE = bytes(1024)


def key_of(params: str) -> ContractKey:
    """The contract that the experiment means by `params`."""
    return contract_key(code_hash(CODE), params.encode())


class ClientProcess:
    """Carries orders out.

    Args:
        reports: where reports go.
    """

    def __init__(self, reports: BinaryIO) -> None:
        self._reports = reports
        self._open_client = AsyncExitStack()
        self._client: Client | None = None
        self._files: dict[str, memoryview] = {}

    async def run(self, orders: AsyncIterator[bytes]) -> None:
        """Until there are no more orders, or one fails."""
        async with self._open_client:
            async for line in orders:
                try:
                    await self._carry_out(read_order(line))
                except (ClientError, OSError) as error:
                    self._report(Failed(reason=f"{type(error).__name__}: {error}"))
                    return
                self._report(Done())

    async def _carry_out(self, order: Order) -> None:
        match order:
            case Connect():
                client = connect(order.url, encoding=order.encoding, streaming=order.streaming)
                self._client = await self._open_client.enter_async_context(client)
                await self._client.put(code=CODE, params=order.warm_up.encode(), state=WARM_UP_STATE)
                await self._client.get(key_of(order.warm_up))
            case PutCuts():
                for turn in range(order.repetitions):
                    path, offset, nbytes = order.cuts[turn % len(order.cuts)]
                    await self._put(order.params, self._mapped(path)[offset : offset + nbytes])
            case GetState():
                get = self._get_in_pieces if order.piece_by_piece else self._get_whole
                for _ in range(order.repetitions):
                    await get(key_of(order.params), order.blake3)

    async def _put(self, params: str, state: memoryview) -> None:
        began_s = time.perf_counter()
        key = await self._connected.put(code=CODE, params=params.encode(), state=state)
        self._report(Sample(seconds=time.perf_counter() - began_s, matches=key == key_of(params)))

    async def _get_whole(self, key: ContractKey, digest: str) -> None:
        began_s = time.perf_counter()
        response = await self._connected.get(key)
        matches = blake3(response.state.view).hexdigest() == digest
        self._report(Sample(seconds=time.perf_counter() - began_s, matches=matches))

    async def _get_in_pieces(self, key: ContractKey, digest: str) -> None:
        began_s = time.perf_counter()
        hasher = blake3()
        async with self._connected.get_stream(key) as stream:
            async for piece in stream:
                hasher.update(piece)
        matches = hasher.hexdigest() == digest
        self._report(Sample(seconds=time.perf_counter() - began_s, matches=matches))

    @property
    def _connected(self) -> Client:
        assert self._client is not None, "the first order is Connect"
        return self._client

    def _mapped(self, path: str) -> memoryview:
        if path not in self._files:
            with open(path, "rb") as file:
                self._files[path] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return self._files[path]

    def _report(self, report: Report) -> None:
        self._reports.write(to_line(report))
        self._reports.flush()


async def _main() -> None:
    await ClientProcess(sys.stdout.buffer).run(lines_from_parent())


if __name__ == "__main__":
    asyncio.run(_main())
