//! Many connections at once, each putting and getting contracts of its own.

use std::time::Instant;

use anyhow::{ensure, Result};
use futures_util::future::try_join_all;
use serde_json::{json, Value};

use crate::cli::{ConcurrentUploads, Target};
use crate::measure::mb_per_s;
use crate::payload::{contract, random_bytes};
use crate::session::Session;

pub async fn run(target: &Target, options: &ConcurrentUploads) -> Result<Value> {
    let started = Instant::now();
    let connections = (0..options.connections).map(|connection| one_connection(target, options, connection));
    let per_connection = try_join_all(connections).await?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes_each_way = options.size * usize::try_from(options.connections * options.contracts)?;
    Ok(json!({
        "command": "concurrent-uploads",
        "connections": options.connections,
        "contracts_each": options.contracts,
        "state_bytes": options.size,
        "seconds": seconds,
        "mb_per_s": mb_per_s(2 * bytes_each_way, seconds),
        "per_connection": per_connection,
    }))
}

async fn one_connection(target: &Target, options: &ConcurrentUploads, connection: u64) -> Result<Value> {
    let mut session = Session::connect(target).await?;
    let (mut put_seconds, mut get_seconds) = (Vec::new(), Vec::new());
    for number in 0..options.contracts {
        let contract = contract(target.seed, &format!("uploads/{connection}/{number}"));
        let state = random_bytes(target.seed ^ (connection << 32 | number), options.size);
        let started = Instant::now();
        session.put(&contract, state.clone().into()).await?;
        put_seconds.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        let returned = session.get(*contract.id()).await?;
        get_seconds.push(started.elapsed().as_secs_f64());
        ensure!(returned.as_ref() == state, "contract {} came back changed", contract.id());
    }
    Ok(json!({"put_seconds": put_seconds, "get_seconds": get_seconds}))
}
