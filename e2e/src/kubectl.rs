//! `kubectl`, run as a person runs it. The shell of `e2e/cluster` has it and the cluster's address in the environment.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::Result;

/// A client of the cluster, perhaps in somebody else's name.
#[derive(Clone, Debug, Default)]
pub struct Kubectl {
    /// Name and groups.
    user: Option<(String, Vec<String>)>,
}

/// What the API server said to a request that it refused.
#[derive(Clone, Debug)]
pub struct Refused(pub String);

impl Kubectl {
    /// The cluster's administrator.
    #[must_use]
    pub fn admin() -> Self {
        Self::default()
    }

    /// Somebody who has just the rights that were bound to this name.
    #[must_use]
    pub fn user(name: &str) -> Self {
        Self::member(name, &["system:authenticated"])
    }

    /// Somebody of some groups.
    #[must_use]
    pub fn member(name: &str, groups: &[&str]) -> Self {
        Self { user: Some((name.to_owned(), groups.iter().map(|&group| group.to_owned()).collect())) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        // First: what follows a `--` is not kubectl's.
        if let Some((user, groups)) = &self.user {
            command.args(["--as", user]);
            command.args(groups.iter().flat_map(|group| ["--as-group", group]));
        }
        command.args(args);
        command
    }

    /// Runs a command and answers what it printed.
    ///
    /// # Errors
    /// With what it printed to standard error, when it fails.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        text(args, self.command(args).stdin(Stdio::null()).output())
    }

    /// Runs a command that reads standard input.
    ///
    /// # Errors
    /// With what it printed to standard error, when it fails.
    pub fn run_with(&self, args: &[&str], input: &str) -> Result<String> {
        let child = self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("kubectl: {error}; run the tests with make e2e"))?;
        let mut stdin = child.stdin.take().ok_or("kubectl has no standard input")?;
        stdin.write_all(input.as_bytes()).map_err(|error| format!("kubectl: {error}"))?;
        drop(stdin);
        text(args, child.wait_with_output())
    }

    /// Creates an object for the answer only: as it would be stored, or why it is refused.
    ///
    /// # Errors
    /// With the API server's reason.
    pub fn would_create(&self, namespace: &str, object: &str) -> std::result::Result<Value, Refused> {
        // kubectl's own check of fields is stricter than the API server's.
        let args = ["create", "--dry-run=server", "--validate=false", "-n", namespace, "-f", "-", "-o", "json"];
        let text = self.run_with(&args, object).map_err(Refused)?;
        serde_json::from_str(&text).map_err(|error| Refused(format!("{text:?}: {error}")))
    }

    /// Applies a manifest, server-side as GitOps controllers do.
    ///
    /// # Errors
    /// With the API server's reason.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.run_with(&["apply", "--server-side", "--field-manager=e2e", "--force-conflicts", "-f", "-"], manifest)
    }

    /// Tries to apply a manifest that must be refused.
    ///
    /// # Errors
    /// When it is taken.
    pub fn must_refuse(&self, args: &[&str], input: &str) -> Result<Refused> {
        match self.run_with(args, input) {
            Ok(taken) => Err(format!("kubectl {} was not refused: {}", args.join(" "), taken.trim())),
            Err(reason) => Ok(Refused(reason)),
        }
    }

    /// An object; `None` when it is not there.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn get(&self, namespace: &str, kind: &str, name: &str) -> Result<Option<Value>> {
        let text = self.run(&["get", "-n", namespace, kind, name, "-o", "json", "--ignore-not-found"])?;
        if text.trim().is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&text).map(Some).map_err(|error| format!("{kind} {namespace}/{name}: {error}"))
    }

    /// All objects of a kind in a namespace.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn list(&self, namespace: &str, kind: &str, selector: &str) -> Result<Vec<Value>> {
        let text = self.run(&["get", "-n", namespace, kind, "-l", selector, "-o", "json"])?;
        let list: Value = serde_json::from_str(&text).map_err(|error| format!("{kind} of {namespace}: {error}"))?;
        Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// The name of a node that is not the control plane's.
    ///
    /// # Errors
    /// When there is none.
    pub fn worker(&self) -> Result<String> {
        let nodes = self.list("", "nodes", "!node-role.kubernetes.io/control-plane")?;
        let name = nodes.first().and_then(|node| node.pointer("/metadata/name")).and_then(Value::as_str);
        name.map(str::to_owned).ok_or_else(|| "the cluster has no worker".to_owned())
    }

    /// Starts a command whose output is read while it runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, args: &[&str]) -> Result<std::process::Child> {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().map_err(|error| format!("kubectl: {error}"))
    }
}

impl Refused {
    /// Checks that the reason says what it should.
    ///
    /// # Errors
    /// With the whole reason, when it does not.
    pub fn says(&self, words: &str) -> Result<()> {
        if self.0.contains(words) { Ok(()) } else { Err(format!("the refusal does not say {words:?}: {}", self.0)) }
    }
}

fn text(args: &[&str], output: std::io::Result<Output>) -> Result<String> {
    let Output { status, stdout, stderr } =
        output.map_err(|error| format!("kubectl: {error}; run the tests with make e2e"))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    // What a program in a pod printed is part of the reason.
    let (printed, reason) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    Err(format!("kubectl {}: {}{}", args.join(" "), reason.trim(), printed.trim()))
}
