"""A process that has no file descriptor left: clients wait or hear of it, nobody is lost, and nothing spins."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from simnode.protocol.limits import KIB, MIB
from simnode.protocol.messages.requests import Get, Put
from simnode.protocol.messages.responses import Err, GetResponse, HostResult, NotFound, PutResponse
from tests.chaos.conftest import a_client_on_each_handler, handler_of
from tests.support.descriptors import descriptors_left
from tests.support.live_node import LiveNode, wait_until
from tests.support.vectors import counting_bytes
from tests.support.wire import FrameClient, get_of, put_of

NOWHERE = bytes(32)
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def serves(client: FrameClient) -> bool:
    return client.ask(Get(key=NOWHERE)) == NotFound(instance_id=NOWHERE)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


@pytest.mark.parametrize("slots", [("front_door-0",), ("connection_handler-0", "connection_handler-1")])
def test_client_waits_until_there_are_descriptors_again(node: LiveNode, slots: tuple[str, ...]) -> None:
    pids = [node.pid_of(slot) for slot in slots]
    served = threading.Event()

    def connect() -> None:
        with FrameClient(node.url) as client:
            assert serves(client)
        served.set()

    with a_client_on_each_handler(node) as clients:
        waiting = threading.Thread(target=connect)
        before = sum(map(cpu_s, pids))
        with descriptors_left(pids[0]), descriptors_left(pids[-1]):
            waiting.start()
            assert not served.wait(1.5), "what is tested is that nothing happens"
            assert all(serves(client) for client in clients.values())
        assert sum(map(cpu_s, pids)) - before < 0.7
        assert served.wait(10)
        waiting.join()
        assert all(serves(client) for client in clients.values())
    assert [node.pid_of(slot) for slot in slots] == pids


Unique = Callable[[], bytes]

LARGE = 70 * KIB
"""More than what travels inside a message or lies in a row: it costs a segment, and that two descriptors."""

STATES = 100
SPARE = 64


def test_client_is_answered_when_there_is_no_descriptor_for_its_message_or_its_state(
    node: LiveNode, unique: Unique
) -> None:
    """Replies that nobody reads hold every descriptor; each request beyond gets an error, and no connection ends."""
    stored = [put_of(counting_bytes(LARGE), params=unique()) for _ in range(STATES)]
    with FrameClient(node.url, receive_buffer_bytes=4096) as slow, client_beside(slow, node) as client:
        for request in stored:
            assert client.ask(request) == PutResponse(key=request.contract.key)
        pid = node.pid_of(handler_of(node, client))
        with descriptors_left(pid, SPARE):
            for request in stored:
                slow.send(get_of(request.contract.key))
            wait_until("every descriptor is in use", lambda: isinstance(got(client, stored[-1]), Err), timeout_s=10)
            for nbytes in (LARGE, MIB):  # in one frame of its own, and moved into a segment
                assert isinstance(client.ask(put_of(counting_bytes(nbytes), params=unique())), Err)
            chunked = put_of(counting_bytes(MIB), params=unique())
            client.send_chunked(chunked, 7)
            assert isinstance(client.answer(), Err)
            assert serves(client)
            answers = [slow.answer() for _ in stored]
        assert {type(answer) for answer in answers} == {GetResponse, Err}
        # everything is free again
        assert client.ask(chunked) == PutResponse(key=chunked.contract.key)
        assert all(isinstance(got(client, request), GetResponse) for request in stored)
    wait_until("nothing is in flight", lambda: node.metric("simnode_reserved_bytes") == 0, timeout_s=10)


def test_more_states_are_read_than_there_are_descriptors_for_their_mappings(node: LiveNode, unique: Unique) -> None:
    """Mappings that nobody reads any more make way."""
    stored = [put_of(counting_bytes(LARGE), params=unique()) for _ in range(STATES)]
    with FrameClient(node.url) as client:
        with descriptors_left(node.pid_of(handler_of(node, served(client))), SPARE):
            for request in stored:
                assert client.ask(request) == PutResponse(key=request.contract.key)
            assert all(isinstance(got(client, request), GetResponse) for request in stored)
            with FrameClient(node.url) as another:
                assert serves(another)


@pytest.mark.parametrize("slot", ["reassembly_service-0", "contract_store-0"])
def test_service_or_store_without_descriptors_says_no_and_goes_on(node: LiveNode, unique: Unique, slot: str) -> None:
    pid = node.pid_of(slot)
    with FrameClient(node.url) as client:
        first = put_of(counting_bytes(LARGE), params=unique())
        assert client.ask(first) == PutResponse(key=first.contract.key)
        # no free segment is as large as this, and so large a code is copied: each of the two opens a file
        request = put_of(counting_bytes(13 * MIB), code=slot.encode() + counting_bytes(MIB), params=unique())
        with descriptors_left(pid):
            assert isinstance(client.ask(request), Err)
            assert isinstance(got(client, first), GetResponse)
        wait_until("it is stored", lambda: isinstance(client.ask(request), PutResponse), timeout_s=10)
    assert node.pid_of(slot) == pid


def got(client: FrameClient, request: Put) -> HostResult:
    return client.ask(get_of(request.contract.key))


def served(client: FrameClient) -> FrameClient:
    """The client, known to its handler."""
    assert serves(client)
    return client


@contextmanager
def client_beside(other: FrameClient, node: LiveNode) -> Iterator[FrameClient]:
    """A client of the same handler."""
    slot = handler_of(node, served(other))
    with ExitStack() as stack:
        for _ in range(20):
            client = served(stack.enter_context(FrameClient(node.url)))
            if handler_of(node, client) == slot:
                break
        else:
            raise AssertionError("the front door prefers one handler")
        yield client
