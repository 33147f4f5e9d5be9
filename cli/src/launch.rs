//! `launch-restricted`: what `dev` starts in place of an agent. It runs before anything else of this
//! program does, with one thread, puts the process under Landlock and becomes the agent.

use std::io::ErrorKind;
use std::process::ExitCode;

use clawlock_launch::{Confinement, LaunchError};

use crate::args::LaunchArgs;
use crate::output;

/// Restricts and executes; returns only when that failed.
pub(crate) fn run(args: LaunchArgs) -> Result<ExitCode, String> {
    let LaunchArgs { ports, command } = args;
    let mut words = command.into_iter();
    let program = words.next().ok_or("name the command to run after --")?;
    let confinement = Confinement::to_ports(ports).map_err(|error| error.to_string())?;
    match clawlock_launch::exec(&confinement, program, words.collect()) {
        Ok(never) => match never {},
        Err(error) => {
            output::error(&error);
            Ok(ExitCode::from(status(&error)))
        }
    }
}

/// The exit status of a command that did not start, as shells have it.
fn status(error: &LaunchError) -> u8 {
    match error {
        LaunchError::Exec { source, program: _ } if source.kind() == ErrorKind::NotFound => 127,
        LaunchError::Exec { .. } => 126,
        LaunchError::TooManyPorts(_) | LaunchError::Landlock(_) | LaunchError::Thread => crate::USAGE,
    }
}
