//! Clients that ask for much and never read.

use std::time::Duration;

use anyhow::Result;
use serde_json::{json, Value};

use super::socket::RawSocket;
use super::wire::request_frames;
use crate::cli::{Stall, Target};
use crate::payload::get_request;

/// A reset provoked by one write is seen by the next, once it has crossed the loopback.
const RESET_ARRIVES_WITHIN: Duration = Duration::from_millis(100);

pub fn run(target: &Target, options: &Stall) -> Result<Value> {
    let contract = RawSocket::connect(target)?.put(target.seed, "stall", options.size)?;
    let requests = request_frames(&get_request(*contract.id()), 0)?.repeat(options.gets);
    let mut stalled = Vec::with_capacity(options.connections);
    for _ in 0..options.connections {
        let mut socket = RawSocket::connect(target)?;
        socket.write(&requests)?;
        stalled.push(socket);
    }
    std::thread::sleep(Duration::from_secs_f64(options.seconds));
    for socket in &mut stalled {
        socket.is_closed()?;
    }
    std::thread::sleep(RESET_ARRIVES_WITHIN);
    let mut closed_by_node = 0;
    for socket in &mut stalled {
        closed_by_node += usize::from(socket.is_closed()?);
    }
    Ok(json!({
        "command": "stall",
        "connections": options.connections,
        "gets_each": options.gets,
        "state_bytes": options.size,
        "seconds": options.seconds,
        "closed_by_node": closed_by_node,
    }))
}
