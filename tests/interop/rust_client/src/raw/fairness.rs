//! How long a small GET takes while a large chunked one is being received, and what that costs the large one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure, Result};
use serde_json::{json, Value};

use super::socket::RawSocket;
use super::wire::{request_frames, Prefix};
use crate::cli::{RawFairness, Target};
use crate::measure::{mb_per_s, Latencies};
use crate::payload::get_request;

const SMALL_STATE_BYTES: usize = 256;

pub fn run(target: &Target, options: &RawFairness) -> Result<Value> {
    let target = &target.with_streaming();
    let mut socket = RawSocket::connect(target)?;
    let large = socket.put(target.seed, &format!("raw-get/{}", options.size), options.size)?;
    let small = socket.put(target.seed, "fairness", SMALL_STATE_BYTES)?;
    let large_get = request_frames(&get_request(*large.id()), 0)?;
    let small_get = request_frames(&get_request(*small.id()), 0)?;
    let duration = Duration::from_secs_f64(options.seconds);
    let mut small_gets = SmallGets::new(small_get, Duration::from_secs_f64(options.interval_ms / 1e3));

    let baseline = stream_for(&mut socket, &large_get, options.size, duration, None)?;
    let (beside, latencies) = if options.other_connection {
        let mut other = RawSocket::connect(target)?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| small_gets.run_until(&stop, &mut other));
            let beside = stream_for(&mut socket, &large_get, options.size, duration, None);
            stop.store(true, Ordering::Relaxed);
            let latencies = asking.join().map_err(|_| anyhow!("the asking thread panicked"))??;
            Ok::<_, anyhow::Error>((beside?, latencies))
        })?
    } else {
        let beside = stream_for(&mut socket, &large_get, options.size, duration, Some(&mut small_gets))?;
        (beside, small_gets.latencies)
    };
    Ok(json!({
        "command": "raw-fairness",
        "state_bytes": options.size,
        "other_connection": options.other_connection,
        "baseline_mb_per_s": baseline,
        "mb_per_s": beside,
        "share_of_baseline": beside / baseline,
        "small_get_latency": Latencies::of(latencies)?,
    }))
}

/// One small GET at a time, at most one each interval.
struct SmallGets {
    request: Vec<u8>,
    interval: Duration,
    due: Instant,
    sent_at: Option<Instant>,
    latencies: Vec<Duration>,
}

impl SmallGets {
    fn new(request: Vec<u8>, interval: Duration) -> Self {
        Self { request, interval, due: Instant::now(), sent_at: None, latencies: Vec::new() }
    }

    fn send_if_due(&mut self, socket: &mut RawSocket) -> Result<()> {
        let now = Instant::now();
        if self.sent_at.is_none() && now >= self.due {
            socket.write(&self.request)?;
            self.sent_at = Some(now);
            self.due = now + self.interval;
        }
        Ok(())
    }

    fn answered(&mut self) {
        self.latencies.extend(self.sent_at.take().map(|sent_at| sent_at.elapsed()));
    }

    fn run_until(&mut self, stop: &AtomicBool, socket: &mut RawSocket) -> Result<Vec<Duration>> {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(self.due.saturating_duration_since(Instant::now()));
            self.send_if_due(socket)?;
            let seen = socket.skip_message()?;
            ensure!(seen.prefix == Prefix::GetResponse, "instead of GetResponse: {:?}", seen.prefix);
            self.answered();
        }
        Ok(std::mem::take(&mut self.latencies))
    }
}

/// Receives the large state again and again for about `duration`; returns MB/s.
fn stream_for(
    socket: &mut RawSocket,
    large_get: &[u8],
    state_bytes: usize,
    duration: Duration,
    mut small_gets: Option<&mut SmallGets>,
) -> Result<f64> {
    let started = Instant::now();
    let mut streams = 0;
    while started.elapsed() < duration {
        socket.write(large_get)?;
        loop {
            if let Some(small_gets) = &mut small_gets {
                small_gets.send_if_due(socket)?;
            }
            match (socket.skip_message()?.prefix, &mut small_gets) {
                (Prefix::StreamHeader | Prefix::StreamChunk { last: false, .. }, _) => {}
                (Prefix::StreamChunk { last: true, .. }, _) => break,
                (Prefix::GetResponse, Some(small_gets)) => small_gets.answered(),
                (other, _) => bail!("instead of a chunk: {other:?}"),
            }
        }
        streams += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    if let Some(SmallGets { sent_at: sent_at @ Some(_), .. }) = small_gets {
        let seen = socket.skip_message()?;
        ensure!(seen.prefix == Prefix::GetResponse, "instead of GetResponse: {:?}", seen.prefix);
        *sent_at = None; // answered when nothing streamed any more: no sample
    }
    Ok(mb_per_s(state_bytes * streams, seconds))
}
