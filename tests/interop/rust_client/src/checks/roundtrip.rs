//! What was PUT comes back by GET, at sizes on both sides of the chunking threshold.

use std::time::{Duration, Instant};

use anyhow::{ensure, Result};
use serde_json::{json, Value};

use crate::cli::{Roundtrip, Target};
use crate::measure::mb_per_s;
use crate::payload::{contract, random_bytes};
use crate::session::{is_chunked, Session};

pub async fn run(target: &Target, options: &Roundtrip) -> Result<Value> {
    let mut session = Session::connect(target).await?;
    let mut results = Vec::new();
    for &size in &options.sizes {
        let contract = contract(target.seed, &format!("roundtrip/{size}"));
        let state = random_bytes(target.seed ^ size as u64, size);

        let started = Instant::now();
        session.put(&contract, state.clone().into()).await?;
        results.push(result("put", size, started.elapsed()));

        let by_stream = options.recv_stream && is_chunked(size);
        let started = Instant::now();
        let (returned, seen) = if by_stream {
            let (returned, seen) = session.get_streamed(*contract.id()).await?;
            (returned, Some(seen))
        } else {
            (session.get(*contract.id()).await?, None)
        };
        let mut entry = result("get", size, started.elapsed());
        ensure!(returned.as_ref() == state, "the state of {size} bytes came back changed");
        entry["recv"] = json!(if by_stream { "recv_stream" } else { "recv" });
        if let Some(seen) = seen {
            entry["chunks"] = json!(seen.chunks);
            entry["total_bytes"] = json!(seen.total_bytes);
        }
        results.push(entry);
    }
    Ok(json!({"command": "roundtrip", "results": results}))
}

fn result(op: &str, state_bytes: usize, took: Duration) -> Value {
    let seconds = took.as_secs_f64();
    json!({"op": op, "state_bytes": state_bytes, "seconds": seconds, "mb_per_s": mb_per_s(state_bytes, seconds)})
}
