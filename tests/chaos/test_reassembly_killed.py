"""The reassembly service dies: what is stored stays readable, leases live on or are swept, large messages go on."""

from __future__ import annotations

from collections.abc import Callable

from simnode.protocol.blob import Blob
from simnode.protocol.limits import CHUNK_SIZE, MIB
from simnode.protocol.messages.requests import Get, StreamChunk
from simnode.protocol.messages.responses import Err, GetResponse, NotFound, PutResponse
from tests.chaos.conftest import kill, wait_for_writes, without_supervisor
from tests.support.live_node import LiveNode, wait_until
from tests.support.vectors import counting_bytes
from tests.support.wire import FrameClient, get_of, put_of

SERVICE = "reassembly_service-0"
NOWHERE = bytes(32)
ORPHAN_GRACE_S = 5.0
Unique = Callable[[], bytes]


def serves(client: FrameClient) -> bool:
    return client.ask(Get(key=NOWHERE)) == NotFound(instance_id=NOWHERE)


def test_stored_contracts_are_readable_meanwhile_and_afterwards(node: LiveNode, unique: Unique) -> None:
    requests = [put_of(counting_bytes(nbytes), params=unique()) for nbytes in (10, 100_000, 3 * MIB)]
    with FrameClient(f"{node.url}?streaming=true") as client:

        def all_are_there() -> bool:
            return all(
                client.ask(get_of(request.contract.key))
                == GetResponse(key=request.contract.key, contract=None, state=request.state)
                for request in requests
            )

        for request in requests:
            client.ask(request)
        with without_supervisor(node):
            pid = kill(node, SERVICE)
            assert all_are_there()
        node.wait_for_another(SERVICE, pid)
        wait_for_writes(client)
        assert all_are_there()
        # longer than what nobody claims is kept
        wait_until("nothing is in flight", lambda: node.metric("simnode_reserved_bytes") == 0, timeout_s=5)
        assert all_are_there()


def test_small_requests_work_meanwhile_and_large_ones_are_refused(node: LiveNode, unique: Unique) -> None:
    small, large = put_of(b"small", params=unique()), put_of(counting_bytes(MIB), params=unique())
    with FrameClient(node.url) as client:
        with without_supervisor(node):
            pid = kill(node, SERVICE)
            assert client.ask(small) == PutResponse(key=small.contract.key)
            assert isinstance(client.ask(large), Err)
            for chunk in client.chunks(large, 0):
                client.send(chunk)
            assert isinstance(client.answer(), Err)
            assert serves(client)
        node.wait_for_another(SERVICE, pid)
        wait_for_writes(client)
        assert client.ask(large) == PutResponse(key=large.contract.key)


def test_stream_that_had_begun_can_be_finished_after_the_restart(node: LiveNode, unique: Unique) -> None:
    """Its bytes are in a segment that the handler holds; the new service is told of it."""
    request = put_of(counting_bytes(3 * MIB), params=unique())
    with FrameClient(node.url) as client:
        first, *rest = client.chunks(request, 9)
        client.send(first)
        assert serves(client)
        pid = kill(node, SERVICE)
        node.wait_for_another(SERVICE, pid)
        with FrameClient(node.url) as other:
            wait_for_writes(other)
        for chunk in rest:
            client.send(chunk)
        assert client.answer() == PutResponse(key=request.contract.key)
        assert client.got(request.contract.key).state == request.state


def test_leases_that_nobody_claims_are_swept(node: LiveNode) -> None:
    """A client leaves while the service is away: nobody can be told that its room is free."""
    total, clients = 80, node.metric("simnode_connections_open")
    with FrameClient(node.url) as client:
        for stream_id in range(3):
            client.send(StreamChunk(stream_id=stream_id, index=0, total=total, data=Blob(b"x")))
        assert serves(client)
        # by their length: smaller ones of the tests before may still change their names
        leased = {name for name, nbytes in node.segments().items() if nbytes >= total * CHUNK_SIZE}
        assert len(leased) == 3
        with without_supervisor(node):
            pid = kill(node, SERVICE)
            client.sock.close()
            wait_until("it is gone", lambda: node.metric("simnode_connections_open") <= clients, timeout_s=5)
    node.wait_for_another(SERVICE, pid)
    # a segment that is given back is recycled under another name, or removed
    timeout_s = ORPHAN_GRACE_S + 10
    wait_until("their memory is back", lambda: not leased & set(node.segments()), timeout_s=timeout_s)


def test_writes_that_are_under_way_are_answered_and_what_was_stored_stays(node: LiveNode, unique: Unique) -> None:
    requests = [put_of(b"%d" % number + counting_bytes(MIB), params=unique()) for number in range(30)]
    with FrameClient(node.url) as client:
        for number, request in enumerate(requests):
            client.send_anyway(request)
            if number == 10:
                node.kill(SERVICE)
        answers = [client.answer() for _ in requests]
        wait_for_writes(client)
        for request in requests:
            answer = client.ask(get_of(request.contract.key))
            if PutResponse(key=request.contract.key) in answers:
                assert isinstance(answer, GetResponse), "it was answered"
                assert answer.state == request.state
            else:
                assert client.ask(request) == PutResponse(key=request.contract.key)
