//! `clawlock-bench`: side-by-side benchmarks. It starts copies of itself in different roles, pins
//! what is measured to one core and everything else to the other, and prints one table.

mod child;
mod decide;
mod load;
mod peers;
mod pin;
mod pki;
mod report;
mod roles;
mod run;
mod scenario;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Side-by-side benchmarks of Clawlock against minimal counterparts and peers.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, print, and exit with 0 also when a target is missed.
    Run(RunArgs),
    /// Be a part of a measurement; used by `run`.
    #[command(hide = true)]
    Role(roles::RoleArgs),
}

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// One short round: shows that everything works; the figures mean little.
    #[arg(long)]
    quick: bool,
    /// Only parts whose title contains this text (`decide()`, `/v1/decide`, `one gate, plain`, ...).
    #[arg(long)]
    only: Option<String>,
    /// Leave out nginx, haproxy and squid.
    #[arg(long)]
    no_peers: bool,
    /// The released `clawlock` binary, whose size is stated.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args).and_then(|report| match args.output {
            Output::Table => {
                print!("{}", report.table());
                Ok(())
            }
            Output::Json => report.json().map(|text| println!("{text}")),
        }),
        Command::Role(args) => args.play(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("clawlock-bench: {problem}");
            ExitCode::FAILURE
        }
    }
}
