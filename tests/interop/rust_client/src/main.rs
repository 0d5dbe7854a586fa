//! A program on the reference's own Rust client, for Python tests to drive against a running node.
//!
//! In: a subcommand (`cli`). Out: one line of JSON on stdout and exit code 0, or a message on stderr
//! and exit code 1. `checks` and `bench` use the crate's `WebApi` through `session`; `raw` speaks to
//! the socket itself, so that a measurement is never limited by its driver.

mod bench;
mod checks;
mod cli;
mod measure;
mod payload;
mod raw;
mod session;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use cli::{Arguments, Command};
use serde_json::Value;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rust_client: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<Value> {
    let target = &arguments.target;
    match &arguments.command {
        Command::RawPut(options) => raw::transfer::put(target, options),
        Command::RawGet(options) => raw::transfer::get(target, options),
        Command::RawFrame(options) => raw::frame::send(target, options),
        Command::RawFairness(options) => raw::fairness::run(target, options),
        Command::BenchSmall(options) => raw::small::run(target, options),
        Command::Stall(options) => raw::stall::run(target, options),
        command => on_the_real_client(target, command),
    }
}

/// One thread for everything, so that pinning the program to a core pins the whole client.
fn on_the_real_client(target: &cli::Target, command: &Command) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Roundtrip(options) => checks::roundtrip::run(target, options).await,
            Command::UpdateSubscribe => checks::updates::run(target).await,
            Command::GetUnknown => checks::unknown::run(target).await,
            Command::Interleaved(options) => checks::interleaved::run(target, options).await,
            Command::ConcurrentUploads(options) => checks::uploads::run(target, options).await,
            Command::Pipelined(options) => checks::pipelined::run(target, options).await,
            Command::Bench(options) => bench::run(target, options).await,
            other => unreachable!("{other:?} runs on the raw driver"),
        }
    })
}
