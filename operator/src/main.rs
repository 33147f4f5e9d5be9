//! Controllers, admission webhooks and the control API of Clawlock, in one program.
//!
//! This file only parses the command line and starts one of the roles; each role is a module.

mod accept;
mod admin;
mod admission;
mod args;
mod clock;
mod cluster;
mod control;
mod halts;
mod lease;
mod metrics;
mod pki;
mod replica;
mod run;
mod serving;
mod status;
mod store;
mod tenant;
mod tripwire;
mod webhook;
mod world;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command};

/// Threads at least: compiling a thousand policies must not keep streams and the Lease waiting.
const MIN_THREADS: usize = 2;

fn main() -> ExitCode {
    let Cli { log, command } = Cli::parse();
    if let Err(error) = start_log(&log) {
        eprintln!("clawlock-operator: {error}");
        return ExitCode::from(2);
    }
    let cores = std::thread::available_parallelism().map_or(MIN_THREADS, usize::from);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.worker_threads(cores.max(MIN_THREADS)).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the system has no thread left");
            return ExitCode::FAILURE;
        }
    };
    let result: Result<(), String> = runtime.block_on(async {
        match command {
            Command::Run(args) => Box::pin(run::run(args)).await.map_err(|error| error.to_string()),
            Command::Webhook(args) => Box::pin(webhook::run(args)).await.map_err(|error| error.to_string()),
            Command::Check => Box::pin(webhook::check::run()).await.map_err(|error| error.to_string()),
            Command::Tripwire(args) => Box::pin(tripwire::run(args)).await.map_err(|error| error.to_string()),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the log. It never holds a secret, and standard output stays free for what a role prints.
fn start_log(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter:?}: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}
