//! Large states, one after the other on one connection: what the node can take in and give out.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Result};
use serde_json::{json, Value};

use super::socket::RawSocket;
use super::wire::{request_frames, Prefix};
use crate::cli::{RawTransfer, Target};
use crate::measure::{cpu_seconds, Transfers};
use crate::payload::{contract, get_request, put_request, random_bytes, GET_RESPONSE_OVERHEAD_BYTES};

pub fn put(target: &Target, options: &RawTransfer) -> Result<Value> {
    let contract = contract(target.seed, &format!("raw-put/{}", options.size));
    // Two states in turn: a node may recognise one that it has already.
    let mut uploads = Vec::new();
    for stream_id in 0..2 {
        let state = random_bytes(target.seed + u64::from(stream_id), options.size);
        uploads.push(request_frames(&put_request(&contract, state.into()), stream_id)?);
    }
    let mut socket = RawSocket::connect(target)?;
    let mut uploads = uploads.iter().cycle();
    measured(options, "raw-put", || {
        if let Some(frames) = uploads.next() {
            socket.write(frames)?;
        }
        let seen = socket.skip_message()?;
        ensure!(seen.prefix == Prefix::PutResponse, "instead of PutResponse: {:?}", seen.prefix);
        Ok(())
    })
}

pub fn get(target: &Target, options: &RawTransfer) -> Result<Value> {
    let mut socket = RawSocket::connect(target)?;
    let contract = socket.put(target.seed, &format!("raw-get/{}", options.size), options.size)?;
    let request = request_frames(&get_request(*contract.id()), 0)?;
    let expected = options.size + GET_RESPONSE_OVERHEAD_BYTES;
    let mut chunks = 0;
    let mut headers = 0;
    let mut report = measured(options, "raw-get", || {
        socket.write(&request)?;
        (chunks, headers) = (0, 0);
        let mut received = 0;
        loop {
            let seen = socket.skip_message()?;
            match seen.prefix {
                Prefix::StreamHeader => headers += 1,
                Prefix::StreamChunk { last, .. } => {
                    chunks += 1;
                    received += seen.payload_bytes - CHUNK_OVERHEAD_BYTES;
                    if last {
                        break;
                    }
                }
                Prefix::GetResponse => {
                    received += seen.payload_bytes;
                    break;
                }
                other => bail!("instead of GetResponse: {other:?}"),
            }
        }
        ensure!(received == expected, "{received} bytes of a GetResponse of {expected}");
        Ok(())
    })?;
    report["chunks"] = json!(chunks);
    report["stream_headers"] = json!(headers);
    Ok(report)
}

/// Bytes of a StreamChunk beside its data: two tags, three u32, the data's length.
const CHUNK_OVERHEAD_BYTES: usize = 2 * 4 + 3 * 4 + 8;

fn measured(options: &RawTransfer, command: &str, mut transfer: impl FnMut() -> Result<()>) -> Result<Value> {
    for _ in 0..options.warmup {
        transfer()?;
    }
    let cpu_before = cpu_seconds()?;
    let mut durations: Vec<Duration> = Vec::with_capacity(options.count);
    for _ in 0..options.count {
        let started = Instant::now();
        transfer()?;
        durations.push(started.elapsed());
    }
    let driver_cpu_s = cpu_seconds()? - cpu_before;
    let mut report = serde_json::to_value(Transfers::of(options.size, durations, driver_cpu_s)?)?;
    report["command"] = json!(command);
    Ok(report)
}
