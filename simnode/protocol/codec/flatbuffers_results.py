"""The flatbuffers tables of responses, both ways.

Enters: messages or tables. Leaves: the other. Next: `flatbuffers_errors.py`.
"""

from __future__ import annotations

from simnode.protocol.codec.flatbuffers_contracts import (
    container_table,
    instance_table,
    key_table,
    read_container,
    read_instance,
    read_key,
    read_update,
    update_table,
)
from simnode.protocol.codec.flatbuffers_delegates import delegate_response_table, read_delegate_response
from simnode.protocol.codec.flatbuffers_errors import error_from_text, error_text, is_error_text
from simnode.protocol.codec.flatbuffers_reader import Table as Read
from simnode.protocol.codec.flatbuffers_reader import unknown_tag
from simnode.protocol.codec.flatbuffers_requests import chunk_table, read_chunk
from simnode.protocol.codec.flatbuffers_writer import Table
from simnode.protocol.errors import DecodeError, EncodeError
from simnode.protocol.messages.requests import StreamChunk
from simnode.protocol.messages.responses import (
    ContractResponse,
    DelegateResponse,
    Err,
    GetResponse,
    HostResult,
    NotFound,
    Ok,
    PutResponse,
    SubscribeResponse,
    UpdateNotification,
    UpdateResponse,
)


def result_table(result: HostResult) -> Table:
    """HostResponse, the root.

    Raises:
        EncodeError: the schema has no such response (the query responses, StreamHeader).
    """
    match result:
        case GetResponse() | PutResponse() | UpdateNotification() | UpdateResponse() | NotFound() | SubscribeResponse():
            return Table("bo", 1, _contract_response_table(result))
        case Err():
            return Table("bo", 5, Table("o", error_text(result.kind)))
        case StreamChunk():
            return Table("bo", 6, chunk_table(result))
        case DelegateResponse():
            return Table("bo", 2, delegate_response_table(result))
        case Ok():
            return Table("bo", 4, Table("o", ""))
        case _:
            raise EncodeError(f"flatbuffers cannot express {type(result).__name__}")


def read_result(root: Read) -> HostResult:
    """HostResponse, the root."""
    tag, value = root.union(0, "HostResponse.response")
    match tag:
        case 1:
            return _read_contract_response(value)
        case 2:
            return read_delegate_response(value)
        case 3:
            raise DecodeError("GenerateRandData answers no request")
        case 4:
            # the reference sends client errors, too, under the tag of Ok
            text = value.text(0, "Ok.msg")
            return Err(error_from_text(text)) if is_error_text(text) else Ok()
        case 5:
            return Err(error_from_text(value.text(0, "Error.msg")))
        case 6:
            return read_chunk(value)
        case _:
            raise unknown_tag("HostResponseType", tag)


def _contract_response_table(response: ContractResponse) -> Table:
    match response:
        case GetResponse():
            key = key_table(response.key)
            if response.contract is None:
                return Table("bo", 1, Table("o-o", key, response.state))
            return Table("bo", 1, Table("ooo", key, container_table(response.contract), response.state))
        case PutResponse():
            return Table("bo", 2, Table("o", key_table(response.key)))
        case UpdateNotification():
            return Table("bo", 3, Table("oo", key_table(response.key), update_table(response.update)))
        case UpdateResponse():
            return Table("bo", 4, Table("oo", key_table(response.key), response.summary))
        case NotFound():
            return Table("bo", 5, Table("o", instance_table(response.instance_id)))
        case _:  # SubscribeResponse
            return Table("bo", 6, Table("ob", key_table(response.key), response.subscribed))


def _read_contract_response(response: Read) -> ContractResponse:
    tag, value = response.union(0, "ContractResponse.contract_response")
    match tag:
        case 1:
            container = value.optional_table(1, "GetResponse.contract")
            return GetResponse(
                key=read_key(value, 0, "GetResponse.key"),
                contract=None if container is None else read_container(container),
                state=value.blob(2, "GetResponse.state"),
            )
        case 2:
            return PutResponse(key=read_key(value, 0, "PutResponse.key"))
        case 3:
            return UpdateNotification(
                key=read_key(value, 0, "UpdateNotification.key"),
                update=read_update(value, 1, "UpdateNotification.update"),
            )
        case 4:
            return UpdateResponse(
                key=read_key(value, 0, "UpdateResponse.key"),
                summary=value.blob(1, "UpdateResponse.summary"),
            )
        case 5:
            return NotFound(instance_id=read_instance(value, 0, "NotFound.instance_id"))
        case 6:
            return SubscribeResponse(
                key=read_key(value, 0, "SubscribeResponse.key"),
                subscribed=value.flag(1, "SubscribeResponse.subscribed"),
            )
        case _:
            raise unknown_tag("ContractResponseType", tag)
