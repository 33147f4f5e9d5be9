//! The agent under the gates: its environment, its fence, its signals and its end.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::num::NonZeroU16;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// How long an agent that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// What to start and how.
pub(super) struct Plan {
    /// The command and its arguments; not empty.
    pub(super) command: Vec<OsString>,
    /// Our own program, when the command runs under Landlock.
    pub(super) launcher: Option<PathBuf>,
    /// Ports that it may connect to.
    pub(super) ports: Vec<NonZeroU16>,
    /// Variables that it gets.
    pub(super) variables: Vec<(&'static str, String)>,
    /// Variables that it must not get.
    pub(super) without: Vec<String>,
}

/// The agent.
pub(super) struct Agent(Child);

impl Agent {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start(plan: Plan) -> Result<Self, String> {
        let Plan { command, launcher, ports, variables, without } = plan;
        let mut words = command.into_iter();
        let program = words.next().ok_or("name the command to run after --")?;
        let mut child = match launcher {
            Some(launcher) => {
                let mut child = Command::new(launcher);
                child.arg("launch-restricted");
                for port in ports {
                    child.arg(format!("--port={port}"));
                }
                child.arg("--").arg(&program);
                child
            }
            None => Command::new(&program),
        };
        child.args(words).envs(variables).kill_on_drop(true);
        for name in without {
            child.env_remove(name);
        }
        let started = child.spawn().map_err(|error| {
            format!("{} cannot be started: {error}; check its name and that it is executable", program.display())
        });
        started.map(Self)
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.0.wait().await
    }

    /// Asks it to end, waits, and kills it when it does not.
    pub(super) async fn end(&mut self, signal: Signal) -> std::io::Result<ExitStatus> {
        // On a terminal, Ctrl-C reaches the agent by itself; a second one makes programs give up.
        let has_it = signal == Signal::INT && std::io::stdin().is_terminal();
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| !has_it) {
            // It may have ended by itself just now.
            let _ = kill_process(pid, signal);
        }
        match tokio::time::timeout(GRACE, self.0.wait()).await {
            Ok(ended) => ended,
            Err(_) => {
                self.0.start_kill()?;
                self.0.wait().await
            }
        }
    }
}

/// An exit status as shells state it: the code, or 128 and the signal.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_the_commands() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(15)), 143);
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
    }
}
