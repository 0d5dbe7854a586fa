"""The flatbuffers tables of requests, both ways.

Enters: messages or tables. Leaves: the other. Next: `flatbuffers_results.py`.
"""

from __future__ import annotations

from simnode.protocol.codec.flatbuffers_contracts import (
    container_table,
    instance_key_table,
    key_table,
    read_container,
    read_full_key,
    read_instance_key,
    read_related,
    read_update,
    related_table,
    update_table,
)
from simnode.protocol.codec.flatbuffers_delegates import delegate_request_table, read_delegate_request
from simnode.protocol.codec.flatbuffers_reader import Table as Read
from simnode.protocol.codec.flatbuffers_reader import unknown_tag
from simnode.protocol.codec.flatbuffers_writer import Table
from simnode.protocol.errors import EncodeError
from simnode.protocol.messages.requests import (
    ApplicationMessages,
    Authenticate,
    ClientRequest,
    ContractRequest,
    Disconnect,
    Get,
    Put,
    RegisterDelegate,
    StreamChunk,
    Subscribe,
    UnregisterDelegate,
    Update,
)


def request_table(request: ClientRequest) -> Table:
    """ClientRequest, the root.

    Raises:
        EncodeError: the schema has no such request (Close, the node queries), or not with these contents.
    """
    match request:
        case Get() | Put() | Update() | Subscribe():
            return Table("bo", 1, _contract_request_table(request))
        case StreamChunk():
            return Table("bo", 5, chunk_table(request))
        case ApplicationMessages() | RegisterDelegate() | UnregisterDelegate():
            return Table("bo", 2, delegate_request_table(request))
        case Disconnect():
            return Table("bo", 3, Table("-") if request.cause is None else Table("o", request.cause))
        case Authenticate():
            return Table("bo", 4, Table("o", request.token))
        case _:
            raise EncodeError(f"flatbuffers cannot express {type(request).__name__}")


def read_request(root: Read) -> ClientRequest:
    """ClientRequest, the root."""
    tag, value = root.union(0, "ClientRequest.client_request")
    match tag:
        case 1:
            return _read_contract_request(value)
        case 2:
            return read_delegate_request(value)
        case 3:
            return Disconnect(cause=value.optional_text(0, "Disconnect.cause"))
        case 4:
            return Authenticate(token=value.text(0, "Authenticate.token"))
        case 5:
            return read_chunk(value)
        case _:
            raise unknown_tag("ClientRequestType", tag)


def _contract_request_table(request: ContractRequest) -> Table:
    match request:
        case Get():
            return Table(
                "bo",
                3,
                Table(
                    "obbb",
                    instance_key_table(request.key),
                    request.return_contract_code,
                    request.subscribe,
                    request.blocking_subscribe,
                ),
            )
        case Put():
            return Table(
                "bo",
                1,
                Table(
                    "ooobb",
                    container_table(request.contract),
                    request.state,
                    related_table(request.related_contracts),
                    request.subscribe,
                    request.blocking_subscribe,
                ),
            )
        case Update():
            return Table("bo", 2, Table("oo", key_table(request.key), update_table(request.data)))
        case _:  # Subscribe
            key = instance_key_table(request.key)
            return Table("bo", 4, Table("o-", key) if request.summary is None else Table("oo", key, request.summary))


def _read_contract_request(request: Read) -> ContractRequest:
    tag, value = request.union(0, "ContractRequest.contract_request")
    match tag:
        case 1:
            return Put(
                contract=read_container(value.table(0, "Put.container")),
                state=value.blob(1, "Put.wrapped_state"),
                related_contracts=read_related(value, 2, "Put.related_contracts"),
                subscribe=value.flag(3, "Put.subscribe"),
                blocking_subscribe=value.flag(4, "Put.blocking_subscribe"),
            )
        case 2:
            return Update(key=read_full_key(value, 0, "Update.key"), data=read_update(value, 1, "Update.data"))
        case 3:
            return Get(
                key=read_instance_key(value, 0, "Get.key"),
                return_contract_code=value.flag(1, "Get.fetch_contract"),
                subscribe=value.flag(2, "Get.subscribe"),
                blocking_subscribe=value.flag(3, "Get.blocking_subscribe"),
            )
        case 4:
            summary = value.optional_blob(1, "Subscribe.summary")
            # the TypeScript SDK always sends a summary, empty when it has none
            return Subscribe(key=read_instance_key(value, 0, "Subscribe.key"), summary=summary or None)
        case _:
            raise unknown_tag("ContractRequestType", tag)


def chunk_table(chunk: StreamChunk) -> Table:
    """StreamChunk, of a request or a response; the fast way to make one is in `flatbuffers.py`."""
    return Table("uuuo", chunk.stream_id, chunk.index, chunk.total, chunk.data)


def read_chunk(chunk: Read) -> StreamChunk:
    """StreamChunk, of a request or a response."""
    return StreamChunk(
        stream_id=chunk.u32(0, "StreamChunk.stream_id"),
        index=chunk.u32(1, "StreamChunk.index"),
        total=chunk.u32(2, "StreamChunk.total"),
        data=chunk.blob(3, "StreamChunk.data"),
    )
