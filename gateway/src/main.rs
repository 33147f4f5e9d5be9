//! The tenant's gateway as a program: the second gate, the credentials beside it, and the sidecars' way to the
//! control API.
//!
//! This file parses the command line and starts [`run`]. Records go to standard output, one line of JSON each; the
//! log goes to standard error. Exit statuses: 0 after a graceful end, 1 when something broke, 2 for wrong arguments.

mod args;
mod control;
mod installer;
mod metrics;
mod readiness;
mod run;
mod secrets;
#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command, Settings};

/// What is logged. Fixed, and nothing of the API server's client: its finer levels would print what Secrets hold, and
/// whatever breaks there is told by [`secrets`].
const LOG: &str = "info,kube_client=off,kube_runtime=off";

/// Exit status for wrong arguments, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let Cli { command: Command::Run(args) } = Cli::parse();
    let settings = match Settings::parse(args, |name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in problems {
                eprintln!("clawlock-gateway: {problem}");
            }
            return ExitCode::from(USAGE);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(LOG))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the system has no thread left");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run::run(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
