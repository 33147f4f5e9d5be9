//! Programs of the cluster's shell beside `kubectl`: `helm`, `docker`.

use std::process::Command;

use crate::Result;

/// Runs one and answers what it printed.
///
/// # Errors
/// With what it printed to standard error, when it fails.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
