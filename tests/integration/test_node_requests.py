"""What a node does with requests (protocol.md §6): order, subscriptions, notifications, caps, delegates, queries."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from blake3 import blake3

from simnode.protocol.blob import Blob
from simnode.protocol.codec.base import Encoding
from simnode.protocol.keys import code_hash, delegate_key
from simnode.protocol.limits import MIB
from simnode.protocol.messages.contracts import ContractKey, Delta, State, StateAndDelta, UpdateData
from simnode.protocol.messages.delegates import ApplicationMessage, DelegateContainer
from simnode.protocol.messages.error_kinds import MissingDelegate, RegisterError, SubscribeError
from simnode.protocol.messages.requests import (
    ApplicationMessages,
    ClientRequest,
    Disconnect,
    Get,
    QueryNodeDiagnostics,
    QuerySubscriptionInfo,
    RegisterDelegate,
    StreamChunk,
    Subscribe,
    UnregisterDelegate,
    Update,
)
from simnode.protocol.messages.responses import (
    DelegateResponse,
    Err,
    GetResponse,
    NetworkDebug,
    NodeDiagnostics,
    PutResponse,
    SubscribeResponse,
    UpdateNotification,
    UpdateResponse,
)
from tests.support.live_node import LiveNode, wait_until
from tests.support.vectors import counting_bytes
from tests.support.wire import FrameClient, get_of, put_of

Unique = Callable[[], bytes]


def put(node_url: str, params: bytes, state: bytes) -> ContractKey:
    with FrameClient(node_url) as client:
        request = put_of(state, params=params)
        assert client.ask(request) == PutResponse(key=request.contract.key)
        return request.contract.key


def update(key: ContractKey, *, state: bytes | None = None, delta: bytes | None = None) -> Update:
    data: UpdateData
    if state is None:
        assert delta is not None
        data = Delta(delta=Blob(delta))
    elif delta is None:
        data = State(state=Blob(state))
    else:
        data = StateAndDelta(state=Blob(state), delta=Blob(delta))
    return Update(key=key, data=data)


def state_of(client: FrameClient, key: ContractKey) -> bytes:
    answer = client.ask(get_of(key))
    assert isinstance(answer, GetResponse)
    return bytes(answer.state)


def subscribers_of(client: FrameClient, key: ContractKey) -> int:
    answer = client.ask(QuerySubscriptionInfo())
    assert isinstance(answer, NetworkDebug)
    return sum(subscription.contract_key == key.instance for subscription in answer.subscriptions)


def heap_bytes(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


def send_for_ever(client: FrameClient, message: bytes | ClientRequest) -> NoReturn:
    while True:
        client.send_anyway(message)


def is_stored(client: FrameClient, key: ContractKey) -> bool:
    return isinstance(client.ask(get_of(key)), GetResponse)


def nobody_subscribes(client: FrameClient, key: ContractKey) -> bool:
    return subscribers_of(client, key) == 0


# ---- order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", list(Encoding))
@pytest.mark.parametrize("nbytes", [100, 100_000, 1 * MIB])
def test_pipelined_get_sees_the_put_and_updates_before_it(
    node: LiveNode, unique: Unique, encoding: Encoding, nbytes: int
) -> None:
    request = put_of(counting_bytes(nbytes), params=unique())
    key = request.contract.key
    with FrameClient(node.url, encoding=encoding) as client:
        client.send(request)
        client.send(get_of(key))
        client.send(update(key, delta=b"+1"))
        client.send(get_of(key))
        client.send(update(key, state=b"new"))
        client.send(get_of(key))
        assert client.answer() == PutResponse(key=key)
        states: list[bytes] = []
        while len(states) < 3:
            answer = client.answer()
            if isinstance(answer, GetResponse):
                states.append(bytes(answer.state))
        assert states == [counting_bytes(nbytes), counting_bytes(nbytes) + b"+1", b"new"]


def test_replies_about_one_contract_keep_the_order_of_the_requests(node: LiveNode, unique: Unique) -> None:
    request = put_of(b"", params=unique())
    key = request.contract.key
    with FrameClient(node.url) as client:
        client.send(request)
        for number in range(100):
            client.send(update(key, delta=b"%d," % number))
        assert client.answer() == PutResponse(key=key)
        state = b""
        for number in range(100):
            state += b"%d," % number
            assert client.answer() == UpdateResponse(key=key, summary=Blob(blake3(state).digest()))


def test_many_clients_appending_at_once_lose_nothing(node: LiveNode, unique: Unique) -> None:
    key = put(node.url, unique(), b"")
    clients = [FrameClient(node.url) for _ in range(8)]
    try:
        for number in range(50):
            for index, client in enumerate(clients):
                client.send(update(key, delta=b"%d:%d," % (index, number)))
        for client in clients:
            for _ in range(50):
                assert isinstance(client.answer(), UpdateResponse)
        entries = state_of(clients[0], key).split(b",")[:-1]
        assert len(entries) == 400
        for index in range(8):
            own = [entry for entry in entries if entry.startswith(b"%d:" % index)]
            assert own == [b"%d:%d" % (index, number) for number in range(50)]
    finally:
        for client in clients:
            client.sock.close()


def test_a_thousand_pipelined_requests_are_all_answered(node: LiveNode, unique: Unique) -> None:
    """More than a connection may have in hand at once: reading stops and goes on."""
    key = put(node.url, unique(), b"")
    with FrameClient(node.url) as client:
        one = client.encode(update(key, delta=b"x"))
        for _ in range(3000):
            client.send(one)
        for _ in range(3000):
            assert isinstance(client.answer(), UpdateResponse)
        assert state_of(client, key) == b"x" * 3000


@pytest.mark.parametrize("message", [b"\xff" * 60, None], ids=["undecodable", "get"])
@pytest.mark.parametrize("holds_a_stream", [False, True])
def test_client_that_asks_and_never_reads_is_not_read_for_ever(
    node: LiveNode, unique: Unique, message: bytes | None, holds_a_stream: bool
) -> None:
    """Else its replies fill the handler's heap: a kilobyte each, as fast as it can ask."""
    key = put(node.url, unique(), b"x" * 100)
    one = get_of(key) if message is None else message
    handlers = [node.pid_of(f"connection_handler-{slot}") for slot in range(2)]
    before = sum(map(heap_bytes, handlers))
    with FrameClient(node.url, receive_buffer_bytes=4096) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        if holds_a_stream:
            client.send(StreamChunk(stream_id=0, index=0, total=2, data=Blob(b"x")))
        client.sock.settimeout(1.0)
        with pytest.raises(TimeoutError):
            send_for_ever(client, one)
        assert sum(map(heap_bytes, handlers)) - before < 40 * MIB
    with FrameClient(node.url) as other:
        assert state_of(other, key) == b"x" * 100


