//! Figures out of durations.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// Below so many samples a 99th percentile says nothing that the maximum does not.
const MIN_SAMPLES_FOR_P99: usize = 100;

/// Decimal megabytes per second.
pub fn mb_per_s(bytes: usize, seconds: f64) -> f64 {
    bytes as f64 / 1e6 / seconds
}

#[derive(Debug, Serialize)]
pub struct Latencies {
    n: usize,
    mean_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: Option<f64>,
    max_us: f64,
}

impl Latencies {
    /// Nearest-rank percentiles of at least one sample.
    pub fn of(mut samples: Vec<Duration>) -> Result<Self> {
        samples.sort_unstable();
        let longest = *samples.last().context("nothing was measured")?;
        let rank = |share: f64| samples[((samples.len() as f64 * share).ceil() as usize).max(1) - 1];
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        Ok(Self {
            n: samples.len(),
            mean_us: micros(samples.iter().sum()) / samples.len() as f64,
            p50_us: micros(rank(0.50)),
            p90_us: micros(rank(0.90)),
            p99_us: (samples.len() >= MIN_SAMPLES_FOR_P99).then(|| micros(rank(0.99))),
            max_us: micros(longest),
        })
    }
}

/// A series of equal transfers, as `bench`, `raw-put` and `raw-get` report it.
#[derive(Debug, Serialize)]
pub struct Transfers {
    state_bytes: usize,
    count: usize,
    seconds: Vec<f64>,
    /// From the median duration.
    median_mb_per_s: f64,
    /// From the sum of all durations.
    mean_mb_per_s: f64,
    latency: Latencies,
    /// CPU seconds of this program while it measured: near the wall time, it may have been the limit.
    driver_cpu_s: f64,
}

impl Transfers {
    pub fn of(state_bytes: usize, durations: Vec<Duration>, driver_cpu_s: f64) -> Result<Self> {
        let seconds: Vec<f64> = durations.iter().map(Duration::as_secs_f64).collect();
        let total: f64 = seconds.iter().sum();
        let latency = Latencies::of(durations)?;
        Ok(Self {
            state_bytes,
            count: seconds.len(),
            median_mb_per_s: mb_per_s(state_bytes, latency.p50_us / 1e6),
            mean_mb_per_s: mb_per_s(state_bytes * seconds.len(), total),
            seconds,
            latency,
            driver_cpu_s,
        })
    }
}

/// CPU seconds that the main thread, the only one that works here, has used so far.
pub fn cpu_seconds() -> Result<f64> {
    let path = "/proc/self/schedstat";
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let nanoseconds: u64 = text.split(' ').next().unwrap_or_default().parse().with_context(|| path.to_owned())?;
    Ok(nanoseconds as f64 / 1e9)
}
