"""Every way in which a node says no to a request, in three encodings, streaming on and off.

Each is answered in the connection's own encoding, and the connection lives. What is wrong with the
message itself is in `test_error_matrix_streams.py`, who may ask in `test_error_matrix_access.py`.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
import pytest_asyncio
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.connection import ServerConnection
from simnode.protocol.events import RequestReceived
from simnode.protocol.keys import delegate_key
from simnode.protocol.limits import MAX_RESPONSE_SIZE, MAX_STATE_SIZE, MIB
from simnode.protocol.messages.contracts import ContractKey, Delta, RelatedState, State
from simnode.protocol.messages.delegates import ApplicationMessage, DelegateContainer, DelegateKey
from simnode.protocol.messages.error_kinds import (
    MissingContract,
    MissingDelegate,
    OperationError,
    PutError,
    RegisterError,
    SubscribeError,
    Unhandled,
    UpdateError,
)
from simnode.protocol.messages.requests import (
    ApplicationMessages,
    Get,
    RegisterDelegate,
    Subscribe,
    Update,
)
from simnode.protocol.messages.responses import ConnectedPeers, Err, NotFound, PutResponse, SubscribeResponse
from tests.support.live_node import LiveNode
from tests.support.modes import STRICT_TOKEN, UNKNOWN_INSTANCE, Mode, ModeConnection, open_connection, put_of

NOBODYS = ContractKey(UNKNOWN_INSTANCE, b"c" * 32)
NO_CODE = bytes(32)
UNKNOWN_DELEGATE = DelegateKey(b"d" * 32, b"h" * 32)
TOO_LARGE = Blob(bytes(MAX_STATE_SIZE + 1))
TOO_LARGE_TEXT = f"state of {MAX_STATE_SIZE + 1} bytes exceeds the maximum of {MAX_STATE_SIZE} bytes"


# ---- contracts that are not there ----------------------------------------------------------------


@pytest.mark.parametrize("flags", [{}, {"return_contract_code": True}, {"subscribe": True, "blocking_subscribe": True}])
async def test_get_of_an_unknown_contract_is_not_found(connection: ModeConnection, flags: dict[str, bool]) -> None:
    assert await connection.ask(Get(key=NOBODYS.instance, **flags)) == NotFound(instance_id=NOBODYS.instance)
    assert await connection.lives()


async def test_subscribe_to_an_unknown_contract_is_refused(connection: ModeConnection) -> None:
    assert await connection.refuses(Subscribe(key=NOBODYS.instance), MissingContract(key=NOBODYS.instance))


async def test_update_of_an_unknown_contract_is_refused(connection: ModeConnection) -> None:
    update = Update(key=NOBODYS, data=State(state=Blob(b"new")))
    assert await connection.refuses(update, UpdateError(key=NOBODYS, cause="contract not found"))


async def test_a_message_to_an_unknown_delegate_is_refused(connection: ModeConnection) -> None:
    message = ApplicationMessage(payload=Blob(b"p"), context=Blob(), processed=False)
    request = ApplicationMessages(key=UNKNOWN_DELEGATE, params=Blob(), inbound=(message,))
    assert await connection.refuses(request, MissingDelegate(key=UNKNOWN_DELEGATE))


# ---- contracts that do not take it ---------------------------------------------------------------


async def test_an_update_that_speaks_of_another_contract_is_refused(connection: ModeConnection, code: bytes) -> None:
    put = put_of(code, b"state")
    await connection.ask(put)
    related = RelatedState(related_to=NOBODYS.instance, state=Blob(b"s"))
    cause = "RelatedState updates are not supported by the replace runtime"
    request = Update(key=put.contract.key, data=related)
    assert await connection.refuses(request, UpdateError(key=put.contract.key, cause=cause))


async def test_a_put_under_a_wrong_key_is_refused_where_the_key_counts(connection: ModeConnection, code: bytes) -> None:
    """Over flatbuffers the embedded key is ignored and computed anew, as by the reference."""
    put = put_of(code, b"state")
    key = put.contract.key
    wrong = replace(put, contract=replace(put.contract, key=NOBODYS))
    if connection.mode.encoding is Encoding.FLATBUFFERS:
        assert await connection.ask(wrong) == PutResponse(key=key)
    else:
        cause = "the key is not the one that the code and the parameters give"
        assert await connection.refuses(wrong, PutError(key=NOBODYS, cause=cause))
        assert await connection.ask(Get(key=key.instance)) == NotFound(instance_id=key.instance)


async def test_a_delegate_under_a_wrong_key_is_refused_where_the_key_counts(
    connection: ModeConnection, code: bytes
) -> None:
    container = DelegateContainer(params=Blob(), data=Blob(code), code_hash=b"h" * 32, key=UNKNOWN_DELEGATE)
    request = RegisterDelegate(delegate=container, cipher=bytes(32), nonce=bytes(24))
    if connection.mode.encoding is Encoding.FLATBUFFERS:
        answer = await connection.ask(request)
        assert answer.key != delegate_key(b"h" * 32, b"")
        assert not isinstance(answer, Err)
    else:
        assert await connection.refuses(request, RegisterError(key=UNKNOWN_DELEGATE))


# ---- limits --------------------------------------------------------------------------------------


async def test_a_put_of_too_large_a_state_is_refused(connection: ModeConnection, code: bytes) -> None:
    put = put_of(code, TOO_LARGE)
    assert await connection.refuses(put, PutError(key=put.contract.key, cause=TOO_LARGE_TEXT))


async def test_an_update_with_too_large_a_state_is_refused_and_the_old_one_stays(
    connection: ModeConnection, code: bytes
) -> None:
    put = put_of(code, b"old")
    key = put.contract.key
    await connection.ask(put)
    update = Update(key=key, data=State(state=TOO_LARGE))
    assert await connection.refuses(update, UpdateError(key=key, cause=TOO_LARGE_TEXT))
    assert (await connection.ask(Get(key=key.instance))).state == b"old"


async def test_a_delta_that_makes_the_state_too_large_is_refused(connection: ModeConnection, code: bytes) -> None:
    put = put_of(code, b"!")
    key = put.contract.key
    await connection.ask(put)
    update = Update(key=key, data=Delta(delta=TOO_LARGE.slice(0, MAX_STATE_SIZE)))
    assert await connection.refuses(update, UpdateError(key=key, cause=TOO_LARGE_TEXT))


async def test_a_message_over_the_limit_ends_the_connection_with_1009(strict_connection: ModeConnection) -> None:
    """The one thing that is not answered: what it says would have to be read first."""
    with contextlib.suppress(ConnectionClosed):
        await strict_connection.socket.send(bytes(8 * MIB + 1))
    await strict_connection.socket.wait_closed()
    assert strict_connection.socket.close_code == CloseCode.MESSAGE_TOO_BIG


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def large_contract(node: LiveNode) -> ContractKey:
    """A contract whose code and state are each within their limit, and together over a response's."""
    put = put_of(bytes(40 * MIB), bytes(40 * MIB))
    async with open_connection(node.url, Mode(Encoding.NATIVE, streaming=False)) as connection:
        assert await connection.ask(put) == PutResponse(key=put.contract.key)
    return put.contract.key