# ---- states --------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [0, 10, 70_000, 700_000])
@pytest.mark.parametrize("new", [0, 10, 70_000, 700_000])
def test_updates_replace_append_and_do_both(node: LiveNode, unique: Unique, old: int, new: int) -> None:
    before, after = counting_bytes(old), counting_bytes(new)[::-1]
    key = put(node.url, unique(), before)
    with FrameClient(node.url) as client:
        for request, expected in (
            (update(key, delta=after), before + after),
            (update(key, delta=after), before + after + after),
            (update(key, state=after), after),
            (update(key, state=before, delta=after), before + after),
        ):
            answer = client.ask(request)
            assert answer == UpdateResponse(key=key, summary=Blob(blake3(expected).digest()))
            assert state_of(client, key) == expected


def test_put_of_a_known_contract_replaces_its_state(node: LiveNode, unique: Unique) -> None:
    params = unique()
    key = put(node.url, params, b"first")
    with FrameClient(node.url) as client:
        assert client.ask(put_of(counting_bytes(300_000), params=params)) == PutResponse(key=key)
        assert state_of(client, key) == counting_bytes(300_000)
        assert client.ask(put_of(b"", params=params)) == PutResponse(key=key)
        assert state_of(client, key) == b""


@pytest.mark.parametrize("nbytes", [0, 10, 70_000, 3 * MIB])
def test_code_and_parameters_come_back_when_asked_for(node: LiveNode, unique: Unique, nbytes: int) -> None:
    code, params = unique() + counting_bytes(nbytes), unique() + counting_bytes(nbytes)
    request = put_of(counting_bytes(nbytes), code=code, params=params)
    with FrameClient(node.url) as client:
        assert client.ask(request) == PutResponse(key=request.contract.key)
        answer = client.ask(get_of(request.contract.key, code=True))
        assert answer == GetResponse(key=request.contract.key, contract=request.contract, state=request.state)
        answer = client.ask(get_of(request.contract.key))
        assert answer == GetResponse(key=request.contract.key, contract=None, state=request.state)


