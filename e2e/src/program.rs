//! Programs of the cluster's shell beside `kubectl`: `helm`, `docker`, and what tests build for themselves.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::Result;

/// Runs one and answers what it printed.
///
/// # Errors
/// With what it printed to standard error, when it fails.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    run_with(program, args, "")
}

/// Runs one that reads standard input.
///
/// # Errors
/// With what it printed to standard error, when it fails.
pub fn run_with(program: &str, args: &[&str], input: &str) -> Result<String> {
    let failed = |error: std::io::Error| format!("{program}: {error}");
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().ok_or_else(|| format!("{program} has no standard input"))?;
    stdin.write_all(input.as_bytes()).map_err(failed)?;
    drop(stdin);
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
