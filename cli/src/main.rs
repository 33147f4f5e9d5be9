//! `clawlock`: policy at two gates for OpenClaw agents, on this machine.
//!
//! `init` writes a starter, `lint`, `test` and `explain` answer questions about files, `dev` runs both gates over a folder
//! and an agent under them. `offboard` takes a tenant out of a cluster. Exit statuses: 0 for success, 1 for the answer
//! "no", 2 for wrong usage or input; `dev -- COMMAND` answers with the command's own. docs/cli.md has the table.

mod action;
mod agent;
mod args;
mod cases;
mod cluster;
mod dev;
mod engine;
mod explain;
mod folder;
mod generate;
mod import;
mod init;
mod kubectl;
mod launch;
mod lint;
mod log;
mod offboard;
mod output;
mod problem;
mod replay;
mod secret;
mod simulate;
mod suggest;

use std::process::ExitCode;

use crate::args::{Cli, Command};

/// Exit status for wrong usage and invalid input, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let Cli { command } = Cli::of(std::env::args_os());
    let result = match command {
        Command::Init(args) => init::run(&args),
        Command::Lint(args) => lint::run(&args),
        Command::Explain(args) => explain::run(args),
        Command::Test(args) => cases::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Status(args) => cluster::status::run(&args),
        Command::Logs(args) => cluster::logs::run(&args),
        Command::Shadow(args) => cluster::shadow::run(&args),
        Command::Halt(args) => cluster::halt::halt(&args),
        Command::Resume(args) => cluster::halt::resume(&args),
        Command::Doctor(args) => cluster::doctor::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Dev(args) => dev::run(*args),
        Command::Completion(args) => output::print(&args::completion(args.shell)).map(|()| ExitCode::SUCCESS),
        Command::Offboard(args) => offboard::run(&args),
        Command::LaunchRestricted(args) => launch::run(args),
    };
    result.unwrap_or_else(|error| {
        output::error(&error);
        ExitCode::from(USAGE)
    })
}
