//! `launch-restricted`: what `dev` starts in place of an agent. It runs before anything else of this
//! program does, with one thread, puts the process under Landlock and becomes the agent.

use std::process::ExitCode;

use clawlock_launch::Confinement;

use crate::args::LaunchArgs;

/// Restricts and executes; returns only when that failed.
pub(crate) fn run(args: LaunchArgs) -> Result<ExitCode, String> {
    let LaunchArgs { ports, command } = args;
    let mut words = command.into_iter();
    let program = words.next().ok_or("name the command to run after --")?;
    let confinement = Confinement::to_ports(ports).map_err(|error| error.to_string())?;
    match clawlock_launch::exec(&confinement, program, words.collect()) {
        Ok(never) => match never {},
        Err(error) => Err(error.to_string()),
    }
}
