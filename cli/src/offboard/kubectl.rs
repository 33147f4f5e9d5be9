//! The `kubectl` on the path.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::problem::plain;

/// Longest wait for agents to end, and for the TenantGateway's finalizer after that. Pods may take their grace period,
/// which is 30 s unless somebody has written another one.
const TIMEOUT: &str = "--timeout=5m";

/// Talks to one cluster.
pub(super) struct Kubectl {
    context: Option<String>,
}

impl Kubectl {
    /// Of a context, or of the current one.
    pub(super) fn of(context: Option<String>) -> Self {
        Self { context }
    }

    /// The flags with which somebody would do the same, after a space.
    pub(super) fn flags(&self) -> String {
        self.context.as_ref().map(|context| format!(" --context={}", plain(context))).unwrap_or_default()
    }

    /// The objects of kinds.
    ///
    /// # Errors
    /// With what kubectl says.
    pub(super) fn list(&self, what: &[&str]) -> Result<Vec<Value>, String> {
        let text = self.run(&[&["get", "--output=json"], what].concat())?;
        let list: Value =
            serde_json::from_str(&text).map_err(|error| format!("kubectl get printed no JSON: {error}"))?;
        match list.get("items").and_then(Value::as_array) {
            Some(items) => Ok(items.clone()),
            None => Err("kubectl get printed no list".to_owned()),
        }
    }

    /// Deletes objects of a namespace and waits until they are gone.
    ///
    /// # Errors
    /// With what kubectl says.
    pub(super) fn delete(&self, namespace: &str, names: &[String]) -> Result<(), String> {
        let fixed = ["delete", "--ignore-not-found", "--wait", TIMEOUT, "--namespace", namespace];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.run(&[&fixed[..], &names].concat()).map(drop)
    }

    /// Waits for the end of a namespace's pods. Whether there are any afterwards is to be looked at: some can be new.
    ///
    /// # Errors
    /// With what kubectl says.
    pub(super) fn wait_for_no_pods(&self, namespace: &str) -> Result<(), String> {
        match self.run(&["wait", "--for=delete", "pods", "--all", TIMEOUT, "--namespace", namespace]) {
            Err(error) if !error.contains("no matching resources found") && !error.contains("timed out") => Err(error),
            _ => Ok(()),
        }
    }

    fn run(&self, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("kubectl");
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        let output = command.args(args).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("kubectl cannot be run: {error}; put it on the path"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }
}
