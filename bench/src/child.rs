//! Child processes: how they start, say that they are ready, are watched and end.
//!
//! Every child's standard input is a pipe that the parent holds: when the parent ends, however it
//! ends, the pipe closes and the child with it. Nothing outlives a benchmark.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

/// What a role tells its parent once it listens.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// TCP port on loopback.
    pub(crate) port: u16,
    /// Unix socket, for roles that have one.
    pub(crate) socket: Option<PathBuf>,
    /// PEM bundle that a client of this role trusts.
    pub(crate) ca: Option<PathBuf>,
}

impl Ready {
    /// A role that listens on a TCP port only.
    pub(crate) fn tcp(port: u16) -> Self {
        Self { port, ..Self::default() }
    }

    /// Tells the parent.
    pub(crate) fn announce(&self) -> Result<(), String> {
        let text = serde_json::to_string(self).map_err(|e| e.to_string())?;
        println!("{text}");
        Ok(())
    }
}

/// A running role.
pub(crate) struct Running {
    child: Child,
    /// What it announced.
    pub(crate) ready: Ready,
}

impl Running {
    /// Starts `clawlock-bench role ARGS` and waits for its announcement.
    pub(crate) fn start(args: &[String]) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| format!("where is this program: {e}"))?;
        let mut child = Command::new(program)
            .arg("role")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot start role {args:?}: {e}"))?;
        let stdout = child.stdout.take().ok_or("the child has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(|e| format!("role {args:?}: {e}"))?;
        let ready = serde_json::from_str(&line)
            .map_err(|_| format!("role {args:?} ended before it was ready; what it wrote to standard error says why"));
        match ready {
            Ok(ready) => Ok(Self { child, ready }),
            Err(problem) => {
                end(&mut child);
                Err(problem)
            }
        }
    }

    /// The process and all of its descendants.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of_tree(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // Closing the pipe lets a role that supervises a peer end it first.
    drop(child.stdin.take());
    let _ = child.wait();
}

/// Ends this process when the parent closes our standard input; `last` runs before.
pub(crate) fn end_with_parent(last: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        let mut sink = [0; 64];
        while matches!(std::io::stdin().read(&mut sink), Ok(n) if n > 0) {}
        last();
        std::process::exit(0);
    });
}

/// What a process used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time in microseconds, user and system.
    pub(crate) cpu_us: u64,
    /// Resident memory in KiB.
    pub(crate) rss_kib: u64,
}

impl Usage {
    /// Of a process and its descendants; what has ended meanwhile counts as nothing.
    pub(crate) fn of_tree(pid: u32) -> Self {
        let mut total = Self::of(pid);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|text| text.parse().ok()) {
            let used = Self::of_tree(child);
            total.cpu_us += used.cpu_us;
            total.rss_kib += used.rss_kib;
        }
        total
    }

    fn of(pid: u32) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        // proc(5): the first field of schedstat is the time on a processor in nanoseconds.
        let on_cpu = |task: std::fs::DirEntry| -> Option<u64> {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        let nanos: u64 = tasks.filter_map(on_cpu).sum();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kib = rss.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or_default();
        Self { cpu_us: nanos / 1000, rss_kib }
    }
}
