//! Several chunked PUTs at once on one connection, their chunks in turn. `WebApi` sends one stream
//! after the other, so the chunks come from the crate's own `chunk_request` and go out on a plain WebSocket.

use std::collections::HashSet;
use std::time::Instant;

use anyhow::{bail, ensure, Context, Result};
use freenet_stdlib::client_api::streaming::chunk_request;
use freenet_stdlib::client_api::{ClientError, ContractResponse, HostResponse};
use freenet_stdlib::prelude::bincode;
use futures_util::{SinkExt, StreamExt};
use serde_json::{json, Value};
use tokio_tungstenite::tungstenite::Message;

use crate::cli::{Interleaved, Target};
use crate::measure::mb_per_s;
use crate::payload::{contract, put_request, random_bytes};
use crate::session::{contract_response, open_websocket, within, Session};

pub async fn run(target: &Target, options: &Interleaved) -> Result<Value> {
    let uploads: Vec<_> = (0..options.streams)
        .map(|stream_id| {
            let contract = contract(target.seed, &format!("interleaved/{stream_id}"));
            (contract, random_bytes(target.seed ^ u64::from(stream_id), options.size))
        })
        .collect();
    let mut streams = Vec::new();
    for (stream_id, (contract, state)) in (0_u32..).zip(&uploads) {
        let message = bincode::serialize(&put_request(contract, state.clone().into()))?;
        let mut chunks = chunk_request(message, stream_id);
        if stream_id % 2 == 1 {
            chunks.reverse();
        }
        streams.push(chunks);
    }
    let chunks_each = streams.iter().map(Vec::len).max().unwrap_or_default();

    let mut socket = open_websocket(target).await?;
    let started = Instant::now();
    for turn in 0..chunks_each {
        for stream in &streams {
            let Some(chunk) = stream.get(turn) else { continue };
            let message = Message::Binary(bincode::serialize(chunk)?.into());
            within(target.wait(), "room for a chunk", socket.send(message)).await??;
        }
    }
    let mut waiting: HashSet<_> = uploads.iter().map(|(contract, _)| *contract.id()).collect();
    while !waiting.is_empty() {
        let message = within(target.wait(), "PutResponse", socket.next()).await?.context("the node hung up")??;
        let Message::Binary(bytes) = message else { continue };
        let result: std::result::Result<HostResponse, ClientError> = bincode::deserialize(&bytes)?;
        match contract_response(result?, "PutResponse")? {
            ContractResponse::PutResponse { key } => {
                ensure!(waiting.remove(key.id()), "a second or foreign PutResponse for {key}");
            }
            other => bail!("instead of PutResponse: {other:?}"),
        }
    }
    let seconds = started.elapsed().as_secs_f64();

    let mut reader = Session::connect(target).await?;
    for (contract, state) in &uploads {
        let stored = reader.get(*contract.id()).await?;
        ensure!(stored.as_ref() == *state, "contract {} was stored changed", contract.id());
    }
    Ok(json!({
        "command": "interleaved",
        "streams": options.streams,
        "state_bytes": options.size,
        "chunks_each": chunks_each,
        "seconds": seconds,
        "mb_per_s": mb_per_s(options.size * uploads.len(), seconds),
    }))
}
