//! A node of the cluster, looked at as its root: what a pod cannot show of itself.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::{Agent, Result, program};

/// Where the tools' program is put in a node.
const TOOLS: &str = "/usr/local/bin/clawlock-e2e-tools";

/// Runs a command in a node, as its root. Nodes are containers of `docker`.
///
/// # Errors
/// With what it printed to standard error, when it fails.
pub fn run(node: &str, args: &[&str]) -> Result<String> {
    program::run("docker", &[&["exec", node], args].concat())
}

/// A container as its node sees it: its first process, and the folders where the node keeps what is the pod's.
#[derive(Clone, Debug)]
pub struct Container {
    node: String,
    pid: String,
    pod: String,
}

impl Container {
    /// A running container of a pod, init containers included.
    ///
    /// # Errors
    /// When it does not run, or its node does not answer.
    pub fn of(agent: &Agent, container: &str) -> Result<Self> {
        let pod = agent.get()?;
        let text = |value: &Value, pointer: &str| {
            value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let lists = ["/status/initContainerStatuses", "/status/containerStatuses"];
        let mut statuses = lists.iter().filter_map(|list| pod.pointer(list).and_then(Value::as_array)).flatten();
        let status = statuses.find(|status| status["name"] == container);
        let id = status.map(|status| text(status, "/containerID")).unwrap_or_default();
        let id = id.strip_prefix("containerd://").ok_or_else(|| format!("{}: no container {container}", agent.name))?;
        let node = text(&pod, "/spec/nodeName");
        let tasks = run(&node, &["ctr", "-n", "k8s.io", "task", "ls"])?;
        let mut fields = tasks.lines().map(str::split_whitespace);
        let pid = fields.find_map(|mut line| (line.next() == Some(id)).then(|| line.next()).flatten());
        let pid = pid.ok_or_else(|| format!("{}: container {container} does not run", agent.name))?.to_owned();
        let tools = std::env::var("E2E_TOOLS").map_err(|_| "E2E_TOOLS is not set; run the tests with make e2e")?;
        program::run("docker", &["cp", "--quiet", &tools, &format!("{node}:{TOOLS}")])?;
        Ok(Self { node, pid, pod: text(&pod, "/metadata/uid") })
    }

    /// Searches environment, memory and files of all its processes for words, also encoded.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn search(&self, words: &[&str]) -> Result<Value> {
        self.run(&[&["search", "-pid", &self.pid], words].concat())
    }

    /// Searches what the node keeps of the pod: its volumes, and the logs of all its containers.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn search_node(&self, words: &[&str]) -> Result<Value> {
        let logs = run(&self.node, &["sh", "-c", &format!("echo /var/log/pods/*_{}", self.pod)])?;
        let volumes = format!("/var/lib/kubelet/pods/{}", self.pod);
        self.run(&[&["search", "-dir", logs.trim(), "-dir", &volumes], words].concat())
    }

    fn run(&self, args: &[&str]) -> Result<Value> {
        let text = run(&self.node, &[&[TOOLS], args].concat())?;
        serde_json::from_str(&text).map_err(|error| format!("{args:?} printed {text:?}: {error}"))
    }

    /// Starts to read everything that crosses the pod's interface.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn capture(&self, words: &[&str]) -> Result<Capture> {
        let args = [&["exec", "-i", &self.node, TOOLS, "capture", "-pid", &self.pid], words].concat();
        let mut command = Command::new("docker");
        let child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("docker: {error}"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().ok_or("docker has no standard output")?);
        let mut capture = Capture { child, stdin, stdout: BufReader::new(stdout) };
        let open = capture.read()?;
        if open["open"] == true { Ok(capture) } else { Err(format!("capture said {open}")) }
    }
}

/// A capture that runs.
pub struct Capture {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Capture {
    /// Ends it, and says what was among the bytes.
    ///
    /// # Errors
    /// When it has failed before.
    pub fn end(mut self) -> Result<Value> {
        drop(self.stdin.take());
        self.read()
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(|error| format!("capture: {error}"))?;
        serde_json::from_str(&line).map_err(|error| format!("capture printed {line:?}: {error}"))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
