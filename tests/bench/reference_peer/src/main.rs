//! A server in the reference's style, to measure simnode against: tokio-tungstenite, the crate's own
//! types, chunking and reassembly, every message whole in the heap, states in a map.
//!
//! In: `--port` (0: any) and `--threads`. Out: one line `ready ws://…` on stdout; it serves until it
//! is killed. `connection` serves one client, `store` holds the contracts, `outgoing` chunks responses.

mod connection;
mod outgoing;
mod store;

use std::io::Write;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use tokio::net::TcpListener;

use crate::store::Store;

#[derive(Debug, Parser)]
#[command(about = "A Freenet client API server in the reference's style, native encoding only")]
struct Arguments {
    /// Port on 127.0.0.1; 0 takes any
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// 1: everything on one thread; more: a multi-threaded runtime
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut builder = match arguments.threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if arguments.threads > 1 {
        builder.worker_threads(arguments.threads);
    }
    builder.enable_all().build()?.block_on(serve(arguments.port))
}

async fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("ready ws://{}/v1/contract/command", listener.local_addr()?);
    std::io::stdout().flush()?;
    let store = Arc::new(Store::default());
    loop {
        let (stream, address) = listener.accept().await?;
        // Without this the tail of a chunked response waits ~40 ms for an acknowledgement.
        stream.set_nodelay(true)?;
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            if let Err(error) = connection::serve(stream, store).await {
                eprintln!("{address}: {error:#}");
            }
        });
    }
}
