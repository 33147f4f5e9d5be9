//! `clawlock-sidecar`: the first gate, beside the agent in its pod.
//!
//! With `install-openclaw` it is the init container that puts OpenClaw under its guard, and ends.
//!
//! It serves the agent only after it has an identity, a policy, and has seen that nothing gets out past the
//! tenant's gateway; it closes when that is no longer so. Records go to the standard output, logs to the
//! standard error. Exit statuses: 0 after a signal, 1 for a fault, 2 for wrong arguments.

mod args;
mod folder;
mod health;
mod install;
mod isolation;
mod plugin;
mod receiver;
mod sidecar;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;
use clawlock_proxy::limits::DRAIN_TIMEOUT;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::args::{AGENT_FOLDER, Cli, Command, Config, OPENCLAW_FOLDER};
use crate::sidecar::Sidecar;

/// Exit status for wrong arguments, as clap has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let Cli { log, command } = Cli::parse();
    if let Err(error) = start_log(&log) {
        eprintln!("error: {error}");
        return ExitCode::from(USAGE);
    }
    let ended = match command {
        Command::InstallOpenclaw => install_openclaw(),
        Command::Run(given) => match Config::read(*given) {
            Ok(config) => start(config),
            Err(mistakes) => {
                for mistake in mistakes {
                    eprintln!("error: {mistake}");
                }
                return ExitCode::from(USAGE);
            }
        },
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the log. It holds no secret; the standard output is for records alone.
fn start_log(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("--log {filter:?}: {error}"))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    Ok(())
}

/// Puts OpenClaw under its guard, and leaves what that took for people.
fn install_openclaw() -> Result<(), String> {
    let socket = Path::new(AGENT_FOLDER).join(folder::SOCKET);
    let installed =
        install::install(Path::new(OPENCLAW_FOLDER), &socket, |name| std::env::var_os(name).map(PathBuf::from));
    let words = match &installed {
        Ok(overridden) => overridden.clone(),
        Err(error) => vec![error.clone()],
    };
    install::leave(&words, Path::new(install::LAST_WORDS));
    installed.map(|overridden| overridden.iter().for_each(|line| tracing::info!("OpenClaw's configuration, {line}")))
}

fn start(config: Config) -> Result<(), String> {
    // Before there is a key: no other process of this user may read our memory.
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    hidden.map_err(|error| format!("this process cannot be hidden from others of its user: {error}"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))?;
    runtime.block_on(Box::pin(run(config)))
}

/// Runs until a signal asks for the end, or a part ends by itself.
async fn run(config: Config) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be received: {error}"));
    // Before anything else: the first process of a container ignores signals that it does not ask for.
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut sidecar = Sidecar::start(config, std::io::stdout()).await?;
    tokio::select! {
        why = sidecar.ended() => return Err(why),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("told to stop; open requests may finish");
    if !sidecar.finish(DRAIN_TIMEOUT).await {
        tracing::warn!("requests that were still open after {} s were cut", DRAIN_TIMEOUT.as_secs());
    }
    Ok(())
}
