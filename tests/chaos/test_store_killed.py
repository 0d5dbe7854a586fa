"""The contract store dies: what is stored stays, reads go on, writes are refused politely, then work again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from simnode.protocol.blob import Blob
from simnode.protocol.codec.base import Encoding
from simnode.protocol.limits import MIB
from simnode.protocol.messages.contracts import Delta, State
from simnode.protocol.messages.error_kinds import NodeUnavailable
from simnode.protocol.messages.requests import Subscribe, Update
from simnode.protocol.messages.responses import (
    Err,
    GetResponse,
    NotFound,
    PutResponse,
    SubscribeResponse,
    UpdateNotification,
    UpdateResponse,
)
from simnode.storage.index import Index
from simnode.storage.rows import ContractRow
from tests.chaos.conftest import RESTART_TIMEOUT_S, kill, wait_for_writes, without_supervisor
from tests.support.live_node import LiveNode, wait_until
from tests.support.vectors import counting_bytes
from tests.support.wire import FrameClient, get_of, put_of

STORE = "contract_store-0"
Unique = Callable[[], bytes]


@pytest.mark.parametrize("encoding", list(Encoding))
def test_requests_meanwhile_get_node_unavailable_and_the_connection_lives(
    node: LiveNode, unique: Unique, encoding: Encoding
) -> None:
    small, large = put_of(b"small", params=unique()), put_of(counting_bytes(2 * MIB), params=unique())
    other = put_of(counting_bytes(700_000), params=unique())
    key = small.contract.key
    with FrameClient(f"{node.url}?streaming=true", encoding=encoding) as client:
        for request in (small, large):
            assert client.ask(request) == PutResponse(key=request.contract.key)
        with without_supervisor(node):
            pid = kill(node, STORE)
            for refused_one in (
                other,
                put_of(b"x", params=unique()),
                Update(key=key, data=Delta(delta=Blob(b"x"))),
                Subscribe(key=key.instance),
                get_of(key, subscribe=True),
            ):
                assert client.ask(refused_one) == Err(NodeUnavailable())
            for request in (small, large):
                assert client.got(request.contract.key).state == request.state
        node.wait_for_another(STORE, pid)
        wait_for_writes(client)
        assert client.ask(other) == PutResponse(key=other.contract.key)
        for request in (small, large, other):
            assert client.got(request.contract.key).state == request.state


@pytest.mark.parametrize("nbytes", [100, 300_000])
def test_every_put_that_was_answered_is_there_and_every_other_got_an_error(
    node: LiveNode, unique: Unique, nbytes: int
) -> None:
    """Killed in the middle of a flood of pipelined writes."""
    requests = [put_of(b"%d " % number + counting_bytes(nbytes), params=unique()) for number in range(300)]
    enough = threading.Event()
    answers: list[object] = []

    def read(client: FrameClient) -> None:
        for number in range(len(requests)):
            answers.append(client.answer())
            if number == 20:
                enough.set()

    with FrameClient(node.url) as client:
        reader = threading.Thread(target=read, args=(client,), daemon=True)
        reader.start()
        killer = threading.Thread(target=lambda: enough.wait(20) and node.kill(STORE), daemon=True)
        killer.start()
        pid = node.pid_of(STORE)
        for request in requests:
            client.send_anyway(request)  # `send` is not for two threads
        for thread in (killer, reader):
            thread.join(RESTART_TIMEOUT_S)
            assert not thread.is_alive(), f"{len(answers)} of {len(requests)} requests were answered"
        node.wait_for_another(STORE, pid)
        wait_for_writes(client)
        stored = [request for request in requests if PutResponse(key=request.contract.key) in answers]
        refused = [answer for answer in answers if answer == Err(NodeUnavailable())]
        assert len(stored) + len(refused) == len(requests)
        for request in requests:
            answer = client.ask(get_of(request.contract.key))
            if request in stored or not isinstance(answer, NotFound):  # committed perhaps, but never torn
                assert isinstance(answer, GetResponse)
                assert answer.state == request.state
        # and what was refused may be asked for once more
        for request in requests[-20:]:
            assert client.ask(request) == PutResponse(key=request.contract.key)


def test_states_that_replaced_each_other_leave_nothing_behind(node: LiveNode, unique: Unique) -> None:
    """The store dies before it has told what it kept, and what it replaced since."""
    params = [unique() for _ in range(3)]
    requests = [put_of(b"%d " % number + counting_bytes(300_000), params=params[number % 3]) for number in range(60)]
    with FrameClient(node.url) as client:
        pid = node.pid_of(STORE)
        for request in requests[:8]:
            assert client.ask(request) == PutResponse(key=request.contract.key)
        node.kill(STORE)
        for request in requests[8:]:
            assert client.ask(request) in (PutResponse(key=request.contract.key), Err(NodeUnavailable()))
        node.wait_for_another(STORE, pid)
        wait_for_writes(client)
        wait_until("nothing is in flight", lambda: node.metric("simnode_reserved_bytes") == 0, timeout_s=5)
        for first in requests[:3]:
            sent = [request.state for request in requests if request.contract.key == first.contract.key]
            assert client.got(first.contract.key).state in sent


def test_subscriptions_outlive_the_store(node: LiveNode, unique: Unique) -> None:
    request = put_of(b"old", params=unique())
    key = request.contract.key
    with FrameClient(node.url) as subscriber, FrameClient(node.url) as writer:
        writer.ask(request)
        assert isinstance(subscriber.ask(Subscribe(key=key.instance)), SubscribeResponse)
        pid = kill(node, STORE)
        node.wait_for_another(STORE, pid)
        wait_for_writes(writer)
        assert isinstance(writer.ask(Update(key=key, data=State(state=Blob(b"new")))), UpdateResponse)
        assert subscriber.answer() == UpdateNotification(key=key, update=State(state=Blob(b"new")))


def test_change_that_was_committed_but_not_told_reaches_subscribers_after_the_restart(
    node: LiveNode, unique: Unique
) -> None:
    """The store died between the two; here the test commits in its place."""
    request = put_of(b"old", params=unique())
    key = request.contract.key
    with FrameClient(node.url) as subscriber:
        subscriber.ask(request)
        subscriber.ask(Subscribe(key=key.instance, summary=Blob(b"s")))
        with without_supervisor(node):
            kill(node, STORE)
            index = Index(node.run_dir / "data" / "index", max_readers=40)
            row = index.get(key.instance)
            assert row is not None
            with index.write() as writing:
                writing.put_row(ContractRow(row.instance, row.version + 1, row.code_hash, row.params, (b"new",)))
            index.close()
        assert subscriber.answer() == UpdateNotification(key=key, update=State(state=Blob(b"new")))
        wait_for_writes(subscriber)


def test_store_that_dies_again_and_again_comes_back_each_time(node: LiveNode, unique: Unique) -> None:
    request = put_of(counting_bytes(100_000), params=unique())
    with FrameClient(node.url) as client:
        client.ask(request)
        for _ in range(2):
            pid = kill(node, STORE)
            node.wait_for_another(STORE, pid)
            wait_for_writes(client)
        assert client.got(request.contract.key).state == request.state
