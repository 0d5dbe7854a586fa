//! A contract that nobody stored: GET is answered NotFound, the others with the errors the client decodes.

use std::time::Instant;

use anyhow::{bail, ensure, Result};
use freenet_stdlib::client_api::{
    ContractError, ContractRequest, ContractResponse, ErrorKind, HostResponse, RequestError,
};
use freenet_stdlib::prelude::{State, UpdateData};
use serde_json::{json, Value};

use crate::cli::Target;
use crate::payload::{contract, get_request};
use crate::session::Session;

pub async fn run(target: &Target) -> Result<Value> {
    let unknown = contract(target.seed, "never stored");
    let id = *unknown.id();
    let mut session = Session::connect(target).await?;

    let started = Instant::now();
    session.send(get_request(id)).await?;
    match session.recv("NotFound").await?? {
        HostResponse::ContractResponse(ContractResponse::NotFound { instance_id }) => {
            ensure!(instance_id == id, "asked for {id}, {instance_id} was not found");
        }
        other => bail!("instead of NotFound: {other}"),
    }
    let seconds = started.elapsed().as_secs_f64();

    session.send(ContractRequest::Subscribe { key: id, summary: None }.into()).await?;
    let subscribe_error = refusal(&mut session).await?;
    let data = UpdateData::State(State::from(vec![1]));
    session.send(ContractRequest::Update { key: unknown.key(), data }.into()).await?;
    let update_error = refusal(&mut session).await?;
    Ok(json!({
        "command": "get-unknown",
        "get": "NotFound",
        "seconds": seconds,
        "subscribe_error": subscribe_error,
        "update_error": update_error,
    }))
}

/// The variant's name of the contract error that must come next.
async fn refusal(session: &mut Session) -> Result<&'static str> {
    let error = match session.recv("an error").await? {
        Err(error) => error,
        Ok(response) => bail!("instead of an error: {response}"),
    };
    match error.kind() {
        ErrorKind::RequestError(RequestError::ContractError(error)) => Ok(match error {
            ContractError::Get { .. } => "Get",
            ContractError::Put { .. } => "Put",
            ContractError::Update { .. } => "Update",
            ContractError::Subscribe { .. } => "Subscribe",
            ContractError::MissingContract { .. } => "MissingContract",
            other => bail!("unexpected contract error: {other}"),
        }),
        other => bail!("no contract error: {other}"),
    }
}
