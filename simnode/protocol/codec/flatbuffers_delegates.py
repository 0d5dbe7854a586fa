"""The flatbuffers tables of delegates, both ways.

Enters: messages or tables. Leaves: the other. Next: `flatbuffers_requests.py`.

The schema knows two of the messages to a delegate and three of those from one.
"""

from __future__ import annotations

from typing import Final

from simnode.protocol.blob import Blob
from simnode.protocol.codec.flatbuffers_reader import Table as Read
from simnode.protocol.codec.flatbuffers_reader import unknown_tag
from simnode.protocol.codec.flatbuffers_writer import Table
from simnode.protocol.errors import EncodeError
from simnode.protocol.keys import ID_BYTES, code_hash, delegate_key
from simnode.protocol.messages.delegates import (
    ApplicationMessage,
    ContextUpdated,
    DelegateContainer,
    DelegateKey,
    InboundDelegateMsg,
    OutboundDelegateMsg,
    RequestUserInput,
    UserResponse,
)
from simnode.protocol.messages.requests import (
    ApplicationMessages,
    DelegateRequest,
    RegisterDelegate,
    UnregisterDelegate,
)
from simnode.protocol.messages.responses import DelegateResponse

_NONCE_BYTES: Final = 24

# ---- requests ----------------------------------------------------------------------------------


def delegate_request_table(request: DelegateRequest) -> Table:
    """DelegateRequest.

    Raises:
        EncodeError: it holds a message to the delegate that the schema does not have.
    """
    match request:
        case ApplicationMessages():
            inbound = [_inbound_table(message) for message in request.inbound]
            return Table("bo", 1, Table("ooo", _key_table(request.key), request.params, inbound))
        case RegisterDelegate():
            return Table(
                "bo", 2, Table("ooo", _container_table(request.delegate), bytes(request.cipher), bytes(request.nonce))
            )
        case _:  # UnregisterDelegate
            return Table("bo", 3, Table("o", _key_table(request.key)))


def read_delegate_request(request: Read) -> DelegateRequest:
    """DelegateRequest."""
    tag, value = request.union(0, "DelegateRequest.delegate_request")
    match tag:
        case 1:
            return ApplicationMessages(
                key=_read_key(value, 0, "ApplicationMessages.key"),
                params=value.blob(1, "ApplicationMessages.params"),
                inbound=tuple(map(_read_inbound, value.required_tables(2, "ApplicationMessages.inbound"))),
            )
        case 2:
            return RegisterDelegate(
                delegate=_read_container(value.table(0, "RegisterDelegate.delegate")),
                cipher=value.fixed(1, "RegisterDelegate.cipher", ID_BYTES),
                nonce=value.fixed(2, "RegisterDelegate.nonce", _NONCE_BYTES),
            )
        case 3:
            return UnregisterDelegate(key=_read_key(value, 0, "UnregisterDelegate.key"))
        case _:
            raise unknown_tag("DelegateRequestType", tag)


# ---- responses ---------------------------------------------------------------------------------


def delegate_response_table(response: DelegateResponse) -> Table:
    """DelegateResponse, without the messages that the schema does not have (so does the reference)."""
    tables = (_outbound_table(message) for message in response.values)
    return Table("oo", _key_table(response.key), [table for table in tables if table is not None])


def read_delegate_response(response: Read) -> DelegateResponse:
    """DelegateResponse."""
    return DelegateResponse(
        key=_read_key(response, 0, "DelegateResponse.key"),
        values=tuple(map(_read_outbound, response.required_tables(1, "DelegateResponse.values"))),
    )


# ---- keys and containers -----------------------------------------------------------------------


def _key_table(key: DelegateKey) -> Table:
    return Table("oo", key.key, key.code_hash)


def _read_key(owner: Read, slot: int, name: str) -> DelegateKey:
    key = owner.table(slot, name)
    return DelegateKey(
        key.fixed(0, "DelegateKey.key", ID_BYTES),
        key.fixed(1, "DelegateKey.code_hash", ID_BYTES),
    )


def _container_table(container: DelegateContainer) -> Table:
    code = Table("oo", container.data, container.code_hash)
    return Table("bo", 1, Table("ooo", container.params, code, _key_table(container.key)))


def _read_container(container: Read) -> DelegateContainer:
    """The delegate, with its key computed: an embedded key and hash must be there, but nobody trusts them."""
    tag, delegate = container.union(0, "DelegateContainer.delegate")
    if tag != 1:
        raise unknown_tag("DelegateType", tag)
    params = delegate.blob(0, "WasmDelegateV1.parameters")
    code = delegate.table(1, "WasmDelegateV1.data")
    data = code.blob(0, "DelegateCode.data")
    code.blob(1, "DelegateCode.code_hash")
    embedded = delegate.table(2, "WasmDelegateV1.key")
    embedded.blob(0, "DelegateKey.key")
    embedded.blob(1, "DelegateKey.code_hash")
    hashed = code_hash(data)
    return DelegateContainer(params=params, data=data, code_hash=hashed, key=delegate_key(hashed, params))


# ---- messages to and from ----------------------------------------------------------------------


def _application_table(message: ApplicationMessage) -> Table:
    return Table("oob", message.payload, message.context, message.processed)


def _read_application(message: Read) -> ApplicationMessage:
    return ApplicationMessage(
        payload=message.blob(0, "ApplicationMessage.payload"),
        context=message.blob(1, "ApplicationMessage.context"),
        processed=message.flag(2, "ApplicationMessage.processed"),
    )


def _inbound_table(message: InboundDelegateMsg) -> Table:
    match message:
        case ApplicationMessage():
            return Table("bo", 1, _application_table(message))
        case UserResponse():
            response = Table("o", message.response)
            return Table("bo", 2, Table("uoo", message.request_id, response, message.context))
        case _:
            raise EncodeError(f"flatbuffers cannot express {type(message).__name__}")


def _read_inbound(message: Read) -> InboundDelegateMsg:
    tag, value = message.union(0, "InboundDelegateMsg.inbound")
    match tag:
        case 1:
            return _read_application(value)
        case 2:
            return UserResponse(
                request_id=value.u32(0, "UserInputResponse.request_id"),
                response=value.table(1, "UserInputResponse.response").blob(0, "ClientResponse.data"),
                context=value.blob(2, "UserInputResponse.delegate_context"),
            )
        case _:
            raise unknown_tag("InboundDelegateMsgType", tag)


def _outbound_table(message: OutboundDelegateMsg) -> Table | None:
    match message:
        case ApplicationMessage():
            return Table("bo", 1, _application_table(message))
        case RequestUserInput():
            responses = [Table("o", response) for response in message.responses]
            return Table("bo", 2, Table("uoo", message.request_id, message.message, responses))
        case ContextUpdated():
            return Table("bo", 3, Table("o", message.context))
        case _:
            return None


def _read_outbound(message: Read) -> OutboundDelegateMsg:
    tag, value = message.union(0, "OutboundDelegateMsg.inbound")
    match tag:
        case 1:
            return _read_application(value)
        case 2:
            responses = value.tables(2, "RequestUserInput.responses")
            return RequestUserInput(
                request_id=value.u32(0, "RequestUserInput.request_id"),
                message=value.optional_blob(1, "RequestUserInput.message") or Blob(),
                responses=tuple(response.optional_blob(0, "ClientResponse.data") or Blob() for response in responses),
            )
        case 3:
            return ContextUpdated(context=value.blob(0, "ContextUpdated.context"))
        case _:
            raise unknown_tag("OutboundDelegateMsgType", tag)
