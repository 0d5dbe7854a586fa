//! A response as JSON, read with the accessors that the reference generated.

use flatbuffers::Vector;
use serde_json::{json, Value};

use crate::{
    generated::{
        common::common::{ContractContainer, ContractKey, UpdateData},
        responses::host_response::{
            root_as_host_response, ContractResponse, ContractResponseType, DelegateKey, HostResponseType,
            OutboundDelegateMsg, OutboundDelegateMsgType,
        },
    },
    to_hex,
};

pub fn response(message: &[u8]) -> Value {
    let root = match root_as_host_response(message) {
        Ok(root) => root,
        Err(error) => return json!({"error": error.to_string()}),
    };
    let fields = match root.response_type() {
        HostResponseType::ContractResponse => root.response_as_contract_response().and_then(contract_response),
        HostResponseType::DelegateResponse => root.response_as_delegate_response().and_then(|table| {
            let values: Option<Vec<Value>> = table.values().iter().map(outbound).collect();
            Some(json!(["DelegateResponse", delegate_key(table.key()), values?]))
        }),
        HostResponseType::Ok => root.response_as_ok().map(|table| json!(["Ok", table.msg()])),
        HostResponseType::Error => root.response_as_error().map(|table| json!(["Error", table.msg()])),
        HostResponseType::StreamChunk => root
            .response_as_stream_chunk()
            .map(|table| json!(["StreamChunk", table.stream_id(), table.index(), table.total(), bytes(table.data())])),
        _ => None,
    };
    match fields {
        Some(fields) => json!({ "fields": fields }),
        None => json!({"error": "a union whose tag stands for no table"}),
    }
}

fn contract_response(response: ContractResponse) -> Option<Value> {
    match response.contract_response_type() {
        ContractResponseType::GetResponse => {
            let table = response.contract_response_as_get_response()?;
            let contract = match table.contract() {
                Some(contract) => container(contract)?,
                None => Value::Null,
            };
            Some(json!(["GetResponse", key(table.key()), contract, bytes(table.state())]))
        }
        ContractResponseType::PutResponse => {
            let table = response.contract_response_as_put_response()?;
            Some(json!(["PutResponse", key(table.key())]))
        }
        ContractResponseType::UpdateNotification => {
            let table = response.contract_response_as_update_notification()?;
            Some(json!(["UpdateNotification", key(table.key()), update(table.update())?]))
        }
        ContractResponseType::UpdateResponse => {
            let table = response.contract_response_as_update_response()?;
            Some(json!(["UpdateResponse", key(table.key()), bytes(table.summary())]))
        }
        ContractResponseType::NotFound => {
            let table = response.contract_response_as_not_found()?;
            Some(json!(["NotFound", bytes(table.instance_id().data())]))
        }
        ContractResponseType::SubscribeResponse => {
            let table = response.contract_response_as_subscribe_response()?;
            Some(json!(["SubscribeResponse", key(table.key()), table.subscribed()]))
        }
        _ => None,
    }
}

fn container(container: ContractContainer) -> Option<Value> {
    let contract = container.contract_as_wasm_contract_v1()?;
    Some(json!([
        bytes(contract.data().data()),
        bytes(contract.data().code_hash()),
        bytes(contract.parameters()),
        key(contract.key()),
    ]))
}

fn update(update: UpdateData) -> Option<Value> {
    if let Some(table) = update.update_data_as_state_update() {
        return Some(json!(["State", bytes(table.state())]));
    }
    if let Some(table) = update.update_data_as_delta_update() {
        return Some(json!(["Delta", bytes(table.delta())]));
    }
    if let Some(table) = update.update_data_as_state_and_delta_update() {
        return Some(json!(["StateAndDelta", bytes(table.state()), bytes(table.delta())]));
    }
    if let Some(table) = update.update_data_as_related_state_update() {
        return Some(json!(["RelatedState", bytes(table.related_to().data()), bytes(table.state())]));
    }
    if let Some(table) = update.update_data_as_related_delta_update() {
        return Some(json!(["RelatedDelta", bytes(table.related_to().data()), bytes(table.delta())]));
    }
    update.update_data_as_related_state_and_delta_update().map(|table| {
        json!(["RelatedStateAndDelta", bytes(table.related_to().data()), bytes(table.state()), bytes(table.delta())])
    })
}

fn outbound(message: OutboundDelegateMsg) -> Option<Value> {
    match message.inbound_type() {
        OutboundDelegateMsgType::common_ApplicationMessage => {
            let table = message.inbound_as_common_application_message()?;
            Some(json!(["ApplicationMessage", bytes(table.payload()), bytes(table.context()), table.processed()]))
        }
        OutboundDelegateMsgType::RequestUserInput => {
            let table = message.inbound_as_request_user_input()?;
            let responses: Vec<Value> = table.responses().iter().map(|response| optional(response.data())).collect();
            Some(json!(["RequestUserInput", table.request_id(), optional(table.message()), responses]))
        }
        OutboundDelegateMsgType::ContextUpdated => {
            let table = message.inbound_as_context_updated()?;
            Some(json!(["ContextUpdated", bytes(table.context())]))
        }
        _ => None,
    }
}

fn key(key: ContractKey) -> Value {
    json!([bytes(key.instance().data()), optional(key.code())])
}

fn delegate_key(key: DelegateKey) -> Value {
    json!([bytes(key.key()), bytes(key.code_hash())])
}

fn optional(vector: Option<Vector<u8>>) -> Value {
    vector.map_or(Value::Null, bytes)
}

fn bytes(vector: Vector<u8>) -> Value {
    json!(to_hex(vector.bytes()))
}
