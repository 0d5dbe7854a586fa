//! One message in one masked frame, of any size, and what the node says to it.

use std::time::Instant;

use anyhow::{Context, Result};
use freenet_stdlib::client_api::{ClientError, HostResponse};
use freenet_stdlib::prelude::bincode;
use serde_json::{json, Value};

use super::socket::{RawSocket, Received};
use super::wire::{append_frame, request_frames, BINARY};
use crate::cli::{FrameKind, RawFrame, Target};
use crate::measure::{cpu_seconds, mb_per_s};
use crate::payload::{contract, get_request, put_request};

pub fn send(target: &Target, options: &RawFrame) -> Result<Value> {
    let mut frame = Vec::new();
    append_frame(&mut frame, BINARY, &message(target, options)?);
    let mut socket = RawSocket::connect(target)?;

    let cpu_before = cpu_seconds()?;
    let started = Instant::now();
    // A node that refuses the frame by its header may close or drop the connection before it has taken all of it.
    let written = socket.write(&frame);
    let received = socket.receive();
    let seconds = started.elapsed().as_secs_f64();
    let driver_cpu_s = cpu_seconds()? - cpu_before;

    let mut report = json!({
        "command": "raw-frame",
        "kind": format!("{:?}", options.kind).to_lowercase(),
        "frame_bytes": options.size,
        "seconds": seconds,
        "mb_per_s": null,
        "driver_cpu_s": driver_cpu_s,
        "outcome": null,
        "answer": null,
        "close_code": null,
        "survived": false,
    });
    match received {
        Err(error) => {
            report["outcome"] = json!("dropped");
            report["answer"] = json!(format!("{:#}", written.err().unwrap_or(error)));
        }
        Ok(Received::Closed(code)) => {
            report["outcome"] = json!("closed");
            report["close_code"] = json!(code);
        }
        Ok(Received::Message(message)) => {
            report["outcome"] = json!("answered");
            report["mb_per_s"] = json!(mb_per_s(options.size, seconds));
            report["answer"] = json!(describe(&message)?);
            let unknown = contract(target.seed, "never stored");
            socket.write(&request_frames(&get_request(*unknown.id()), 0)?)?;
            report["survived"] = json!(matches!(socket.receive()?, Received::Message(_)));
        }
    }
    Ok(report)
}

/// Exactly `options.size` bytes.
fn message(target: &Target, options: &RawFrame) -> Result<Vec<u8>> {
    if options.kind == FrameKind::Undecodable {
        return Ok(vec![0xff; options.size]);
    }
    let contract = contract(target.seed, "raw-frame");
    let overhead = bincode::serialized_size(&put_request(&contract, Vec::new().into()))?;
    let state_bytes =
        options.size.checked_sub(usize::try_from(overhead)?).context("the frame is too small for a PUT")?;
    Ok(bincode::serialize(&put_request(&contract, vec![0x5a; state_bytes].into()))?)
}

fn describe(message: &[u8]) -> Result<String> {
    let result: std::result::Result<HostResponse, ClientError> = bincode::deserialize(message)?;
    Ok(match result {
        Ok(response) => response.to_string(),
        Err(error) => error.to_string(),
    })
}
