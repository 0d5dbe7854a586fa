//! Small operations, one outstanding on each connection, from one thread with epoll.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde_json::{json, Value};

use super::socket::RawSocket;
use super::wire::{parse_header, request_frames, Prefix, CLOSE};
use crate::cli::{BenchSmall, SmallOp, Target};
use crate::measure::{cpu_seconds, Latencies};
use crate::payload::{get_request, put_request, random_bytes};

/// Not measured at the start, as a share of the measured time.
const WARMUP_SHARE: f64 = 0.1;

struct Connection {
    stream: TcpStream,
    /// The same operation in variants, sent in turn.
    requests: VecDeque<Vec<u8>>,
    input: Vec<u8>,
    received: usize,
    sent_at: Instant,
}

pub fn run(target: &Target, options: &BenchSmall) -> Result<Value> {
    let mut poll = Poll::new()?;
    let mut connections = Vec::with_capacity(options.connections);
    for number in 0..options.connections {
        let mut connection = Connection::open(target, options, number)?;
        poll.registry().register(&mut connection.stream, Token(number), Interest::READABLE)?;
        connections.push(connection);
    }
    let expected = match options.op {
        SmallOp::Get => Prefix::GetResponse,
        SmallOp::Put => Prefix::PutResponse,
    };
    for connection in &mut connections {
        connection.send_next()?;
    }
    drive(&mut poll, &mut connections, expected, Duration::from_secs_f64(options.seconds * WARMUP_SHARE), target)?;
    let cpu_before = cpu_seconds()?;
    let started = Instant::now();
    let latencies = drive(&mut poll, &mut connections, expected, Duration::from_secs_f64(options.seconds), target)?;
    let seconds = started.elapsed().as_secs_f64();
    let driver_cpu_s = cpu_seconds()? - cpu_before;
    Ok(json!({
        "command": "bench-small",
        "op": format!("{:?}", options.op).to_lowercase(),
        "connections": options.connections,
        "state_bytes": options.size,
        "seconds": seconds,
        "ops": latencies.len(),
        "ops_per_s": latencies.len() as f64 / seconds,
        "latency": Latencies::of(latencies)?,
        "driver_cpu_s": driver_cpu_s,
    }))
}

/// Keeps every connection busy for `duration`; returns the latency of each operation that ended in it.
fn drive(
    poll: &mut Poll,
    connections: &mut [Connection],
    expected: Prefix,
    duration: Duration,
    target: &Target,
) -> Result<Vec<Duration>> {
    let mut events = Events::with_capacity(connections.len());
    let mut latencies = Vec::new();
    let stop = Instant::now() + duration;
    while Instant::now() < stop {
        poll.poll(&mut events, Some(target.wait()))?;
        ensure!(!events.is_empty(), "no response within {} s", target.wait().as_secs());
        for event in &events {
            let connection = &mut connections[event.token().0];
            if let Some(latency) = connection.receive(expected)? {
                latencies.push(latency);
                connection.send_next()?;
            }
        }
    }
    Ok(latencies)
}

impl Connection {
    /// Connects and stores the state that a GET will ask for.
    fn open(target: &Target, options: &BenchSmall, number: usize) -> Result<Self> {
        let mut socket = RawSocket::connect(target)?;
        let contract = socket.put(target.seed, &format!("small/{number}"), options.size)?;
        let requests = match options.op {
            SmallOp::Get => VecDeque::from([request_frames(&get_request(*contract.id()), 0)?]),
            // Two states in turn: a node may recognise one that it has already.
            SmallOp::Put => (1..=2)
                .map(|variant| {
                    let state = random_bytes(target.seed + variant, options.size);
                    request_frames(&put_request(&contract, state.into()), 0)
                })
                .collect::<Result<_>>()?,
        };
        let stream = socket.into_stream()?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream: TcpStream::from_std(stream),
            requests,
            input: vec![0; 2 * options.size + 4096],
            received: 0,
            sent_at: Instant::now(),
        })
    }

    fn send_next(&mut self) -> Result<()> {
        let request = self.requests.front().context("no request prepared")?;
        self.sent_at = Instant::now();
        let written = self.stream.write(request).context("writing to the node")?;
        ensure!(written == request.len(), "a request of {written} bytes filled the socket: use raw-put");
        self.requests.rotate_left(1);
        Ok(())
    }

    /// Reads what is there; the operation's latency if that completes the response.
    fn receive(&mut self, expected: Prefix) -> Result<Option<Duration>> {
        loop {
            match self.stream.read(&mut self.input[self.received..]) {
                Ok(0) => bail!("the node hung up, or its response is larger than expected"),
                Ok(length) => self.received += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error).context("waiting for the node"),
            }
            while let Some(header) = parse_header(&self.input[..self.received])? {
                let frame_bytes = header.header_bytes + header.payload_bytes;
                if self.received < frame_bytes {
                    break;
                }
                let prefix = Prefix::parse(&self.input[header.header_bytes..frame_bytes]);
                self.input.copy_within(frame_bytes..self.received, 0);
                self.received -= frame_bytes;
                if header.opcode < CLOSE {
                    let latency = self.sent_at.elapsed();
                    ensure!(prefix == expected, "instead of {expected:?}: {prefix:?}");
                    ensure!(self.received == 0, "the node answered more than once");
                    return Ok(Some(latency));
                }
                ensure!(header.opcode > CLOSE, "the node closed the connection");
            }
        }
    }
}
