//! The `kubectl` on the path.

use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::problem::plain;

/// Longest wait for agents to end, and for the TenantGateway's finalizer after that. Pods may take their grace period,
/// which is 30 s unless somebody has written another one.
const TIMEOUT: &str = "--timeout=5m";

/// Talks to one cluster.
pub(crate) struct Kubectl {
    context: Option<String>,
}

impl Kubectl {
    /// Of a context, or of the current one.
    pub(crate) fn of(context: Option<String>) -> Self {
        Self { context }
    }

    /// The flags with which somebody would do the same, after a space.
    pub(crate) fn flags(&self) -> String {
        self.context.as_ref().map(|context| format!(" --context={}", plain(context))).unwrap_or_default()
    }

    /// The objects of kinds.
    ///
    /// # Errors
    /// With what kubectl says.
    pub(crate) fn list(&self, what: &[&str]) -> Result<Vec<Value>, String> {
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
    pub(crate) fn delete(&self, namespace: &str, names: &[String]) -> Result<(), String> {
        let fixed = ["delete", "--ignore-not-found", "--wait", TIMEOUT, "--namespace", namespace];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.run(&[&fixed[..], &names].concat()).map(drop)
    }

    /// Waits for the end of a namespace's pods. Whether there are any afterwards is to be looked at: some can be new.
    ///
    /// # Errors
    /// With what kubectl says.
    pub(crate) fn wait_for_no_pods(&self, namespace: &str) -> Result<(), String> {
        match self.run(&["wait", "--for=delete", "pods", "--all", TIMEOUT, "--namespace", namespace]) {
            Err(error) if !error.contains("no matching resources found") && !error.contains("timed out") => Err(error),
            _ => Ok(()),
        }
    }

    /// One document that is no list.
    ///
    /// # Errors
    /// With what kubectl says.
    pub(crate) fn json(&self, what: &[&str]) -> Result<Value, String> {
        let text = self.run(what)?;
        serde_json::from_str(&text).map_err(|error| format!("kubectl {} printed no JSON: {error}", what.join(" ")))
    }

    /// Makes an object and answers with it as it is then.
    ///
    /// # Errors
    /// With what kubectl says.
    pub(crate) fn create(&self, object: &Value) -> Result<Value, String> {
        let args = ["create", "--filename=-", "--output=json"];
        let mut command = self.command(&args);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| missing(&error))?;
        if let Some(mut input) = child.stdin.take() {
            // When it has ended already, what it says on its standard error is the reason.
            let _ = input.write_all(object.to_string().as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| missing(&error))?;
        let text = finished(&args, &output)?;
        serde_json::from_str(&text).map_err(|error| format!("kubectl create printed no JSON: {error}"))
    }

    /// Waits until an object has a condition; says whether it has.
    ///
    /// # Errors
    /// With what kubectl says, when that is not that time has run out.
    pub(crate) fn wait_for(
        &self,
        namespace: &str,
        object: &str,
        condition: &str,
        timeout: &str,
    ) -> Result<bool, String> {
        let (condition, timeout) = (format!("--for=condition={condition}"), format!("--timeout={timeout}"));
        match self.run(&["wait", &condition, &timeout, "--namespace", namespace, object]) {
            Ok(_) => Ok(true),
            Err(error) if error.contains("timed out") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Starts a command whose output is read while it runs; what it says on its standard error goes to ours.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&self, args: &[&str]) -> Result<Child, String> {
        let mut command = self.command(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| missing(&error))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        command.args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Result<String, String> {
        let output = self.command(args).stdin(Stdio::null()).output().map_err(|error| missing(&error))?;
        finished(args, &output)
    }
}

fn missing(error: &std::io::Error) -> String {
    format!("kubectl cannot be run: {error}; put it on the path")
}

fn finished(args: &[&str], output: &Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
