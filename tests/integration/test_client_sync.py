"""The synchronous client when its thread does not start, dies, is not there, or when its caller is interrupted."""

from __future__ import annotations

import asyncio
import errno
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from simnode.client import Backoff, ClientClosed, ConnectionEvent, Lost, SyncClient, connect_sync, loop_thread
from simnode.client.loop_thread import LoopThread
from simnode.protocol.blob import Blob
from simnode.protocol.messages import requests, responses
from simnode.protocol.messages.contracts import Delta
from tests.support.eventually import eventually
from tests.support.fake_node import NO_REPLY, FakeNode

ROOT = Path(__file__).parents[2]
QUICK = Backoff(initial_s=0.001, max_s=0.001)
TIMEOUT_S = 20.0


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    async with FakeNode() as node:
        yield node


async def elsewhere(use: Callable[[], Any]) -> Any:
    """Runs what blocks in a thread; it must not block for ever."""
    async with asyncio.timeout(TIMEOUT_S):
        return await asyncio.to_thread(use)


# ---- a thread that does not start ----------------------------------------------------------------


async def test_a_loop_that_cannot_be_made_is_raised_in_who_opens_the_client(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> asyncio.AbstractEventLoop:
        raise OSError(errno.EMFILE, "Too many open files")

    def use() -> None:
        before = threading.active_count()
        client = connect_sync(node.url)
        monkeypatch.setattr(asyncio.events, "new_event_loop", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            client.open()
        assert threading.active_count() == before
        with pytest.raises(ClientClosed, match="Too many open files"):
            client.get(bytes(32))
        monkeypatch.undo()
        with client:  # it may be tried again
            assert client.node.connected_peers().peers

    await elsewhere(use)


async def test_a_thread_that_has_a_loop_already_is_raised_in_who_opens_the_client(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What gevent's monkey-patching makes of the second client's thread: a greenlet in the thread of the first."""

    class Greenlet(threading.Thread):
        def run(self) -> None:
            async def run_inside() -> None:
                super(Greenlet, self).run()

            asyncio.run(run_inside())

    def use() -> None:
        with connect_sync(node.url) as first:
            monkeypatch.setattr(threading, "Thread", Greenlet)
            second = connect_sync(node.url)
            with pytest.raises(RuntimeError, match="gevent"):
                second.open()
            assert first.node.connected_peers().peers
            second.close()

    await elsewhere(use)


async def test_a_system_without_threads_is_raised_in_who_opens_the_client(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def use() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="can't start"):
                connect_sync(node.url).open()

    await elsewhere(use)


async def test_a_client_that_is_open_is_not_opened_again(node: FakeNode) -> None:
    def use() -> None:
        with connect_sync(node.url) as client:
            with pytest.raises(ClientClosed, match="opened once"):
                client.open()
            assert client.node.connected_peers().peers, "and goes on"

    await elsewhere(use)


# ---- a thread that ends --------------------------------------------------------------------------


async def test_what_ends_the_thread_is_raised_in_every_call_under_way_and_in_every_later_one(node: FakeNode) -> None:
    asked = asyncio.Event()

    def hold(peer: object, ticket: object, request: object) -> object:
        if isinstance(request, requests.Get):
            asked.set()
            return NO_REPLY
        return None

    def leave(event: ConnectionEvent) -> None:
        if isinstance(event, Lost):
            sys.exit(3)

    node.on_request = hold
    client = connect_sync(node.url, reconnect=QUICK, on_event=leave)
    with ThreadPoolExecutor() as threads:
        await elsewhere(client.open)
        calls = [threads.submit(client.get, bytes(32)), threads.submit(client.next_notification)]
        async with asyncio.timeout(TIMEOUT_S):
            await asked.wait()
        node.lose_connections()
        for call in calls:
            error = await elsewhere(call.exception)
            assert isinstance(error, Exception), error
    with pytest.raises(ClientClosed, match=r"SystemExit\(3\)") as caught:
        await elsewhere(lambda: client.get(bytes(32)))
    assert isinstance(caught.value.__cause__, SystemExit)
    await elsewhere(client.close)


async def test_a_call_that_was_handed_over_to_a_loop_that_ends_fails_too() -> None:
    thread = LoopThread()
    thread.start()
    entered, go_on = threading.Event(), threading.Event()

    async def block() -> None:
        entered.set()
        go_on.wait(TIMEOUT_S)
        raise SystemExit(3)

    async def wait() -> None:
        await asyncio.Event().wait()

    first = thread.begin(block())
    assert await elsewhere(lambda: entered.wait(TIMEOUT_S))
    second = thread.begin(wait())
    go_on.set()
    assert isinstance(await elsewhere(first.exception), SystemExit)
    assert isinstance(await elsewhere(second.exception), ClientClosed)
    await elsewhere(thread.stop)


async def test_closing_from_another_thread_fails_what_is_under_way(node: FakeNode) -> None:
    with ThreadPoolExecutor() as threads:
        client = connect_sync(node.url)
        await elsewhere(client.open)
        waiting = threads.submit(client.next_notification)
        await eventually(lambda: client._subject._receiver._change._waiters)
        await elsewhere(client.close)
        assert isinstance(await elsewhere(waiting.exception), ClientClosed)


async def test_asking_from_inside_the_thread_is_an_error_and_not_a_deadlock(node: FakeNode) -> None:
    errors: list[BaseException] = []

    def ask(event: ConnectionEvent) -> None:
        try:
            client.get(bytes(32))
        except RuntimeError as error:
            errors.append(error)

    client = connect_sync(node.url, reconnect=QUICK, on_event=ask)
    await elsewhere(client.open)
    node.lose_connections()
    await eventually(lambda: errors)
    assert "its own thread" in str(errors[0])
    await elsewhere(client.close)


# ---- a caller that is interrupted ----------------------------------------------------------------


class Interrupted(Future[Any]):
    """Its caller is interrupted when the result is there, and has not been returned yet."""

    times = 0

    def result(self, timeout: float | None = None) -> Any:
        result = super().result(timeout)
        if Interrupted.times:
            Interrupted.times -= 1
            raise KeyboardInterrupt
        return result


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Interrupts the next call just when it has its result."""
    monkeypatch.setattr(loop_thread, "Future", Interrupted)

    def next_one() -> None:
        Interrupted.times = 1

    yield next_one
    assert not Interrupted.times


async def test_what_an_interrupted_caller_did_not_get_is_the_next_ones(
    node: FakeNode, interrupt: Callable[[], None]
) -> None:
    """A delta that vanished so would be missing below all that follow."""

    def subscribe() -> SyncClient:
        client = connect_sync(node.url)
        client.open()
        key = client.put(code=b"code", state=b"0", subscribe=True)
        client.subscribe(key, summary=b"summary")
        for number in range(3):
            client.update(key, delta=b"%d" % number)
        return client

    def take(client: SyncClient) -> list[object]:
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            client.next_notification(timeout_s=TIMEOUT_S)
        client.node.connected_peers()  # by now what was undone is there
        taken = [client.next_notification(timeout_s=TIMEOUT_S).update]
        interrupt()
        with pytest.raises(KeyboardInterrupt):
            next(client.notifications())
        client.node.connected_peers()
        return [*taken, *(client.next_notification(timeout_s=TIMEOUT_S).update for _ in range(2))]

    client = await elsewhere(subscribe)
    assert await elsewhere(lambda: take(client)) == [Delta(delta=Blob(b"%d" % number)) for number in range(3)]
    await elsewhere(client.close)


async def test_a_stream_whose_opener_was_interrupted_does_not_stop_the_connection(
    node: FakeNode, interrupt: Callable[[], None]
) -> None:
    state = bytes(3_000_000)

    def use() -> None:
        with connect_sync(node.url) as client:
            key = client.put(code=b"code", state=state)
            interrupt()
            with pytest.raises(KeyboardInterrupt), client.get_stream(key):
                pytest.fail("was interrupted before")
            client.send(requests.Get(key=bytes(32)))
            assert isinstance(client.recv(timeout_s=TIMEOUT_S), responses.NotFound)

    await elsewhere(use)


# ---- other processes -----------------------------------------------------------------------------


async def run(program: str, url: str) -> tuple[int, str, str]:
    """Runs a program that knows the node as `url`: its status, and what it printed and complained of."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"import simnode\nurl = {url!r}\n{program}",
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_a_process_without_descriptors_is_told_so(node: FakeNode) -> None:
    program = """
import os, resource
from simnode.client import ClientError
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
client = simnode.connect_sync(url)
taken = []
for spare in (0, 1, 2, 3, 4):  # none for the loop, for its pipe, for the socket …
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    for _ in range(spare):
        os.close(taken.pop())
    try:
        simnode.connect_sync(url).open()
    except (OSError, ClientError) as error:
        print(spare, type(error).__name__)
for descriptor in taken:
    os.close(descriptor)
with client:
    print(len(client.node.connected_peers().peers))
"""
    status, output, _ = await run(program, node.url)  # Python complains of the loop that was made by half
    assert status == 0
    lines = output.splitlines()
    assert lines[0] == "0 OSError"
    assert lines[-1] == "1"
    assert len(lines) >= 4


FORK = """
import os, sys
from simnode.client import ClientClosed
client = simnode.connect_sync(url)
client.open()
pid = os.fork()
if not pid:
    for use in (lambda: client.get(bytes(32)), lambda: next(client.notifications()), client.open):
        try:
            use()
            print("not refused")
        except ClientClosed as error:
            print("refused")
    client.close()
    with simnode.connect_sync(url) as another:
        print(len(another.node.connected_peers().peers), flush=True)
    {leave}
assert os.waitpid(pid, 0)[1] == 0
for _ in range(3):
    print(len(client.node.connected_peers().peers))
client.close()
"""


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)"])
async def test_a_forked_process_is_told_so_and_its_parent_goes_on(node: FakeNode, leave: str) -> None:
    status, output, errors = await run(FORK.format(leave=leave), node.url)
    assert (status, errors) == (0, ""), errors
    assert output.splitlines() == ["refused"] * 3 + ["1"] * 4


@pytest.mark.parametrize(
    "program",
    [
        "client = simnode.connect_sync(url)\nclient.open()",
        "client = simnode.connect_sync(url, reconnect=True)\nclient.open()\nimport sys\nsys.exit(0)",
        # its `with` ends while the interpreter takes itself apart, when no other thread runs any more
        "def use():\n    with simnode.connect_sync(url) as client:\n        yield client\nuse = use()\nnext(use)",
        # somebody waits
        "import contextlib, threading\nfrom simnode.client import ClientClosed\n"
        "client = simnode.connect_sync(url)\nclient.open()\n"
        "def wait():\n    with contextlib.suppress(ClientClosed):\n        client.next_notification()\n"
        "threading.Thread(target=wait, daemon=True).start()",
    ],
    ids=["open", "exit", "generator", "waiting"],
)
async def test_a_program_may_end_without_closing(node: FakeNode, program: str) -> None:
    assert await run(program, node.url) == (0, "", "")
