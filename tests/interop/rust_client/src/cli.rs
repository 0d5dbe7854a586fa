//! The command line. Sizes are bytes of contract state unless said otherwise.

use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(about = "Drives a node with the reference's Rust client; prints one line of JSON")]
pub struct Arguments {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Target {
    /// ws://HOST:PORT/v1/contract/command?encodingProtocol=native[&streaming=true]
    #[arg(long, global = true, default_value = "ws://127.0.0.1:7509/v1/contract/command?encodingProtocol=native")]
    pub url: String,
    /// Limit of every single wait for the node, in seconds
    #[arg(long = "timeout-s", global = true, default_value_t = 30)]
    timeout_s: u64,
    /// Distinguishes the contracts of one run from those of another
    #[arg(long, global = true, default_value_t = 1)]
    pub seed: u64,
    /// Leave Nagle's algorithm on, as a program that calls plain `connect_async` does
    #[arg(long, global = true)]
    pub nagle: bool,
}

impl Target {
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }

    /// The same node, asked for chunked responses.
    pub fn with_streaming(&self) -> Self {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        Self { url: format!("{}{separator}streaming=true", self.url), ..*self }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// PUT and GET states of several sizes, content verified
    Roundtrip(Roundtrip),
    /// UPDATE on one connection, notifications on another
    UpdateSubscribe,
    /// GET, SUBSCRIBE and UPDATE of a contract that nobody stored
    GetUnknown,
    /// Chunks of several PUTs in turn on one connection, every second stream backwards
    Interleaved(Interleaved),
    /// PUT and GET on N connections at once
    ConcurrentUploads(ConcurrentUploads),
    /// N requests on one connection without waiting for replies in between
    Pipelined(Pipelined),
    /// Time the real client
    Bench(Bench),
    /// Time small operations with the raw driver
    BenchSmall(BenchSmall),
    /// Time chunked PUTs with the raw driver
    RawPut(RawTransfer),
    /// Time GETs with the raw driver; add streaming=true to the URL for chunked responses
    RawGet(RawTransfer),
    /// Send one message in one masked frame
    RawFrame(RawFrame),
    /// Time small GETs beside a stream of large ones
    RawFairness(RawFairness),
    /// Ask for much and read nothing
    Stall(Stall),
}

#[derive(Debug, Args)]
pub struct Roundtrip {
    #[arg(long, value_delimiter = ',', default_value = "1024,716800,8388608,17825792,52428800")]
    pub sizes: Vec<usize>,
    /// Read chunked responses with `recv_stream`
    #[arg(long)]
    pub recv_stream: bool,
}

#[derive(Debug, Args)]
pub struct Interleaved {
    #[arg(long, default_value_t = 8)]
    pub streams: u32,
    #[arg(long, default_value_t = 3 << 20)]
    pub size: usize,
}

#[derive(Debug, Args)]
pub struct ConcurrentUploads {
    pub connections: u64,
    #[arg(long, default_value_t = 8 << 20)]
    pub size: usize,
    /// Contracts that each connection puts and gets, one after the other
    #[arg(long, default_value_t = 1)]
    pub contracts: u64,
}

#[derive(Debug, Args)]
pub struct Pipelined {
    pub requests: u64,
    #[arg(long, default_value_t = 4096)]
    pub size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchOp {
    Put,
    Get,
    Update,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SmallOp {
    Get,
    Put,
}

#[derive(Debug, Args)]
pub struct Bench {
    #[arg(long)]
    pub op: BenchOp,
    #[arg(long)]
    pub size: usize,
    #[arg(long, default_value_t = 10)]
    pub count: usize,
    /// Operations before the measured ones
    #[arg(long, default_value_t = 1)]
    pub warmup: usize,
    /// Add streaming=true to the URL
    #[arg(long)]
    pub streaming: bool,
    /// Read chunked responses with `recv_stream`
    #[arg(long)]
    pub recv_stream: bool,
}

#[derive(Debug, Args)]
pub struct BenchSmall {
    #[arg(long)]
    pub op: SmallOp,
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    #[arg(long, default_value_t = 256)]
    pub size: usize,
}

#[derive(Debug, Args)]
pub struct RawTransfer {
    #[arg(long)]
    pub size: usize,
    #[arg(long, default_value_t = 10)]
    pub count: usize,
    /// Operations before the measured ones
    #[arg(long, default_value_t = 1)]
    pub warmup: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FrameKind {
    /// A well-formed PUT, its state as large as the frame allows
    Put,
    /// Bytes that are no request
    Undecodable,
}

#[derive(Debug, Args)]
pub struct RawFrame {
    /// Payload bytes of the frame
    #[arg(long, default_value_t = 100_000_000)]
    pub size: usize,
    #[arg(long, default_value = "put")]
    pub kind: FrameKind,
}

#[derive(Debug, Args)]
pub struct RawFairness {
    /// State of the large contract
    #[arg(long, default_value_t = 50 << 20)]
    pub size: usize,
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Pause between small GETs
    #[arg(long, default_value_t = 2.0)]
    pub interval_ms: f64,
    /// Send the small GETs on a connection of their own
    #[arg(long)]
    pub other_connection: bool,
}

#[derive(Debug, Args)]
pub struct Stall {
    #[arg(long, default_value_t = 4)]
    pub connections: usize,
    /// GETs sent on each connection
    #[arg(long, default_value_t = 8)]
    pub gets: usize,
    #[arg(long, default_value_t = 8 << 20)]
    pub size: usize,
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
}
