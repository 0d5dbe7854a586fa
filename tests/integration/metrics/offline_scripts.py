"""Scripts for what no client can bring about: bugs of ours, a broken index, an end without a handler.

Each runs a role's own class in this process, with a slab of its own, and names the series that it has moved.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from simnode.live.front_door import FrontDoor
from simnode.live.handlers.handler import ConnectionHandler
from simnode.live.handlers.session import Session
from simnode.live.settings import NodeSettings
from simnode.live.store.write_batches import WriteBatches
from simnode.metrics.aggregate import sums
from simnode.metrics.catalogue import BY_NAME
from simnode.metrics.model import Role
from simnode.metrics.reader import scan_slabs
from simnode.metrics.slab import StatsSlab
from simnode.node.subscriptions import SubscriberCounts
from simnode.protocol.blob import Blob, Buffer
from simnode.protocol.codec.base import Encoding
from simnode.protocol.errors import SinkFailed
from simnode.protocol.messages.requests import QuerySubscriptionInfo, StreamChunk, Subscribe
from simnode.protocol.reassembly import HeapSink
from simnode.storage.errors import IndexFailure
from simnode.storage.index import Index
from tests.integration.metrics.request_scripts import EXPRESSES_ALL, NOWHERE, register
from tests.support.eventually import eventually
from tests.support.wire import FrameClient

Moved = tuple[str, dict[str, str]]


def run(directory: Path) -> Iterator[Moved]:
    """Runs all of them.

    Raises:
        AssertionError: a counter has another value than the script implies.
    """
    for script in (_bugs_of_a_handler, _a_broken_index, _no_handler):
        settings = NodeSettings(
            run_dir=directory / script.__name__, data_dir=directory / script.__name__ / "data", port=0
        )
        settings.segments_dir.mkdir(parents=True)
        for name, expected in asyncio.run(script(settings)).items():
            metric = BY_NAME[name]
            found = {
                labels: value for labels, value in sums(metric, scan_slabs(settings.run_dir).found).items() if value
            }
            assert found == expected, name
            for labels in expected:
                yield name, dict(zip((label.name for label in metric.labels), labels, strict=True))


Counted = dict[str, dict[tuple[str, ...], float]]


def _slab(settings: NodeSettings, role: Role) -> StatsSlab:
    return StatsSlab.open(settings.run_dir, role, 0, now_s=time.monotonic())


async def _bugs_of_a_handler(settings: NodeSettings) -> Counted:
    """A handler that was never started: whatever needs the store meets a bug, and in the end so does every message."""
    handler = ConnectionHandler(settings, 0, 0, _slab(settings, Role.CONNECTION_HANDLER))
    handler._backend.store = SimpleNamespace(call=_bug, cast=lambda *_: None)  # type: ignore[assignment]
    answered: dict[tuple[str, ...], float] = {}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        for encoding in Encoding:
            asked: dict[str, Any] = {"subscribe": Subscribe(key=NOWHERE), "delegate": register(b"code")}
            if encoding in EXPRESSES_ALL:
                asked["node_query"] = QuerySubscriptionInfo()
            await _talk(handler, listener, partial(_ask_all, encoding, list(asked.values())))
            answered |= {(kind, encoding.value, "error"): 1.0 for kind in asked}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(handler._backend, "lease", lambda nbytes, account, give: give(_BrokenSink(nbytes)))
            await _talk(handler, listener, _send_a_chunk)
            patch.setattr(Session, "message_received", _bug)
            await _talk(handler, listener, _meet_a_bug)
    return {
        "simnode_requests_total": answered,
        "simnode_reassembly_errors_total": {("sink_failed",): 1.0},
        "simnode_streams_total": {("inbound", "aborted"): 1.0},
        "simnode_connections_closed_total": {("peer_closed",): len(Encoding) + 1.0, ("internal_error",): 1.0},
    }


class _BrokenSink(HeapSink):
    def write(self, offset: int, data: Buffer) -> None:
        raise SinkFailed("the machine takes no bytes")


async def _talk(handler: ConnectionHandler, listener: socket.socket, client: Callable[[str], None]) -> None:
    """Runs a client, which gets the URL, in a thread, and waits until its connection is over."""
    loop = asyncio.get_running_loop()
    url = f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/contract/command"
    talking = loop.run_in_executor(None, client, url)
    sock, _ = await loop.sock_accept(listener)
    handler._adopt(sock)
    await talking
    await eventually(lambda: not handler._websockets)


def _bug(*_: Any) -> NoReturn:
    raise RuntimeError("a bug")


def _ask_all(encoding: Encoding, requests: list[Any], url: str) -> None:
    with FrameClient(url, encoding=encoding) as client:
        for request in requests:
            client.ask(request)
        client.send_close()
        client.closed()


def _send_a_chunk(url: str) -> None:
    with FrameClient(url) as client:
        client.ask(StreamChunk(stream_id=1, index=0, total=2, data=Blob(b"piece")))
        client.send_close()
        client.closed()


def _meet_a_bug(url: str) -> None:
    with FrameClient(url) as client:
        client.send(b"whatever")
        assert client.closed().code == 1011


async def _a_broken_index(settings: NodeSettings) -> Counted:
    settings.index_dir.mkdir()
    index = Index(settings.index_dir)
    told: list[Any] = []
    link: Any = SimpleNamespace(call_id=1, refuse=lambda *answer: told.append(answer), flush=lambda: None)
    slab = _slab(settings, Role.CONTRACT_STORE)
    writer = WriteBatches(
        settings,
        slab,
        index=index,
        service=SimpleNamespace(),
        subscribers=SubscriberCounts(settings.caps),  # type: ignore[arg-type]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "write", _broken)
        writer.add(link, "put", [bytes(32), bytes(32), b"", b"code", b"state", False])
        await eventually(lambda: told)
    await writer.close()
    index.close()
    return {"simnode_store_commits_total": {("error",): 1.0}}


def _broken() -> NoReturn:
    raise IndexFailure("the disk is full")


async def _no_handler(settings: NodeSettings) -> Counted:
    door = FrontDoor(settings, _slab(settings, Role.FRONT_DOOR))
    port = await door.start()
    with socket.create_connection(("127.0.0.1", port)):
        await eventually(lambda: not _accept_queue(port))
        await door.drain()
    return {"simnode_connections_refused_total": {("no_handler",): 1.0}}


def _accept_queue(port: int) -> int:
    """Connections that the kernel has made and the listener on `port` has not accepted."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if state == "0A" and int(local.rpartition(":")[2], 16) == port:
            return int(queues.rpartition(":")[2], 16)
    raise AssertionError(f"nobody listens on {port}")
