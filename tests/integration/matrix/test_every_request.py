"""Everything that a request can ask, as protocol.md §6 says it is answered, in all encodings that can express it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from blake3 import blake3
from websockets.exceptions import ConnectionClosedOK
from websockets.frames import CloseCode

from simnode.protocol.blob import Blob
from simnode.protocol.codec.base import Encoding
from simnode.protocol.keys import code_hash, delegate_key, encode_base58
from simnode.protocol.limits import CHUNK_SIZE, CHUNK_THRESHOLD
from simnode.protocol.messages.contracts import Delta, State, StateAndDelta, UpdateData
from simnode.protocol.messages.delegates import (
    ApplicationMessage,
    DelegateContainer,
    DelegateKey,
    InboundDelegateMsg,
    Installed,
    UserResponse,
)
from simnode.protocol.messages.error_kinds import MissingDelegate
from simnode.protocol.messages.requests import (
    ApplicationMessages,
    Authenticate,
    Close,
    Disconnect,
    Get,
    NodeQuery,
    Put,
    QueryConnectedPeers,
    QueryNeighborHostingInfo,
    QueryNodeDiagnostics,
    QuerySubscriptionInfo,
    RegisterDelegate,
    Subscribe,
    UnregisterDelegate,
    Update,
)
from simnode.protocol.messages.responses import (
    ConnectedPeers,
    DelegateResponse,
    GetResponse,
    NeighborHosting,
    NetworkDebug,
    NodeDiagnostics,
    NotFound,
    PutResponse,
    SubscribeResponse,
    SubscriptionInfo,
    UpdateNotification,
    UpdateResponse,
)
from tests.support.live_node import LiveNode
from tests.support.modes import MODES, ModeConnection, open_connection, put_of

WITHOUT_FLATBUFFERS = [pytest.param(mode, id=str(mode)) for mode in MODES if mode.encoding is not Encoding.FLATBUFFERS]
beyond_flatbuffers = pytest.mark.parametrize("connection", WITHOUT_FLATBUFFERS, indirect=True)
"""For what the flatbuffers schema has no table for."""


# ---- contracts -----------------------------------------------------------------------------------


async def test_put_get_and_get_with_code(connection: ModeConnection, code: bytes) -> None:
    put = put_of(code, b"state")
    key = put.contract.key
    assert await connection.ask(put) == PutResponse(key=key)
    assert await connection.ask(Get(key=key.instance)) == GetResponse(key=key, contract=None, state=put.state)
    with_code = await connection.ask(Get(key=key.instance, return_contract_code=True))
    assert with_code == GetResponse(key=key, contract=put.contract, state=put.state)


@pytest.mark.parametrize("state_bytes", [CHUNK_THRESHOLD - 4096, CHUNK_THRESHOLD, 3 * CHUNK_SIZE + 1])
async def test_a_large_state_comes_in_chunks_where_asked_for_and_with_a_header_where_there_is_one(
    connection: ModeConnection, code: bytes, state_bytes: int
) -> None:
    """The threshold counts the serialized message, so a state of exactly the threshold is over it."""
    put = put_of(code, bytes(state_bytes))
    await connection.ask(put)
    await connection.send(Get(key=put.contract.key.instance))
    answer = await connection.receive()
    assert answer.result == GetResponse(key=put.contract.key, contract=None, state=put.state)
    is_chunked = connection.mode.streaming and len(answer.data) > CHUNK_THRESHOLD
    assert answer.chunks == (-(-len(answer.data) // CHUNK_SIZE) if is_chunked else 0)
    assert (answer.header is not None) == (is_chunked and connection.mode.encoding is not Encoding.FLATBUFFERS)
    if answer.header is not None:
        assert answer.header.total_bytes == len(answer.data)


async def test_a_request_in_chunks_is_a_request(connection: ModeConnection, code: bytes) -> None:
    """Whether or not the client asked for streaming, which is about responses alone."""
    put = put_of(code, bytes(range(256)) * 4096)
    message = bytes(connection.codec.encode_request(put))
    pieces = [message[at : at + CHUNK_SIZE] for at in range(0, len(message), CHUNK_SIZE)]
    for index, piece in enumerate(pieces):
        await connection.send_chunk(9, index, len(pieces), piece)
    assert (await connection.receive()).result == PutResponse(key=put.contract.key)
    assert (await connection.ask(Get(key=put.contract.key.instance))).state == put.state


@pytest.mark.parametrize("blocking", [False, True])
async def test_put_and_get_subscribe_without_a_response_of_its_own(
    connection: ModeConnection, code: bytes, blocking: bool
) -> None:
    """`blocking_subscribe` changes nothing here: the subscription is in force before the answer anyway."""
    put = replace(put_of(code, b"1", subscribe=True), blocking_subscribe=blocking)
    key = put.contract.key
    assert await connection.ask(put) == PutResponse(key=key)
    update = Update(key=key, data=State(state=Blob(b"2")))
    assert await connection.ask(update) == UpdateNotification(key=key, update=State(state=Blob(b"2")))
    assert isinstance((await connection.receive()).result, UpdateResponse)
    got = await connection.ask(Get(key=key.instance, subscribe=True, blocking_subscribe=blocking))
    assert got == GetResponse(key=key, contract=None, state=Blob(b"2"))


async def test_put_with_related_contracts_is_taken(connection: ModeConnection, code: bytes) -> None:
    """Nobody runs code that could look at them; flatbuffers have no way to name one without its state."""
    related = [(b"r" * 32, Blob(b"its state"))]
    if connection.mode.encoding is not Encoding.FLATBUFFERS:
        related.append((b"s" * 32, None))
    put = replace(put_of(code, b"state"), related_contracts=tuple(related))
    assert await connection.ask(put) == PutResponse(key=put.contract.key)
    assert (await connection.ask(Get(key=put.contract.key.instance))).state == b"state"


async def test_put_of_a_known_contract_is_an_update_of_its_state(connection: ModeConnection, code: bytes) -> None:
    put = put_of(code, b"1", subscribe=True)
    key = put.contract.key
    await connection.ask(put)
    again = replace(put, state=Blob(b"2"))
    assert await connection.ask(again) == UpdateNotification(key=key, update=State(state=Blob(b"2")))
    assert (await connection.receive()).result == PutResponse(key=key)


UPDATES = [
    (State(state=Blob(b"new")), b"new"),
    (Delta(delta=Blob(b"+")), b"old+"),
    (StateAndDelta(state=Blob(b"new"), delta=Blob(b"+")), b"new+"),
]


@pytest.mark.parametrize("with_summary", [False, True])
@pytest.mark.parametrize(("update", "state"), UPDATES, ids=["State", "Delta", "StateAndDelta"])
async def test_an_update_is_told_before_it_is_answered(
    connection: ModeConnection, code: bytes, update: UpdateData, state: bytes, with_summary: bool
) -> None:
    """A subscriber that gave a summary gets a delta as a delta, everybody else the whole new state."""
    put = put_of(code, b"old")
    key = put.contract.key
    await connection.ask(put)
    subscribe = Subscribe(key=key.instance, summary=Blob(blake3(b"old").digest()) if with_summary else None)
    assert await connection.ask(subscribe) == SubscribeResponse(key=key, subscribed=True)
    told = update if with_summary and isinstance(update, Delta) else State(state=Blob(state))
    assert await connection.ask(Update(key=key, data=update)) == UpdateNotification(key=key, update=told)
    assert (await connection.receive()).result == UpdateResponse(key=key, summary=Blob(blake3(state).digest()))


async def test_nothing_is_told_when_nothing_changed(connection: ModeConnection, code: bytes) -> None:
    put = put_of(code, b"same", subscribe=True)
    await connection.ask(put)
    answer = await connection.ask(Update(key=put.contract.key, data=State(state=put.state)))
    assert answer == UpdateResponse(key=put.contract.key, summary=Blob(blake3(b"same").digest()))


# ---- delegates -----------------------------------------------------------------------------------


def a_delegate(code: bytes) -> DelegateContainer:
    hashed = code_hash(code)
    key = delegate_key(hashed, b"parameters")
    return DelegateContainer(params=Blob(b"parameters"), data=Blob(code), code_hash=hashed, key=key)


async def register(connection: ModeConnection, code: bytes) -> DelegateKey:
    delegate = a_delegate(code)
    answer = await connection.ask(RegisterDelegate(delegate=delegate, cipher=b"c" * 32, nonce=b"n" * 24))
    assert answer == DelegateResponse(key=delegate.key, values=())
    return delegate.key


MESSAGE = ApplicationMessage(payload=Blob(b"payload"), context=Blob(b"context"), processed=False)


async def test_a_registered_delegate_echoes_until_it_is_unregistered(connection: ModeConnection, code: bytes) -> None:
    key = await register(connection, code)
    ask = ApplicationMessages(key=key, params=Blob(), inbound=(MESSAGE, replace(MESSAGE, payload=Blob())))
    echoed = tuple(replace(message, processed=True) for message in ask.inbound)
    assert await connection.ask(ask) == DelegateResponse(key=key, values=echoed)
    assert await connection.ask(UnregisterDelegate(key=key)) == DelegateResponse(key=key, values=())
    assert await connection.refuses(ask, MissingDelegate(key=key))


async def test_what_is_no_application_message_earns_no_echo(connection: ModeConnection, code: bytes) -> None:
    key = await register(connection, code)
    inbound: list[InboundDelegateMsg] = [UserResponse(request_id=7, response=Blob(b"yes"), context=Blob())]
    if connection.mode.encoding is not Encoding.FLATBUFFERS:
        inbound.append(Installed())
    answer = await connection.ask(ApplicationMessages(key=key, params=Blob(), inbound=(*inbound, MESSAGE)))
    assert answer == DelegateResponse(key=key, values=(replace(MESSAGE, processed=True),))


# ---- node queries --------------------------------------------------------------------------------


async def put_subscribed(connection: ModeConnection, code: bytes) -> Put:
    put = put_of(code, b"12345", subscribe=True)
    assert await connection.ask(put) == PutResponse(key=put.contract.key)
    return put


@beyond_flatbuffers
async def test_a_simulated_node_has_no_peers(connection: ModeConnection) -> None:
    assert await connection.ask(QueryConnectedPeers()) == ConnectedPeers(peers=())


@beyond_flatbuffers
async def test_subscription_info_has_an_entry_for_each_subscriber(connection: ModeConnection, code: bytes) -> None:
    instance = (await put_subscribed(connection, code)).contract.key.instance
    answer = await connection.ask(QuerySubscriptionInfo())
    assert isinstance(answer, NetworkDebug)
    assert [entry for entry in answer.subscriptions if entry.contract_key == instance] == [
        SubscriptionInfo(contract_key=instance, client_id=0)
    ]


@beyond_flatbuffers
async def test_diagnostics_tell_what_was_asked_for(connection: ModeConnection, code: bytes) -> None:
    key = (await put_subscribed(connection, code)).contract.key
    answer = await connection.ask(QueryNodeDiagnostics(contract_keys=(key,)))
    assert isinstance(answer, NodeDiagnostics)
    assert answer.node_info is not None
    assert answer.system_metrics is not None
    assert answer.system_metrics.hosting_contracts > 0
    ((text, state),) = answer.contract_states
    assert (text, state.subscribers, state.size_bytes) == (encode_base58(key.instance), 1, 5)


@beyond_flatbuffers
async def test_diagnostics_tell_nothing_that_was_not_asked_for(connection: ModeConnection) -> None:
    nothing = QueryNodeDiagnostics(
        include_node_info=False,
        include_network_info=False,
        include_subscriptions=False,
        include_system_metrics=False,
        include_detailed_peer_info=False,
        include_subscriber_peer_ids=False,
    )
    assert await connection.ask(nothing) == NodeDiagnostics(
        node_info=None,
        network_info=None,
        subscriptions=(),
        contract_states=(),
        system_metrics=None,
        connected_peers_detailed=(),
    )


@beyond_flatbuffers
async def test_hosting_info_names_every_contract(connection: ModeConnection, code: bytes) -> None:
    key = (await put_subscribed(connection, code)).contract.key
    answer = await connection.ask(QueryNeighborHostingInfo())
    assert isinstance(answer, NeighborHosting)
    assert encode_base58(key.instance) in {hosted.contract_key for hosted in answer.my_hosted}
    assert answer.neighbor_hosting == ()


# ---- the connection itself -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES, ids=str)
async def test_a_valid_token_gets_no_reply(strict_node: LiveNode, mode) -> None:
    async with open_connection(strict_node.url, mode, token="right") as connection:
        await connection.send(Authenticate(token="right"))
        assert await connection.lives()


async def test_a_node_without_tokens_takes_any(connection: ModeConnection) -> None:
    await connection.send(Authenticate(token="whatever"))
    assert await connection.lives()


async def ends(connection: ModeConnection) -> bool:
    """Whether the node closes with 1000, having said nothing."""
    with pytest.raises(ConnectionClosedOK):
        await connection.receive_message()
    return connection.socket.close_code == CloseCode.NORMAL_CLOSURE


@pytest.mark.parametrize("cause", [None, "", "déjà vu"])
async def test_disconnect_ends_the_connection(connection: ModeConnection, cause: str | None) -> None:
    await connection.send(Disconnect(cause=cause))
    assert await ends(connection)


@beyond_flatbuffers
async def test_close_ends_the_connection(connection: ModeConnection) -> None:
    await connection.send(Close())
    assert await ends(connection)


async def test_what_was_asked_before_the_end_is_carried_out(
    connection: ModeConnection, node: LiveNode, code: bytes
) -> None:
    """Its answer may be lost: who takes leave does not wait for one."""
    put = put_of(code, b"last words")
    await connection.send(put)
    await connection.send(Disconnect())
    await connection.socket.wait_closed()
    assert connection.socket.close_code == CloseCode.NORMAL_CLOSURE
    async with open_connection(node.url, connection.mode) as another, asyncio.timeout(10):
        while isinstance(answer := await another.ask(Get(key=put.contract.key.instance)), NotFound):
            pass
    assert answer.state == b"last words"


def test_every_request_of_the_protocol_is_tested_here() -> None:
    """A query that is new in the schema would otherwise go unnoticed."""
    asked = {QueryConnectedPeers, QueryNeighborHostingInfo, QueryNodeDiagnostics, QuerySubscriptionInfo}
    assert set(NodeQuery.__args__) == asked