# ---- subscriptions -------------------------------------------------------------------------------


def test_sender_is_notified_before_its_update_is_answered(node: LiveNode, unique: Unique) -> None:
    for nbytes in (5, 700_000):
        key = put(node.url, unique(), b"old")
        with FrameClient(node.url) as client:
            assert client.ask(Subscribe(key=key.instance)) == SubscribeResponse(key=key, subscribed=True)
            new = counting_bytes(nbytes)
            assert client.ask(update(key, state=new)) == UpdateNotification(key=key, update=State(state=Blob(new)))
            assert isinstance(client.answer(), UpdateResponse)


def test_put_and_get_subscribe_without_an_answer_of_their_own(node: LiveNode, unique: Unique) -> None:
    request = put_of(b"old", params=unique(), subscribe=True)
    key = request.contract.key
    with FrameClient(node.url) as one, FrameClient(node.url) as two:
        assert one.ask(request) == PutResponse(key=key)
        assert isinstance(two.ask(get_of(key, subscribe=True)), GetResponse)
        assert isinstance(two.ask(update(key, state=b"new")), UpdateNotification)
        assert isinstance(two.answer(), UpdateResponse)
        assert one.answer() == UpdateNotification(key=key, update=State(state=Blob(b"new")))


def test_delta_is_sent_as_such_only_to_who_gave_a_summary(node: LiveNode, unique: Unique) -> None:
    key = put(node.url, unique(), b"a")
    with FrameClient(node.url) as one, FrameClient(node.url) as two, FrameClient(node.url) as writer:
        one.ask(Subscribe(key=key.instance, summary=Blob(b"s")))
        two.ask(Subscribe(key=key.instance))
        writer.ask(update(key, delta=b"b"))
        assert one.answer() == UpdateNotification(key=key, update=Delta(delta=Blob(b"b")))
        assert two.answer() == UpdateNotification(key=key, update=State(state=Blob(b"ab")))


def test_update_is_serialized_once_for_each_encoding_however_many_subscribe(node: LiveNode, unique: Unique) -> None:
    key = put(node.url, unique(), b"old")
    encodings = (Encoding.NATIVE, Encoding.MSGPACK)

    def serialized() -> list[float]:
        metric = "simnode_notifications_encoded_total"
        return [node.metric(metric, f'encoding="{encoding.value}"') for encoding in encodings]

    with contextlib.ExitStack() as open_clients:
        clients = [
            open_clients.enter_context(FrameClient(node.url, encoding=encoding))
            for encoding in encodings
            for _ in range(10)
        ]
        for client in clients:
            client.ask(Subscribe(key=key.instance))
        before = serialized()
        with FrameClient(node.url) as writer:
            writer.ask(update(key, state=b"new"))
        for client in clients:
            assert client.answer() == UpdateNotification(key=key, update=State(state=Blob(b"new")))
        grown = [now - then for now, then in zip(serialized(), before, strict=True)]
    # each handler for itself, and no more of them than there are
    assert all(1 <= times <= 2 for times in grown)


def test_empty_summary_on_flatbuffers_counts_as_none(node: LiveNode, unique: Unique) -> None:
    """The TypeScript SDK always sends one."""
    key = put(node.url, unique(), b"a")
    with FrameClient(node.url, encoding=Encoding.FLATBUFFERS) as client, FrameClient(node.url) as writer:
        client.ask(Subscribe(key=key.instance, summary=Blob(b"")))
        writer.ask(update(key, delta=b"b"))
        assert client.answer() == UpdateNotification(key=key, update=State(state=Blob(b"ab")))


def test_nobody_is_told_when_nothing_changed(node: LiveNode, unique: Unique) -> None:
    state = counting_bytes(100_000)
    key = put(node.url, unique(), state)
    with FrameClient(node.url) as client:
        client.ask(Subscribe(key=key.instance))
        assert isinstance(client.ask(update(key, state=state)), UpdateResponse)
        assert isinstance(client.ask(update(key, delta=b"")), UpdateResponse)


def test_subscribing_twice_notifies_once(node: LiveNode, unique: Unique) -> None:
    key = put(node.url, unique(), b"a")
    with FrameClient(node.url) as client:
        for _ in range(2):
            assert client.ask(Subscribe(key=key.instance)) == SubscribeResponse(key=key, subscribed=True)
        assert subscribers_of(client, key) == 1
        assert isinstance(client.ask(update(key, state=b"b")), UpdateNotification)
        assert isinstance(client.answer(), UpdateResponse)


