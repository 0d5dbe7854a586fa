"""The front door or the metrics exporter dies: who is connected goes on, and the ports stay the same."""

from __future__ import annotations

import signal
import threading

import pytest

from simnode.protocol.messages.requests import Get
from simnode.protocol.messages.responses import NotFound
from tests.chaos.conftest import a_client_on_each_handler, handler_of, kill, without_supervisor
from tests.support.live_node import LiveNode, wait_until
from tests.support.wire import ConnectionEnded, FrameClient

NOWHERE = bytes(32)
FRONT_DOOR, EXPORTER = "front_door-0", "metrics_exporter-0"


def serves(client: FrameClient) -> bool:
    return client.ask(Get(key=NOWHERE)) == NotFound(instance_id=NOWHERE)


def connects(node: LiveNode) -> bool:
    try:
        with FrameClient(node.url) as client:
            return serves(client)
    except (ConnectionRefusedError, ConnectionEnded):  # nobody listens, or stopped just now
        return False


def test_existing_connections_go_on_and_new_ones_work_after_the_restart(node: LiveNode) -> None:
    with a_client_on_each_handler(node) as clients:
        with without_supervisor(node):
            pid = kill(node, FRONT_DOOR)
            assert all(serves(client) for client in clients.values())
            assert not connects(node)
        node.wait_for_another(FRONT_DOOR, pid)
        wait_until("new clients are served at the same port", lambda: connects(node), timeout_s=10)
        assert all(serves(client) for client in clients.values())


def test_new_front_door_knows_the_load_of_the_handlers(node: LiveNode) -> None:
    """So that connections are spread evenly over those that are there already."""
    clients = [FrameClient(node.url) for _ in range(6)]
    try:
        for client in clients[::2]:
            assert serves(client)
        slots = [handler_of(node, client) for client in clients]
        for client, slot in zip(clients, slots, strict=True):
            if slot == "connection_handler-0":
                client.sock.close()
        left = [client for client, slot in zip(clients, slots, strict=True) if slot == "connection_handler-1"]
        wait_until("the closed ones are counted", lambda: node.metric("simnode_connections_open") == 3, timeout_s=5)
        pid = kill(node, FRONT_DOOR)
        node.wait_for_another(FRONT_DOOR, pid)
        wait_until("new clients are served", lambda: connects(node), timeout_s=10)
        added = [FrameClient(node.url) for _ in range(3)]
        clients += added
        assert [handler_of(node, client) for client in added] == ["connection_handler-0"] * 3
        assert all(serves(client) for client in (*left, *added))
    finally:
        for client in clients:
            client.sock.close()


def test_handler_that_loses_many_clients_while_the_front_door_is_stopped_still_counts_right(node: LiveNode) -> None:
    """The socket between the two holds a few hundred messages; what does not fit must not be forgotten."""
    clients = [FrameClient(node.url) for _ in range(900)]
    try:
        node.kill(FRONT_DOOR, signal.SIGSTOP)
        for client in clients:
            client.sock.close()
        wait_until("all are gone", lambda: node.metric("simnode_connections_open") == 0, timeout_s=10)
    finally:
        node.kill(FRONT_DOOR, signal.SIGCONT)
    # evenly spread again: neither handler is thought to have hundreds
    added = [FrameClient(node.url) for _ in range(10)]
    slots = [handler_of(node, client) for client in added]
    for client in added:
        assert serves(client)
        client.sock.close()
    assert slots.count("connection_handler-0") == 5


def test_client_that_connects_while_the_front_door_restarts_is_served_at_last(node: LiveNode) -> None:
    served = threading.Event()

    def try_again_and_again() -> None:
        while not connects(node):
            pass
        served.set()

    kill(node, FRONT_DOOR)
    thread = threading.Thread(target=try_again_and_again, daemon=True)
    thread.start()
    assert served.wait(20)
    thread.join()


def test_exporter_comes_back_at_the_same_port(node: LiveNode) -> None:
    before = node.metric("simnode_connections_opened_total")
    with without_supervisor(node):
        kill(node, EXPORTER)
        with pytest.raises(OSError, match=r"refused|reset"):
            node.metric("simnode_connections_opened_total")
        assert connects(node)

    def is_back() -> bool:
        try:
            return node.metric("simnode_connections_opened_total") > before
        except OSError:
            return False

    wait_until("the metrics are back", is_back, timeout_s=20)
