"""Nobody drives a node out of memory: each attack, what it may cost, and that everybody else goes on.

The figures are RssAnon of the node's processes over idle, at its highest, and again when the attack is over.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from websockets.frames import Frame, Opcode

from simnode.protocol.blob import Blob
from simnode.protocol.limits import KIB, MIB, WHOLE_MESSAGE_SIZE
from simnode.protocol.messages.contracts import Delta
from simnode.protocol.messages.requests import Subscribe, Update
from simnode.protocol.messages.responses import Err, GetResponse, PutResponse
from tests.chaos.conftest import handler_of
from tests.support.live_node import LiveNode, live_node, wait_until
from tests.support.memory import MemoryWatch
from tests.support.wire import ConnectionEnded, FrameClient, contract, get_of, put_of

BUDGET = 256 * MIB
ALLOWED = 16 * MIB
STREAM_TTL_S = 3.0
TOKEN = "right"


@pytest.fixture(scope="module")
def node() -> Iterator[LiveNode]:
    """One handler, little budget, short times."""
    with live_node(
        handlers=1,
        memory_budget_bytes=BUDGET,
        limits={"stream_ttl_s": STREAM_TTL_S},
        shares={"rate_window_s": 2.0},
        progress_timeout_s=30.0,
    ) as running:
        yield running


@pytest.fixture
def watch(node: LiveNode) -> Iterator[MemoryWatch]:
    """The node's memory; afterwards it must be what it was."""
    with FrameClient(node.url) as client:  # what is loaded and made once is no growth
        client.ask(put_of(bytes(MIB), params=b"warm"))
        client.got(contract(params=b"warm").key)
    watch = MemoryWatch(node)
    yield watch
    wait_until("memory is given back", lambda: watch.growth_bytes <= ALLOWED, timeout_s=20)
    wait_until("nothing is held any more", lambda: held(node) == 0, timeout_s=10)


def held(node: LiveNode) -> float:
    return node.metric("simnode_held_bytes")


@contextmanager
def silent_client(node: LiveNode, query: str = "", source: str = "127.0.0.1") -> Iterator[FrameClient]:
    """A client that will not read, from an address of its own."""
    with FrameClient(node.url + query, receive_buffer_bytes=4 * KIB, source=source) as client:
        yield client


def flood(client: FrameClient, message: bytes, times: int) -> int:
    """Sends a message over and over without reading, until it is through or the node takes no more; the bytes sent."""
    data = Frame(Opcode.BINARY, message).serialize(mask=True) * times
    client.sock.settimeout(1.0)
    sent = 0
    with contextlib.suppress(TimeoutError, ConnectionResetError, BrokenPipeError):
        while sent < len(data):
            sent += client.sock.send(data[sent : sent + MIB])
    return sent


def assert_honest_clients_are_served(node: LiveNode, params: bytes) -> None:
    with FrameClient(node.url) as client:
        request = put_of(bytes(40 * MIB), params=params)
        client.send_chunked(request, 0)
        assert client.answer() == PutResponse(key=request.contract.key)


@pytest.mark.parametrize("beside_a_stream", [True, False])
def test_answers_that_nobody_reads_are_not_made(node: LiveNode, watch: MemoryWatch, beside_a_stream: bool) -> None:
    """3 connections × 17,000 GETs of 64 KiB: 2.4 MiB of requests for 3 GiB of answers."""
    request = put_of(bytes(64_000), params=b"many gets")
    with ExitStack() as stack:
        writer = stack.enter_context(FrameClient(node.url))
        writer.ask(request)
        clients = [stack.enter_context(silent_client(node)) for _ in range(3)]
        if beside_a_stream:
            for client in clients:
                client.send(client.chunks(put_of(bytes(MIB)), 0)[0])
        get = writer.encode(get_of(request.contract.key))
        with watch.watched():
            for client in clients:
                flood(client, get, 17_000)
            assert writer.got(request.contract.key).state == request.state
            assert held(node) > 0
        assert watch.peak_bytes <= ALLOWED