async def test_a_response_over_the_limit_becomes_an_error_that_names_both_sizes(
    connection: ModeConnection, large_contract: ContractKey
) -> None:
    answer = await connection.ask(Get(key=large_contract.instance, return_contract_code=True))
    assert isinstance(answer, Err)
    assert isinstance(answer.kind, OperationError)
    said = [int(word) for word in answer.kind.cause.split() if word.isdigit()]
    assert 80 * MIB < said[0] < 81 * MIB
    assert said[1] == MAX_RESPONSE_SIZE
    assert len((await connection.ask(Get(key=large_contract.instance))).state) == 40 * MIB


async def test_a_subscription_beyond_the_clients_cap_is_refused(strict_connection: ModeConnection, code: bytes) -> None:
    """The strict node allows three."""
    *allowed, beyond = [put_of(code + b"%d" % number) for number in range(4)]
    for put in (*allowed, beyond):
        await strict_connection.ask(put)
    for put in allowed:
        answer = await strict_connection.ask(Subscribe(key=put.contract.key.instance))
        assert answer == SubscribeResponse(key=put.contract.key, subscribed=True)
    instance = beyond.contract.key.instance
    kind = SubscribeError(key=ContractKey(instance, NO_CODE), cause="client has 3 subscriptions, maximum is 3")
    assert await strict_connection.refuses(Subscribe(key=instance), kind)


async def test_a_subscriber_beyond_the_contracts_cap_is_refused(
    strict_connection: ModeConnection, strict_node: LiveNode, code: bytes
) -> None:
    """The strict node allows two; whatever their encodings."""
    put = put_of(code)
    instance = put.contract.key.instance
    await strict_connection.ask(put)
    async with contextlib.AsyncExitStack() as stack:
        for encoding in (Encoding.NATIVE, Encoding.MSGPACK):
            mode = Mode(encoding, streaming=False)
            subscriber = await stack.enter_async_context(open_connection(strict_node.url, mode, token=STRICT_TOKEN))
            await subscriber.ask(Subscribe(key=instance))
        cause = "contract has 2 subscribers, maximum is 2"
        kind = SubscribeError(key=ContractKey(instance, NO_CODE), cause=cause)
        assert await strict_connection.refuses(Subscribe(key=instance), kind)


# ---- what an encoding has no words for -----------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
def test_a_response_that_flatbuffers_cannot_express_becomes_an_error(streaming: bool) -> None:
    """On the core: no request that flatbuffers have makes a node say what they have not."""
    codec = codec_for(Encoding.FLATBUFFERS)
    connection = ServerConnection(codec=codec, streaming=streaming)
    connection.receive_message(Blob(bytes(codec.encode_request(Get(key=NOBODYS.instance)))), 0.0)
    event = connection.next_event()
    assert isinstance(event, RequestReceived)
    connection.send_response(event.ticket, ConnectedPeers(peers=()))
    message = connection.next_message()
    assert message is not None
    answer = codec.decode_result(Blob(bytes(message.data)))
    assert isinstance(answer, Err)
    assert isinstance(answer.kind, Unhandled)
    assert "ConnectedPeers" in answer.kind.cause
