"""A connection handler dies, or is stopped: its clients notice, nobody else does, and its slot is served again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import lmdb
import pytest

from simnode.protocol.blob import Blob
from simnode.protocol.limits import MIB
from simnode.protocol.messages.contracts import State
from simnode.protocol.messages.requests import Get, QuerySubscriptionInfo, StreamChunk, Subscribe, Update
from simnode.protocol.messages.responses import (
    GetResponse,
    NetworkDebug,
    NotFound,
    PutResponse,
    SubscribeResponse,
    UpdateNotification,
    UpdateResponse,
)
from tests.chaos.conftest import (
    STUCK_AFTER_S,
    a_client_on_each_handler,
    handler_of,
    kill,
    without_supervisor,
)
from tests.support.live_node import LiveNode, wait_until
from tests.support.vectors import counting_bytes
from tests.support.wire import ConnectionEnded, FrameClient, get_of, put_of

FIRST, SECOND = "connection_handler-0", "connection_handler-1"
NOWHERE = bytes(32)
TCP_CLOSE_TIMEOUT_S = 3.0
Unique = Callable[[], bytes]


def serves(client: FrameClient) -> bool:
    return client.ask(Get(key=NOWHERE)) == NotFound(instance_id=NOWHERE)


def subscriptions_to(client: FrameClient, contract: bytes) -> int:
    answer = client.ask(QuerySubscriptionInfo())
    assert isinstance(answer, NetworkDebug)
    return sum(subscription.contract_key == contract for subscription in answer.subscriptions)


def test_its_clients_see_the_connection_end_and_others_go_on(node: LiveNode, unique: Unique) -> None:
    request = put_of(b"old", params=unique())
    key = request.contract.key
    with a_client_on_each_handler(node) as clients:
        victim, bystander = clients[FIRST], clients[SECOND]
        bystander.ask(request)
        for client in (victim, bystander):
            assert isinstance(client.ask(Subscribe(key=key.instance)), SubscribeResponse)
        began = time.monotonic()
        pid = node.kill(FIRST)
        with pytest.raises(ConnectionEnded):
            victim.message()
        assert time.monotonic() - began < TCP_CLOSE_TIMEOUT_S
        assert serves(bystander)
        wait_until("its subscriptions end", lambda: subscriptions_to(bystander, key.instance) == 1, timeout_s=5)
        bystander.send(Update(key=key, data=State(state=Blob(b"new"))))
        assert bystander.answer() == UpdateNotification(key=key, update=State(state=Blob(b"new")))
        assert isinstance(bystander.answer(), UpdateResponse)
        node.wait_for_another(FIRST, pid)
    with a_client_on_each_handler(node) as clients:
        assert serves(clients[FIRST])


def test_its_place_among_the_readers_of_the_index_is_free_again(node: LiveNode) -> None:
    """LMDB forgets no dead reader by itself, and when its table is full nobody can read any more."""
    with FrameClient(node.url) as one, FrameClient(node.url) as two:
        assert serves(one)
        assert serves(two)

    def readers() -> str:
        with lmdb.open(str(node.run_dir / "data" / "index"), readonly=True) as environment:
            return environment.readers()

    pid = node.pid_of(FIRST)
    assert str(pid) in readers()
    kill(node, FIRST)
    wait_until("its slot is free", lambda: str(pid) not in readers(), timeout_s=5)


def test_its_leases_go_back(node: LiveNode, unique: Unique) -> None:
    with a_client_on_each_handler(node) as clients:
        wait_until("nothing is in flight", lambda: node.metric("simnode_reserved_bytes") == 0, timeout_s=5)
        victim = clients[FIRST]
        for stream_id in range(3):
            victim.send(StreamChunk(stream_id=stream_id, index=0, total=40, data=Blob(b"x")))
        assert serves(victim)
        wait_until("it is leased", lambda: node.metric("simnode_reserved_bytes") >= 30 * MIB, timeout_s=5)
        node.kill(FIRST)
        wait_until("nothing is in flight", lambda: node.metric("simnode_reserved_bytes") == 0, timeout_s=5)


def test_leases_of_writes_that_were_under_way_go_back_or_are_stored(node: LiveNode, unique: Unique) -> None:
    """The store has them in hand when their handler dies: large PUTs, and states that change nothing."""
    same, new = put_of(counting_bytes(MIB), params=unique()), put_of(counting_bytes(MIB), params=unique())
    with a_client_on_each_handler(node) as clients:
        victim, bystander = clients[FIRST], clients[SECOND]
        bystander.ask(same)
        wait_until("nothing is in flight", lambda: node.metric("simnode_reserved_bytes") == 0, timeout_s=5)
        store = node.kill("contract_store-0", signal.SIGSTOP)
        try:
            for request in (Update(key=same.contract.key, data=State(state=same.state)), new):
                victim.send(request)
            wait_until("both are leased", lambda: node.metric("simnode_reserved_bytes") >= 2 * MIB, timeout_s=3)
            assert serves(victim)
            kill(node, FIRST)
        finally:
            node.kill("contract_store-0", signal.SIGCONT)
        wait_until("nothing is in flight", lambda: node.metric("simnode_reserved_bytes") == 0, timeout_s=5)
        for request in (same, new):
            answer = bystander.ask(get_of(request.contract.key))
            assert answer == GetResponse(key=request.contract.key, contract=None, state=request.state)
        assert node.pid_of("contract_store-0") == store, "it outlives those who asked it"


def test_code_of_a_contract_survives_the_handler_that_brought_it(node: LiveNode, unique: Unique) -> None:
    """Code and state come in one segment; the store must have read the one before it lets go of the other."""
    requests = [put_of(counting_bytes(MIB), code=unique() + counting_bytes(3 * MIB)) for _ in range(6)]
    with a_client_on_each_handler(node) as clients:
        victim, bystander = clients[FIRST], clients[SECOND]
        for request in requests:
            victim.send_anyway(request)
        victim.answer()
        pid = kill(node, FIRST)
        node.wait_for_another(FIRST, pid)
        for request in requests:
            answer = bystander.ask(get_of(request.contract.key, code=True))
            if not isinstance(answer, NotFound):
                assert answer == GetResponse(key=request.contract.key, contract=request.contract, state=request.state)
            assert bystander.ask(request) == PutResponse(key=request.contract.key)
            answer = bystander.ask(get_of(request.contract.key, code=True))
            assert answer == GetResponse(key=request.contract.key, contract=request.contract, state=request.state)


def test_new_client_is_served_while_a_handler_is_stopped(node: LiveNode) -> None:
    """The front door places it anew after two seconds; the stopped one is killed a little later."""
    pid = node.kill(FIRST, signal.SIGSTOP)
    with FrameClient(node.url) as one, FrameClient(node.url) as two:
        assert serves(one)
        assert serves(two)
        node.wait_for_another(FIRST, pid, timeout_s=STUCK_AFTER_S + 15)
        assert serves(one)
        assert serves(two)


def test_stopped_handler_is_replaced_and_its_clients_see_the_end(node: LiveNode) -> None:
    with a_client_on_each_handler(node) as clients:
        began = time.monotonic()
        pid = node.kill(SECOND, signal.SIGSTOP)
        assert serves(clients[FIRST])
        node.wait_for_another(SECOND, pid, timeout_s=STUCK_AFTER_S + 15)
        with pytest.raises(ConnectionEnded):
            clients[SECOND].message()
        assert time.monotonic() - began > STUCK_AFTER_S - 1, "a process that is merely busy is left alone"
        assert serves(clients[FIRST])


def test_handler_that_wakes_up_does_not_touch_a_socket_that_went_to_another(node: LiveNode) -> None:
    """Two processes reading one connection would each get half of its bytes."""
    with without_supervisor(node):  # which would kill it
        stopped = node.kill(FIRST, signal.SIGSTOP)
        try:
            clients = [FrameClient(node.url) for _ in range(4)]
        finally:
            node.kill(FIRST, signal.SIGCONT)
        wait_until("it beats again", lambda: node.pid_of(FIRST) == stopped, timeout_s=5)
        for client in clients:
            assert handler_of(node, client) == SECOND
            for _ in range(50):
                assert serves(client)
            client.sock.close()
    with a_client_on_each_handler(node) as found:
        assert serves(found[FIRST])


def test_supervisor_that_was_stopped_itself_does_not_blame_the_others(node: LiveNode) -> None:
    """After Ctrl-Z and fg everybody's heartbeat is old."""
    slots = ("contract_store-0", FIRST, SECOND, "front_door-0")
    pids = {slot: node.pid_of(slot) for slot in slots}
    with without_supervisor(node):
        for slot in slots:
            node.kill(slot, signal.SIGSTOP)
        time.sleep(STUCK_AFTER_S + 1)  # what is tested is the passing of time
    # the supervisor looks at them twice before the others are awake
    time.sleep(0.6)
    for slot in slots:
        node.kill(slot, signal.SIGCONT)
    with FrameClient(node.url) as client:
        assert serves(client)
    assert {slot: node.pid_of(slot) for slot in slots} == pids
