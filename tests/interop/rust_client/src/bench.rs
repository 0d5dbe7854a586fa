//! How long the real client waits for one operation, over and over on one connection.

use std::time::Instant;

use anyhow::{ensure, Result};
use freenet_stdlib::prelude::{State, UpdateData, WrappedState};
use serde_json::{json, Value};

use crate::cli::{Bench, BenchOp, Target};
use crate::measure::{cpu_seconds, Transfers};
use crate::payload::{contract, random_bytes};
use crate::session::{is_chunked, Session};

pub async fn run(target: &Target, options: &Bench) -> Result<Value> {
    let contract = contract(target.seed, &format!("bench/{}", options.size));
    let mut state = random_bytes(target.seed, options.size);
    let mut session = if options.streaming {
        Session::connect(&target.with_streaming()).await?
    } else {
        Session::connect(target).await?
    };
    if options.op != BenchOp::Put {
        session.put(&contract, state.clone().into()).await?;
    }

    let mut durations = Vec::with_capacity(options.count);
    let mut driver_cpu_s = 0.0;
    for number in 0..options.warmup + options.count {
        let prepared = if options.op == BenchOp::Get {
            Vec::new()
        } else {
            touch(&mut state, number);
            state.clone()
        };
        let cpu_before = cpu_seconds()?;
        let started = Instant::now();
        let returned: Option<WrappedState> = match options.op {
            BenchOp::Put => {
                session.put(&contract, prepared.into()).await?;
                None
            }
            BenchOp::Update => {
                session.update(contract.key(), UpdateData::State(State::from(prepared))).await?;
                None
            }
            BenchOp::Get if options.recv_stream && is_chunked(options.size) => {
                Some(session.get_streamed(*contract.id()).await?.0)
            }
            BenchOp::Get => Some(session.get(*contract.id()).await?),
        };
        let took = started.elapsed();
        if number >= options.warmup {
            durations.push(took);
            driver_cpu_s += cpu_seconds()? - cpu_before;
        }
        if let Some(returned) = returned {
            ensure!(returned.as_ref() == state, "the state came back changed");
        }
    }
    let mut report = serde_json::to_value(Transfers::of(options.size, durations, driver_cpu_s)?)?;
    report["command"] = json!("bench");
    report["op"] = json!(format!("{:?}", options.op).to_lowercase());
    report["streaming"] = json!(options.streaming);
    Ok(report)
}

/// Makes the state differ from that of the operation before, which a node may otherwise recognise.
fn touch(state: &mut [u8], number: usize) {
    for (byte, new) in state.iter_mut().zip(number.to_le_bytes()) {
        *byte = new;
    }
}
