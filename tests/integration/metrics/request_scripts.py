"""Scripts: every kind of request, in every encoding, with every outcome."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from simnode.protocol.blob import Blob
from simnode.protocol.codec.base import Encoding
from simnode.protocol.keys import code_hash, contract_key, delegate_key
from simnode.protocol.limits import KIB, MIB
from simnode.protocol.messages.contracts import ContractContainer, ContractKey, RelatedState, State
from simnode.protocol.messages.delegates import DelegateContainer, DelegateKey
from simnode.protocol.messages.error_kinds import NodeUnavailable
from simnode.protocol.messages.requests import (
    ApplicationMessages,
    Authenticate,
    ClientRequest,
    Close,
    Disconnect,
    Get,
    Put,
    QuerySubscriptionInfo,
    RegisterDelegate,
    Subscribe,
    UnregisterDelegate,
    Update,
)
from simnode.protocol.messages.responses import Err
from tests.support.live_node import stop, wait_until
from tests.support.metric_session import TOKEN, MetricSession
from tests.support.wire import FrameClient, get_of

NOWHERE = bytes(32)
NO_DELEGATE = DelegateKey(key=NOWHERE, code_hash=NOWHERE)
MAX_MESSAGE_BYTES = 8 * MIB
MEMORY_BUDGET_BYTES = 16 * MIB
SUBSCRIPTIONS_PER_CLIENT = 3
EXPRESSES_ALL = (Encoding.NATIVE, Encoding.MSGPACK)
"""Flatbuffers have neither Close nor node queries, and their keys are recomputed, so they cannot be wrong."""


def register(code: bytes, *, key: DelegateKey | None = None) -> RegisterDelegate:
    """A delegate, under its own key or a wrong one."""
    hashed = code_hash(Blob(code))
    right = delegate_key(hashed, Blob())
    delegate = DelegateContainer(params=Blob(), data=Blob(code), code_hash=hashed, key=key or right)
    return RegisterDelegate(delegate=delegate, cipher=bytes(32), nonce=bytes(24))


def update_of(key: ContractKey, state: bytes) -> Update:
    return Update(key=key, data=State(state=Blob(state)))


def every_kind_is_carried_out(session: MetricSession) -> None:
    for encoding in Encoding:
        with session.client(encoding) as client:
            key = session.put(client, b"a state").contract.key
            client.asks("get", get_of(key))
            client.asks("update", update_of(key, b"another"))
            session.expect_commits()
            client.asks("subscribe", Subscribe(key=key.instance))
            session.check("simnode_store_subscriptions", 1)
            session.check("simnode_connections_open", 1)
            delegate = register(b"delegate of %s" % encoding.value.encode())
            client.asks("delegate", delegate)
            client.asks("delegate", ApplicationMessages(key=delegate.delegate.key, params=Blob(), inbound=()))
            client.asks("delegate", UnregisterDelegate(key=delegate.delegate.key))
            session.expect_commits(2)
            client.send(Authenticate(token=TOKEN))
            session.expect_answered("authenticate", encoding, "ok")
            if encoding in EXPRESSES_ALL:
                client.asks("node_query", QuerySubscriptionInfo())
            client.is_served()


def writes_that_change_nothing_are_no_transactions(session: MetricSession) -> None:
    with session.client() as client:
        request = session.put(client, b"as it is")
        client.asks("put", request)
        client.asks("update", update_of(request.contract.key, b"as it is"))


def what_is_not_there_is_not_found(session: MetricSession) -> None:
    nowhere = ContractKey(instance=NOWHERE, code=NOWHERE)
    for encoding in Encoding:
        with session.client(encoding) as client:
            client.asks("get", Get(key=NOWHERE), "not_found")
            client.asks("get", Get(key=NOWHERE, subscribe=True), "not_found")
            client.asks("update", update_of(nowhere, b"x"), "not_found")
            client.asks("subscribe", Subscribe(key=NOWHERE), "not_found")
            client.asks("delegate", ApplicationMessages(key=NO_DELEGATE, params=Blob(), inbound=()), "not_found")


def bad_requests_are_errors(session: MetricSession) -> None:
    for encoding in Encoding:
        with session.client(encoding) as client:
            key = session.put(client, b"a state").contract.key
            related = RelatedState(related_to=NOWHERE, state=Blob(b"x"))
            client.asks("update", Update(key=key, data=related), "error")
            client.send(b"\xff" * 40)
            client.answer()
            session.expect_answered("undecodable", encoding, "error")
            if encoding in EXPRESSES_ALL:
                client.asks("put", _misnamed(session.new_put(b"a state")), "error")
                client.asks("delegate", register(b"code", key=NO_DELEGATE), "error")


def _misnamed(request: Put) -> Put:
    contract = request.contract
    key = contract_key(code_hash(Blob(b"other code")), contract.params)
    wrong = ContractContainer(data=contract.data, code_hash=contract.code_hash, params=contract.params, key=key)
    return Put(contract=wrong, state=request.state)


def a_state_whose_segment_is_lost_is_an_error(session: MetricSession) -> None:
    with session.client() as client:
        before = set(session.node.segments())
        request = session.put(client, bytes(100 * KIB))
        (name,) = set(session.node.segments()) - before
        path = session.node.run_dir / "data" / "segments" / name
        hidden = path.with_suffix(".hidden")
        path.rename(hidden)
        for encoding in Encoding:
            with session.client(encoding) as reader:
                reader.asks("get", get_of(request.contract.key), "error")
        hidden.rename(path)
        client.asks("get", get_of(request.contract.key))


def without_room_writes_are_errors_and_messages_are_refused(session: MetricSession) -> None:
    with session.client() as one, session.client() as two:
        for hog in (one, two):
            hog.is_served()
            # fast enough not to be ended for the others
            hog.sock.sendall(_frame_header(MAX_MESSAGE_BYTES) + bytes(MAX_MESSAGE_BYTES - MIB))
        session.check("simnode_reserved_bytes", MEMORY_BUDGET_BYTES, role="reassembly_service", slot="0")
        for encoding in Encoding:
            with session.client(encoding) as client:
                client.asks("put", session.new_put(bytes(100 * KIB)), "error")
                client.send(bytes(700 * KIB))
                client.answer()
                session.expect_answered("undecodable", encoding, "refused")
                session.expect("simnode_reservations_refused_total", 2)
        one.reset()
        two.reset()
    peaks = [f"simnode_reserved_{peak}_bytes" for peak in ("peak_60s", "peak_life")]
    for name in peaks:
        session.check(name, MEMORY_BUDGET_BYTES, role="reassembly_service", slot="0")
    session.check("simnode_reserved_bytes", 0, role="reassembly_service", slot="0")


def _frame_header(nbytes: int) -> bytes:
    """Of a masked binary frame that never comes whole."""
    return bytes((0x82, 0xFF)) + nbytes.to_bytes(8) + bytes(4)


def what_is_not_allowed_is_refused(session: MetricSession) -> None:
    with session.client() as owner:
        keys = [session.put(owner, b"%d" % number).contract.key for number in range(SUBSCRIPTIONS_PER_CLIENT + 1)]
    for encoding in Encoding:
        with session.client(encoding) as client:
            for key in keys[:-1]:
                client.asks("subscribe", Subscribe(key=key.instance))
            client.asks("subscribe", Subscribe(key=keys[-1].instance), "refused")
        with session.stranger(encoding) as stranger:
            for kind, request in _one_of_each(session, keys[0], encoding):
                stranger.asks(kind, request, "refused")
            stranger.send(Authenticate(token="wrong"))
            session.expect_answered("authenticate", encoding, "refused")
            stranger.ended("unauthorized")


def _one_of_each(session: MetricSession, key: ContractKey, encoding: Encoding) -> Iterator[tuple[str, ClientRequest]]:
    yield "put", session.new_put(b"x")
    yield "get", get_of(key, subscribe=True)
    yield "update", update_of(key, b"x")
    yield "subscribe", Subscribe(key=key.instance)
    yield "delegate", UnregisterDelegate(key=NO_DELEGATE)
    if encoding in EXPRESSES_ALL:
        yield "node_query", QuerySubscriptionInfo()


def goodbyes_are_carried_out(session: MetricSession) -> None:
    for encoding in Encoding:
        for kind, goodbye in (("disconnect", Disconnect()), ("close", Close())):
            if kind == "disconnect" or encoding in EXPRESSES_ALL:
                with session.client(encoding) as client:
                    client.send(goodbye)
                    session.expect_answered(kind, encoding, "ok")
                    client.ended("requested")


def a_store_that_starts_again_counts_the_same(session: MetricSession) -> None:
    with session.client() as client:
        session.put(client, bytes(100 * KIB))
    session.settle()
    pid = session.node.kill("contract_store-0")
    session.node.wait_for_another("contract_store-0", pid)
    session.expect("simnode_actor_restarts_total", role="contract_store")
    session.settle()
    wait_for_the_store(session)


def wait_for_the_store(session: MetricSession) -> None:
    """Waits until the handler serves writes again; what that takes is not compared."""
    with FrameClient(f"{session.node.url}?authToken={TOKEN}") as client:
        nowhere = Subscribe(key=NOWHERE)
        wait_until("the store is back", lambda: client.ask(nowhere) != Err(NodeUnavailable()), timeout_s=10)
    session.check("simnode_connections_open", 0)
    session.forget()


def without_a_store_everything_is_unavailable(session: MetricSession) -> None:
    node = session.node
    with session.client() as client:
        key = session.put(client, b"kept").contract.key
    with _without_supervisor(session):
        pid = node.kill("contract_store-0")
        wait_until("the store is gone", lambda: not node.pid_of("contract_store-0"), timeout_s=5)
        session.check("simnode_process_up", 0, role="contract_store", slot="0")
        for encoding in Encoding:
            with session.client(encoding) as client:
                for kind, request in _one_of_each(session, key, encoding):
                    client.asks(kind, request, "unavailable")
    node.wait_for_another("contract_store-0", pid)
    session.expect("simnode_actor_restarts_total", role="contract_store")
    session.check("simnode_process_up", 1, role="contract_store", slot="0")
    session.settle()
    wait_for_the_store(session)


@contextmanager
def _without_supervisor(session: MetricSession) -> Iterator[None]:
    stop(session.node.pid)
    try:
        yield
    finally:
        os.kill(session.node.pid, signal.SIGCONT)


HELD_S = 1.0
REPLY_BYTES = 400 * KIB
REPLIES = 24
TAKEN_BY_KERNELS = 12
"""Replies that may lie in the buffers of both ends; it is 8 by our settings."""


def an_answer_takes_until_its_first_byte_leaves(session: MetricSession) -> None:
    labels = {"kind": "get", "encoding": "native"}
    with session.client(receive_buffer_bytes=4096) as client:
        key = session.put(client, bytes(REPLY_BYTES)).contract.key
        before = session.value("simnode_request_duration_seconds_sum", **labels)
        began = time.monotonic()
        for _ in range(REPLIES):
            client.send(get_of(key))
            session.expect_answered("get", Encoding.NATIVE, "ok")
        session.check("simnode_backlog_bytes", REPLY_BYTES, REPLIES * (REPLY_BYTES + KIB), **_OUT)
        asked = time.monotonic()
        wait_until("nobody has read for a while", lambda: time.monotonic() - asked > HELD_S, timeout_s=5)
        for _ in range(REPLIES):
            client.answer()
        took = time.monotonic() - began
    least = (REPLIES - TAKEN_BY_KERNELS) * HELD_S
    session.check("simnode_request_duration_seconds_sum", before + least, before + REPLIES * took, **labels)
    for kind, encodings in _KINDS.items():
        for encoding in encodings:
            labels = {"kind": kind, "encoding": encoding.value}
            count = session.value("simnode_request_duration_seconds_count", **labels)
            session.check("simnode_request_duration_seconds_sum", count * 1e-6, count * 60, **labels)


_OUT = {"role": "connection_handler", "slot": "0", "direction": "outbound"}
_KINDS = {
    **dict.fromkeys(("put", "get", "update", "subscribe", "delegate", "authenticate", "disconnect"), tuple(Encoding)),
    **dict.fromkeys(("node_query", "close"), EXPRESSES_ALL),
}

CHANGES = 16
CHANGED_BYTES = 450 * KIB


def notifications_are_counted(session: MetricSession) -> None:
    for encoding in Encoding:
        with session.client(encoding) as subscriber, session.client(encoding) as writer:
            key = session.put(writer, b"0").contract.key
            subscriber.asks("subscribe", Subscribe(key=key.instance))
            writer.asks("update", update_of(key, b"1"))
            session.expect_commits()
            session.expect("simnode_notifications_encoded_total", encoding=encoding.value)
            subscriber.answer()


def a_subscriber_that_falls_behind_gets_the_newest_state(session: MetricSession) -> None:
    with session.client(receive_buffer_bytes=4096) as slow, session.client() as writer:
        key = session.put(writer, bytes(CHANGED_BYTES)).contract.key
        slow.asks("subscribe", Subscribe(key=key.instance))
        for number in range(CHANGES):
            writer.asks("update", update_of(key, bytes([number + 1]) * CHANGED_BYTES))
        session.expect_commits(CHANGES)
        told = 0
        newest = bytes([CHANGES]) * 16
        while True:
            notification = slow.answer()
            told += 1
            if bytes(notification.update.state.view[:16]) == newest:  # type: ignore[union-attr]
                break
        assert told < CHANGES, "the subscriber did not fall behind"
    session.expect("simnode_notifications_encoded_total", told, encoding="native")
    session.expect("simnode_notifications_total", CHANGES - told, outcome="coalesced")


SCRIPTS: tuple[Callable[[MetricSession], None], ...] = (
    every_kind_is_carried_out,
    writes_that_change_nothing_are_no_transactions,
    what_is_not_there_is_not_found,
    bad_requests_are_errors,
    a_state_whose_segment_is_lost_is_an_error,
    without_room_writes_are_errors_and_messages_are_refused,
    what_is_not_allowed_is_refused,
    goodbyes_are_carried_out,
    notifications_are_counted,
    a_subscriber_that_falls_behind_gets_the_newest_state,
    a_store_that_starts_again_counts_the_same,
    without_a_store_everything_is_unavailable,
    an_answer_takes_until_its_first_byte_leaves,
)
