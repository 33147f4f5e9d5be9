//! A program that is not ours, under this role's core and ended with it.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal, kill_process};

use crate::child::{Ready, end_with_parent};

/// Starts the command and waits for its end.
pub(super) fn run(command: &[String]) -> Result<(), String> {
    let (program, args) = command.split_first().ok_or("a peer needs a command")?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot start {program}: {e}"))?;
    let pid = Pid::from_child(&child);
    static ENDING: AtomicBool = AtomicBool::new(false);
    end_with_parent(move || {
        ENDING.store(true, Ordering::SeqCst);
        // It may have ended already; then there is nothing to end.
        let _ = kill_process(pid, Signal::TERM);
    });
    Ready::default().announce()?;
    let status = child.wait().map_err(|e| e.to_string())?;
    if ENDING.load(Ordering::SeqCst) { Ok(()) } else { Err(format!("{program} ended: {status}")) }
}
