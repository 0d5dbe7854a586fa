//! Many requests on one `WebApi` before any reply is awaited; replies are told apart by their key.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use freenet_stdlib::client_api::{ClientRequest, ContractResponse, WebApi};
use freenet_stdlib::prelude::{ContractInstanceId, WrappedState};
use futures_util::{SinkExt, StreamExt};
use serde_json::{json, Value};

use crate::cli::{Pipelined, Target};
use crate::payload::{contract, get_request, put_request, random_bytes};
use crate::session::{contract_response, within, Session};

pub async fn run(target: &Target, options: &Pipelined) -> Result<Value> {
    let mut api = Session::connect(target).await?.into_api();
    let mut puts = Vec::new();
    let mut states = HashMap::new();
    for number in 0..options.requests {
        let contract = contract(target.seed, &format!("pipelined/{number}"));
        let state = WrappedState::from(random_bytes(target.seed ^ number, options.size));
        puts.push(put_request(&contract, state.clone()));
        states.insert(*contract.id(), state);
    }

    let started = Instant::now();
    let mut unanswered = states.clone();
    exchange(&mut api, target.wait(), puts, |response| match response {
        ContractResponse::PutResponse { key } => take(&mut unanswered, key.id()).map(drop),
        other => bail!("instead of PutResponse: {other:?}"),
    })
    .await?;
    let put_seconds = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let gets = states.keys().map(|id| get_request(*id)).collect();
    let mut unanswered = states.clone();
    exchange(&mut api, target.wait(), gets, |response| match response {
        ContractResponse::GetResponse { key, state, .. } => {
            ensure!(take(&mut unanswered, key.id())? == state, "contract {key} came back changed");
            Ok(())
        }
        other => bail!("instead of GetResponse: {other:?}"),
    })
    .await?;
    let get_seconds = started.elapsed().as_secs_f64();

    Ok(json!({
        "command": "pipelined",
        "requests": options.requests,
        "state_bytes": options.size,
        "put_seconds": put_seconds,
        "get_seconds": get_seconds,
    }))
}

/// Sends all requests and hands as many responses to `receive`, both at the same time.
async fn exchange(
    api: &mut WebApi,
    wait: Duration,
    requests: Vec<ClientRequest<'static>>,
    mut receive: impl FnMut(ContractResponse) -> Result<()>,
) -> Result<()> {
    let expected = requests.len();
    let (mut sink, mut stream) = api.split();
    let sending = async {
        for request in requests {
            within(wait, "room for a request", sink.send(request)).await??;
        }
        Ok::<(), anyhow::Error>(())
    };
    let receiving = async {
        for _ in 0..expected {
            let result = within(wait, "response", stream.next()).await?.context("the node hung up")?;
            receive(contract_response(result?, "a contract response")?)?;
        }
        Ok(())
    };
    tokio::try_join!(sending, receiving)?;
    Ok(())
}

fn take(unanswered: &mut HashMap<ContractInstanceId, WrappedState>, id: &ContractInstanceId) -> Result<WrappedState> {
    unanswered.remove(id).with_context(|| format!("a second or foreign response for {id}"))
}