def test_subscriber_that_fell_behind_gets_the_newest_state_once(node: LiveNode, unique: Unique) -> None:
    key = put(node.url, unique(), b"")
    with (
        FrameClient(f"{node.url}?streaming=true", receive_buffer_bytes=64 * 1024) as slow,
        FrameClient(node.url) as writer,
    ):
        slow.ask(Subscribe(key=key.instance))
        last = b""
        for number in range(30):
            last = bytes((number,)) * 2 * MIB
            assert isinstance(writer.ask(update(key, state=last)), UpdateResponse)
        notes = 0
        while True:
            note = slow.answer()
            assert isinstance(note, UpdateNotification)
            assert isinstance(note.update, State)
            notes += 1
            if note.update.state == last:
                break
        assert notes < 10, "what it missed is not sent"
        assert isinstance(writer.ask(update(key, state=b"end")), UpdateResponse)
        assert slow.answer() == UpdateNotification(key=key, update=State(state=Blob(b"end")))


def test_versions_of_a_busy_contract_arrive_in_order_and_end_with_the_newest(node: LiveNode, unique: Unique) -> None:
    key = put(node.url, unique(), b"0")
    with FrameClient(node.url) as reader, FrameClient(node.url) as writer:
        reader.ask(Subscribe(key=key.instance))
        for number in range(1, 301):
            writer.send(update(key, state=b"%d" % number))
        seen = [0]
        while seen[-1] < 300:
            note = reader.answer()
            assert isinstance(note, UpdateNotification)
            assert isinstance(note.update, State)
            seen.append(int(bytes(note.update.state)))
        assert seen == sorted(set(seen))


@pytest.mark.parametrize("leaves", ["close frame", "disconnect", "vanish"])
def test_client_that_leaves_is_unsubscribed(node: LiveNode, unique: Unique, leaves: str) -> None:
    key = put(node.url, unique(), b"")
    with FrameClient(node.url) as watcher:
        with FrameClient(node.url) as client:
            client.ask(Subscribe(key=key.instance))
            assert subscribers_of(watcher, key) == 1
            if leaves == "close frame":
                client.send_close()
                client.closed()
            elif leaves == "disconnect":
                client.send(Disconnect())
                client.closed()
        wait_until("nobody is subscribed", lambda: subscribers_of(watcher, key) == 0, timeout_s=5)


def test_client_that_asked_to_leave_hears_of_no_more_changes_and_gets_what_is_due(
    node: LiveNode, unique: Unique
) -> None:
    """Else changes of a busy contract would come due for ever, and it would never be gone."""
    key = put(node.url, unique(), counting_bytes(40 * MIB))
    with FrameClient(node.url) as watcher, FrameClient(node.url) as client:
        client.ask(Subscribe(key=key.instance))
        client.send(Get(key=key.instance))
        client.send(Disconnect())
        wait_until("nobody is subscribed", lambda: subscribers_of(watcher, key) == 0, timeout_s=5)
        answer = client.answer()
        assert isinstance(answer, GetResponse)
        assert len(answer.state) == 40 * MIB
        assert client.closed().code == 1000


def test_client_that_leaves_while_it_is_being_subscribed_by_a_put_is_forgotten(node: LiveNode, unique: Unique) -> None:
    """Else its subscription would count against the contract's cap for ever."""
    with FrameClient(node.url) as watcher:
        for _ in range(20):
            request = put_of(counting_bytes(300_000), params=unique(), subscribe=True)
            with FrameClient(node.url) as client:
                client.send(request)
            key = request.contract.key
            wait_until("it is stored", partial(is_stored, watcher, key), timeout_s=5)
            wait_until("nobody subscribes", partial(nobody_subscribes, watcher, key), timeout_s=2)


def test_caps_refuse_with_a_subscribe_error_and_nothing_else_changes(strict_url: str, unique: Unique) -> None:
    keys = [put(strict_url, unique(), b"x") for _ in range(4)]
    with FrameClient(strict_url) as one, FrameClient(strict_url) as two, FrameClient(strict_url) as three:
        for key in keys[:3]:
            assert one.ask(Subscribe(key=key.instance)) == SubscribeResponse(key=key, subscribed=True)
        refused = one.ask(Subscribe(key=keys[3].instance))
        assert isinstance(refused, Err)
        assert isinstance(refused.kind, SubscribeError)
        assert refused.kind.key.instance == keys[3].instance
        assert isinstance(one.ask(get_of(keys[3], subscribe=True)), Err)
        # known ones may be asked for again
        assert isinstance(one.ask(Subscribe(key=keys[0].instance)), SubscribeResponse)

        assert isinstance(two.ask(Subscribe(key=keys[0].instance)), SubscribeResponse)
        refused = three.ask(Subscribe(key=keys[0].instance))
        assert isinstance(refused, Err)
        assert isinstance(refused.kind, SubscribeError)
        two.send_close()
        two.closed()
        wait_until(
            "the place is free",
            lambda: isinstance(three.ask(Subscribe(key=keys[0].instance)), SubscribeResponse),
            timeout_s=5,
        )


