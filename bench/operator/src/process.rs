//! Processes beside this one: how they start, are watched and end. The kernel ends them with the thread that started
//! them (`setpriv --pdeathsig`), which is the main thread: nothing outlives a benchmark.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Lines of a log that are shown when something is wrong.
const TAIL: usize = 20;

/// A process that runs until this is dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

/// Resident memory in KiB.
#[derive(Clone, Copy, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Memory {
    /// Now.
    pub(crate) now_kib: u64,
    /// The most that it ever was.
    pub(crate) peak_kib: u64,
}

impl Process {
    /// Starts a program whose output goes to a log in `dir`.
    pub(crate) fn start(dir: &Path, name: &str, program: &Path, args: &[String]) -> Result<Self, String> {
        Self::start_with(dir, name, program, args, &[])
    }

    /// The same with variables of the environment.
    pub(crate) fn start_with(
        dir: &Path,
        name: &str,
        program: &Path,
        args: &[String],
        variables: &[(&str, &Path)],
    ) -> Result<Self, String> {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let errors = file.try_clone().map_err(|error| error.to_string())?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(args)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cannot start {} with setpriv: {error}", program.display()))?;
        Ok(Self { child, log })
    }

    /// Waits until a condition holds; a process that ends meanwhile is an error with its last words.
    pub(crate) async fn until<F: Future<Output = bool>>(
        &self,
        what: &str,
        bound: Duration,
        condition: impl Fn() -> F,
    ) -> Result<(), String> {
        let begun = Instant::now();
        while !condition().await {
            if begun.elapsed() > bound {
                return Err(format!("{what}: not within {} s; its log ends with\n{}", bound.as_secs(), self.tail()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Result<Memory, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.ok_or_else(|| format!("the process has ended; its log ends with\n{}", self.tail()))
        };
        Ok(Memory { now_kib: field("VmRSS:")?, peak_kib: field("VmHWM:")? })
    }

    /// Processor time so far, user and system.
    pub(crate) fn processor(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        // proc(5): the first field of schedstat is the time on a processor in nanoseconds.
        let on_cpu = |task: std::fs::DirEntry| -> Option<u64> {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse().ok()
        };
        Duration::from_nanos(tasks.filter_map(on_cpu).sum())
    }

    /// Ends it at once, without a word of warning (SIGKILL).
    pub(crate) fn kill(mut self) -> Result<(), String> {
        self.child.kill().map_err(|error| error.to_string())
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of loopback that nobody has now.
pub(crate) fn free_port() -> Result<u16, String> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(|error| format!("no free port: {error}"))?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

/// Asks a plain HTTP server of loopback; answers the whole response, or nothing when there is none.
pub(crate) async fn get(port: u16, path: &str) -> Option<String> {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// Writes a file that only its owner reads.
pub(crate) fn write(path: &Path, text: &[u8]) -> Result<(), String> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    file.map_err(wrong)?.write_all(text).map_err(wrong)
}