def test_what_a_client_asked_is_all_answered_once_it_reads(node: LiveNode, watch: MemoryWatch) -> None:
    request = put_of(bytes(64_000), params=b"late reader")
    with FrameClient(node.url) as client:
        client.ask(request)
        get = client.encode(get_of(request.contract.key))
        data = Frame(Opcode.BINARY, get).serialize(mask=True) * 2_000
        sender = threading.Thread(target=client.sock.sendall, args=(data,))
        with watch.watched():
            sender.start()
            for _ in range(2_000):
                answer = client.answer()
                assert isinstance(answer, GetResponse)
            sender.join()
        assert watch.peak_bytes <= ALLOWED


@pytest.mark.parametrize("store_stands_still", [False, True])
def test_puts_that_wait_hold_a_share(node: LiveNode, watch: MemoryWatch, store_stands_still: bool) -> None:
    """4 connections pipeline PUTs of 510 KiB to one contract each: they wait in the kernel, and all are answered."""
    times = 60
    with ExitStack() as stack:
        clients = [stack.enter_context(FrameClient(node.url)) for _ in range(4)]
        requests = [put_of(bytes(510 * KIB), params=b"waiting %d" % number) for number in range(4)]
        store = node.kill("contract_store-0", signal.SIGSTOP) if store_stands_still else 0
        stopped = threading.Event()

        def send(client: FrameClient, message: bytes) -> None:
            client.sock.sendall(Frame(Opcode.BINARY, message).serialize(mask=True) * times)

        senders = [
            threading.Thread(target=send, args=(client, client.encode(request)))
            for client, request in zip(clients, requests, strict=True)
        ]
        with watch.watched():
            for sender in senders:
                sender.start()
            if store:
                wait_until("requests wait", lambda: held(node) > MIB, timeout_s=5)
                assert not stopped.wait(STREAM_TTL_S + 1.5)  # what waits for the node is not late
                os.kill(store, signal.SIGCONT)
            for client, request in zip(clients, requests, strict=True):
                for _ in range(times):
                    assert client.answer() == PutResponse(key=request.contract.key)
            for sender in senders:
                sender.join()
        assert watch.peak_bytes <= 2 * ALLOWED  # of which the ledger has 4 shares of 4 MiB


def large_header(nbytes: int) -> bytes:
    """The header of a masked frame of so many bytes, of which nothing follows."""
    return b"\x82\xff" + nbytes.to_bytes(8, "big") + b"mask"


def test_headers_of_large_frames_hold_a_hosts_share_until_they_expire(node: LiveNode, watch: MemoryWatch) -> None:
    """11 × 14 bytes promise 1.1 GiB; honest clients, and an honest slow stream, go on."""
    with ExitStack() as stack:
        slow = stack.enter_context(FrameClient(node.url))
        slow_put = put_of(bytes(2 * MIB), params=b"slow but honest")
        first, *rest = slow.chunks(slow_put, 0)
        slow.send(first)
        attackers = [stack.enter_context(silent_client(node, source="127.0.0.2")) for _ in range(11)]
        for attacker in attackers:
            attacker.sock.sendall(large_header(100 * MIB))
        assert_honest_clients_are_served(node, b"beside headers")
        for chunk in rest:
            slow.send(chunk)
        assert slow.answer() == PutResponse(key=slow_put.contract.key)
        wait_until("they expire", lambda: node.metric("simnode_reserved_bytes") == 0, timeout_s=3 * STREAM_TTL_S)
        readable, _, _ = select.select([attacker.sock for attacker in attackers], [], [], 5.0)
        told = next(attacker for attacker in attackers if attacker.sock in readable)
        assert isinstance(told.answer(), Err)


def test_unfinished_messages_are_held_and_expire(node: LiveNode, watch: MemoryWatch) -> None:
    """600 connections that stop just before the end of a message of 576 KiB."""
    clients = 150
    with ExitStack() as stack:
        connected = [stack.enter_context(silent_client(node)) for _ in range(clients)]
        message = Frame(Opcode.BINARY, bytes(WHOLE_MESSAGE_SIZE)).serialize(mask=True)[:-1]
        for client in connected:
            client.sock.sendall(message)
        wait_until("all is held", lambda: held(node) >= clients * WHOLE_MESSAGE_SIZE, timeout_s=10)
        assert watch.growth_bytes <= held(node) + ALLOWED
        wait_until("they expire", lambda: held(node) == 0, timeout_s=3 * STREAM_TTL_S)
        with pytest.raises(ConnectionEnded):
            connected[0].message()


