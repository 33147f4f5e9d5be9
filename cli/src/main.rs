//! `clawlock`: policy at two gates for OpenClaw agents, on this machine.
//!
//! `init` writes a starter, `lint` and `explain` answer questions about files, `dev` runs both gates over
//! a folder and an agent under them. `offboard` takes a tenant out of a cluster. Exit statuses: 0 for success, 1 for the answer "no", 2 for wrong
//! usage or input; `dev -- COMMAND` answers with the command's own.

mod agent;
mod args;
mod dev;
mod explain;
mod folder;
mod init;
mod launch;
mod lint;
mod offboard;
mod output;
mod problem;
mod secret;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};

/// Exit status for wrong usage and invalid input, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let result = match command {
        Command::Init(args) => init::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Explain(args) => explain::run(args),
        Command::Dev(args) => dev::run(*args),
        Command::Offboard(args) => offboard::run(&args),
        Command::LaunchRestricted(args) => launch::run(args),
    };
    result.unwrap_or_else(|error| {
        output::error(&error);
        ExitCode::from(USAGE)
    })
}
