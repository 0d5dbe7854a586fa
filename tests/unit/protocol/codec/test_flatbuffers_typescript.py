"""Messages that the TypeScript SDK built: another builder, with other layouts and habits."""

from typing import Any

import pytest

from simnode.protocol.blob import Blob
from simnode.protocol.codec import codec_for
from simnode.protocol.codec.base import Encoding
from simnode.protocol.errors import DecodeError
from simnode.protocol.keys import code_hash, contract_key
from simnode.protocol.messages import contracts, delegates, error_kinds, requests, responses
from simnode.protocol.messages.contracts import ContractContainer, ContractKey
from simnode.protocol.messages.delegates import DelegateKey
from tests.support.vectors import load_json

FLATBUFFERS = codec_for(Encoding.FLATBUFFERS)
TYPESCRIPT = load_json("typescript.json")["vectors"]


def decoded(vector: dict[str, Any]) -> Any:
    decode = FLATBUFFERS.decode_request if vector["direction"] == "request" else FLATBUFFERS.decode_result
    return decode(Blob(bytes.fromhex(vector["hex"])))


def from_table(node: dict[str, Any]) -> Any:
    """The message that a vector of the TypeScript SDK describes, table by table."""
    value = node["value"]
    match node["type"]:
        case "ContractRequest" | "ContractResponse" | "DelegateRequest":
            (inner,) = value.values()
            return from_table(inner)
        case "Put":
            return requests.Put(
                contract=container(value["container"]),
                state=blob(value["wrapped_state"]),
                related_contracts=tuple(
                    (bytes.fromhex(item["instance_id"]["data"]), blob(item["state"]))
                    for item in value["related_contracts"]["contracts"]
                ),
                subscribe=value["subscribe"],
                blocking_subscribe=value["blocking_subscribe"],
            )
        case "Update":
            return requests.Update(key=full_key(value["key"]), data=from_table(value["data"]["update_data"]))
        case "Get":
            return requests.Get(
                key=full_key(value["key"]).instance,
                return_contract_code=value["fetch_contract"],
                subscribe=value["subscribe"],
                blocking_subscribe=value["blocking_subscribe"],
            )
        case "Subscribe":
            return requests.Subscribe(key=full_key(value["key"]).instance, summary=blob(value["summary"]) or None)
        case "Disconnect":
            return requests.Disconnect(cause=value["cause"])
        case "StreamChunk":
            return requests.StreamChunk(**value | {"data": blob(value["data"])})
        case "ApplicationMessages":
            return requests.ApplicationMessages(
                key=delegate(value["key"]),
                params=blob(value["params"]),
                inbound=tuple(from_table(item["inbound"]) for item in value["inbound"]),
            )
        case "ApplicationMessage":
            return delegates.ApplicationMessage(
                payload=blob(value["payload"]), context=blob(value["context"]), processed=value["processed"]
            )
        case "UserInputResponse":
            return delegates.UserResponse(
                request_id=value["request_id"],
                response=blob(value["response"]["data"]),
                context=blob(value["delegate_context"]),
            )
        case "GetResponse":
            contract = None if value["contract"] is None else container(value["contract"])
            return responses.GetResponse(key=full_key(value["key"]), contract=contract, state=blob(value["state"]))
        case "PutResponse":
            return responses.PutResponse(key=full_key(value["key"]))
        case "UpdateNotification":
            update = from_table(value["update"]["update_data"])
            return responses.UpdateNotification(key=full_key(value["key"]), update=update)
        case "UpdateResponse":
            return responses.UpdateResponse(key=full_key(value["key"]), summary=blob(value["summary"]))
        case "NotFound":
            return responses.NotFound(instance_id=bytes.fromhex(value["instance_id"]["data"]))
        case "SubscribeResponse":
            return responses.SubscribeResponse(key=full_key(value["key"]), subscribed=value["subscribed"])
        case "DelegateResponse":
            values = tuple(from_table(item["inbound"]) for item in value["values"])
            return responses.DelegateResponse(key=delegate(value["key"]), values=values)
        case "RequestUserInput":
            return delegates.RequestUserInput(
                request_id=value["request_id"],
                message=blob(value["message"]),
                responses=tuple(blob(item["data"]) for item in value["responses"]),
            )
        case "ContextUpdated":
            return delegates.ContextUpdated(context=blob(value["context"]))
        case "Error":
            return responses.Err(error_kinds.Unhandled(cause=value["msg"]))
    update_class = getattr(contracts, node["type"].removesuffix("Update"))
    fields = {name: blob(item) for name, item in value.items() if name != "related_to"}
    if "related_to" in value:
        fields["related_to"] = bytes.fromhex(value["related_to"]["data"])
    return update_class(**fields)


def blob(text: str) -> Blob:
    return Blob(bytes.fromhex(text))


def full_key(value: dict[str, Any]) -> ContractKey:
    return ContractKey(bytes.fromhex(value["instance"]["data"]), bytes.fromhex(value["code"]))


def delegate(value: dict[str, Any]) -> DelegateKey:
    return DelegateKey(bytes.fromhex(value["key"]), bytes.fromhex(value["code_hash"]))


def container(value: dict[str, Any]) -> ContractContainer:
    wasm = value["contract"]["value"]
    data, params = blob(wasm["data"]["data"]), blob(wasm["parameters"])
    hashed = code_hash(data)
    return ContractContainer(data=data, code_hash=hashed, params=params, key=contract_key(hashed, params))


REFUSED = {"bad_client_request_tag_99", "update_instance_only_key", "generate_rand_data"}


@pytest.mark.parametrize(
    "vector", [vector for vector in TYPESCRIPT if vector["name"] not in REFUSED], ids=lambda vector: vector["name"]
)
def test_a_message_of_the_typescript_sdk_is_decoded(vector):
    assert decoded(vector) == from_table(vector["fields"])


@pytest.mark.parametrize(
    "vector", [vector for vector in TYPESCRIPT if vector["name"] in REFUSED], ids=lambda vector: vector["name"]
)
def test_a_bad_message_of_the_typescript_sdk_is_refused(vector):
    with pytest.raises(DecodeError):
        decoded(vector)


def test_the_chunks_of_the_typescript_sdk_join_to_a_message():
    halves = [vector for vector in TYPESCRIPT if vector["name"].startswith("stream_of_get_response_")]
    whole = b"".join(bytes(decoded(half).data) for half in halves)
    assert whole.hex() == halves[0]["reassembles_to"]
    assert FLATBUFFERS.decode_result(Blob(whole)).state == bytes(range(40))