def test_old_versions_that_a_reader_holds_are_within_the_budget(node: LiveNode, watch: MemoryWatch) -> None:
    """A reader that stands still asks for each of many versions; the writer goes on, and the reader is closed."""
    params, nbytes = b"versions", 24 * MIB
    with FrameClient(node.url) as writer, silent_client(node) as reader:
        for number in range(30):
            request = put_of(bytes([number]) * nbytes, params=params)
            writer.send_chunked(request, number)
            assert writer.answer() == PutResponse(key=request.contract.key)
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                reader.sock.sendall(
                    Frame(Opcode.BINARY, reader.encode(get_of(request.contract.key))).serialize(mask=True)
                )
            assert node.metric("simnode_lingering_bytes") <= BUDGET
        assert node.metric("simnode_connections_closed_total", 'reason="too_slow"') >= 1


def test_a_reader_below_the_minimum_rate_is_closed(node: LiveNode, watch: MemoryWatch) -> None:
    request = put_of(bytes(20 * MIB), params=b"too slow")
    before = node.metric("simnode_connections_closed_total", 'reason="too_slow"')
    with FrameClient(node.url) as writer, silent_client(node) as reader:
        writer.send_chunked(request, 0)
        assert writer.answer() == PutResponse(key=request.contract.key)
        reader.send(get_of(request.contract.key))

        def closed() -> bool:
            with contextlib.suppress(OSError):
                reader.sock.recv(KIB)
            return node.metric("simnode_connections_closed_total", 'reason="too_slow"') > before

        wait_until("it is closed", closed, timeout_s=10)


def test_before_authentication_there_is_no_room_at_all() -> None:
    with live_node(handlers=1, tokens=[TOKEN], memory_budget_bytes=64 * MIB) as node, ExitStack() as stack:
        attackers = [stack.enter_context(silent_client(node)) for _ in range(20)]
        watch = MemoryWatch(node)
        for attacker in attackers[::2]:
            attacker.sock.sendall(large_header(50 * MIB) + bytes(MIB))
        for attacker in attackers[1::2]:
            attacker.sock.sendall(Frame(Opcode.BINARY, bytes(500 * KIB)).serialize(mask=True)[:-1])
        with FrameClient(f"{node.url}?authToken={TOKEN}") as honest:
            request = put_of(bytes(30 * MIB))
            honest.send_chunked(request, 0)
            assert honest.answer() == PutResponse(key=request.contract.key)
        assert held(node) <= MIB
        assert watch.growth_bytes <= ALLOWED


def test_deltas_to_a_handler_that_stands_still_are_not_queued_without_end() -> None:
    """The store says "changed" instead, and the subscriber gets the newest state when its handler goes on."""
    with live_node(handlers=2, stuck_after_s=60.0) as node, ExitStack() as stack:
        clients = [stack.enter_context(FrameClient(node.url)) for _ in range(2)]
        request = put_of(b"", params=b"deltas")
        clients[0].ask(request)
        key = request.contract.key
        for client in clients:
            client.ask(Subscribe(key=key.instance, summary=Blob(b"s")))
        watch = MemoryWatch(node)
        stopped = node.kill(handler_of(node, clients[1]), signal.SIGSTOP)
        update = Update(key=key, data=Delta(delta=Blob(bytes(60_000))))
        with watch.watched():
            for _ in range(600):
                clients[0].send(update)
                clients[0].answer()
                clients[0].answer()
        assert watch.peak_bytes <= ALLOWED
        os.kill(stopped, signal.SIGCONT)


def test_small_states_and_code_count_against_the_stores_limit() -> None:
    limit = 8 * MIB
    with live_node(handlers=1, store_limit_bytes=limit) as node, FrameClient(node.url) as client:
        stored = 0
        for number in range(200):
            request = put_of(bytes(60_000), params=b"%d" % number)
            if client.ask(request) != PutResponse(key=request.contract.key):
                break
            stored += 60_000
        assert limit - 64 * KIB <= stored + 60_000
        assert stored <= limit