def test_put_that_may_not_subscribe_says_so_and_has_stored_the_state(strict_url: str, unique: Unique) -> None:
    params = unique()
    key = put(strict_url, params, b"old")
    with FrameClient(strict_url) as one, FrameClient(strict_url) as two, FrameClient(strict_url) as three:
        for client in (one, two):
            client.ask(Subscribe(key=key.instance))
        answer = three.ask(put_of(b"new", params=params, subscribe=True))
        assert isinstance(answer, Err)
        assert isinstance(answer.kind, SubscribeError)
        assert state_of(three, key) == b"new"
        assert isinstance(one.answer(), UpdateNotification)


# ---- delegates and queries -----------------------------------------------------------------------


def delegate(params: bytes) -> DelegateContainer:
    code = Blob(b"delegate")
    key = delegate_key(code_hash(code), Blob(params))
    return DelegateContainer(params=Blob(params), data=code, code_hash=key.code_hash, key=key)


@pytest.mark.parametrize("encoding", list(Encoding))
def test_registered_delegate_echoes_even_when_everything_is_pipelined(
    node: LiveNode, unique: Unique, encoding: Encoding
) -> None:
    container = delegate(unique())
    message = ApplicationMessage(payload=Blob(b"hello"), context=Blob(b"ctx"), processed=False)
    say = ApplicationMessages(key=container.key, params=Blob(b""), inbound=(message,))
    echo = ApplicationMessage(payload=Blob(b"hello"), context=Blob(b"ctx"), processed=True)
    with FrameClient(node.url, encoding=encoding) as client:
        client.send(RegisterDelegate(delegate=container, cipher=bytes(32), nonce=bytes(24)))
        client.send(say)
        client.send(UnregisterDelegate(key=container.key))
        client.send(say)
        assert client.answer() == DelegateResponse(key=container.key, values=())
        assert client.answer() == DelegateResponse(key=container.key, values=(echo,))
        assert client.answer() == DelegateResponse(key=container.key, values=())
        missing = client.answer()
        assert isinstance(missing, Err)
        if encoding is not Encoding.FLATBUFFERS:
            assert missing.kind == MissingDelegate(key=container.key)


def test_delegate_under_a_wrong_key_is_refused(node: LiveNode, unique: Unique) -> None:
    right, other = delegate(unique()), delegate(unique())
    wrong = DelegateContainer(params=right.params, data=right.data, code_hash=right.code_hash, key=other.key)
    with FrameClient(node.url) as client:
        answer = client.ask(RegisterDelegate(delegate=wrong, cipher=bytes(32), nonce=bytes(24)))
        assert answer == Err(RegisterError(key=other.key))


def test_diagnostics_tell_of_contracts_and_subscribers(node: LiveNode, unique: Unique) -> None:
    key = put(node.url, unique(), bytes(1234))
    with FrameClient(node.url) as client:
        client.ask(Subscribe(key=key.instance))
        answer = client.ask(QueryNodeDiagnostics(contract_keys=(key,)))
        assert isinstance(answer, NodeDiagnostics)
        ((_, state),) = answer.contract_states
        assert (state.subscribers, state.size_bytes) == (1, 1234)
        assert answer.node_info is not None
        assert answer.node_info.listening_address == f"127.0.0.1:{node.port}"
        assert answer.system_metrics is not None
        assert answer.system_metrics.active_connections >= 1


def test_query_on_flatbuffers_gets_an_error_and_not_silence(node: LiveNode) -> None:
    """The encoding has no queries: the native bytes of one are undecodable there."""
    with FrameClient(node.url, encoding=Encoding.FLATBUFFERS) as client:
        client.send(b"\x04\0\0\0\0\0\0\0")
        assert isinstance(client.answer(), Err)
        assert not isinstance(client.ask(Get(key=bytes(32))), Err)
