//! A pod of the tenant that stands in for an agent: it does what the test says, one thing at a time.

use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::time::Duration;

use serde_json::Value;

use crate::{Kubectl, Result, eventually};

/// The image of `e2e/tools`.
pub const TOOLS: &str = "clawlock-e2e-tools:dev";

/// A pod.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    kubectl: Kubectl,
}

/// A pod as a tenant writes it: restricted, and without a word about Clawlock.
#[must_use]
pub fn manifest(namespace: &str, name: &str, labels: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: agent
    image: {TOOLS}
    command: [/tools, wait]
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"#
    )
}

impl Agent {
    /// Creates the pod of [`manifest`].
    ///
    /// # Errors
    /// When it is refused.
    pub fn create(namespace: &str, name: &str, labels: &str) -> Result<Self> {
        let kubectl = Kubectl::admin();
        kubectl.apply(&manifest(namespace, name, labels))?;
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), kubectl })
    }

    /// A pod that is there already.
    #[must_use]
    pub fn existing(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned(), kubectl: Kubectl::admin() }
    }

    /// Waits until all of its containers are ready.
    ///
    /// # Errors
    /// With the pod's conditions and the sidecar's last words, when the deadline has passed.
    pub fn ready(self, deadline: Duration) -> Result<Self> {
        let waited = eventually(&format!("pod {}/{} is ready", self.namespace, self.name), deadline, || {
            let pod = self.get()?;
            let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
            let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
            if ready { Ok(()) } else { Err(pod["status"].to_string()) }
        });
        match waited {
            Ok(()) => Ok(self),
            Err(why) => Err(format!("{why}\nsidecar: {}", self.logs("clawlock").unwrap_or_else(|error| error))),
        }
    }

    /// The pod as it is.
    ///
    /// # Errors
    /// When it is not there.
    pub fn get(&self) -> Result<Value> {
        let pod = self.kubectl.get(&self.namespace, "pod", &self.name)?;
        pod.ok_or_else(|| format!("pod {}/{} is not there", self.namespace, self.name))
    }

    /// What a container has logged.
    ///
    /// # Errors
    /// When it has no log.
    pub fn logs(&self, container: &str) -> Result<String> {
        self.kubectl.run(&["logs", "-n", &self.namespace, &self.name, "-c", container, "--tail=40"])
    }

    /// Reads what the agent's container prints, from its last line on until the pod is gone.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn follow(&self) -> Result<Lines> {
        let mut child =
            self.kubectl.start(&["logs", "-f", "--tail=1", "-n", &self.namespace, &self.name, "-c", "agent"])?;
        let stdout = child.stdout.take().ok_or("kubectl has no standard output")?;
        Ok(Lines { child, lines: BufReader::new(stdout).lines() })
    }

    /// Runs the tools' program in the agent's container and answers what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn tools(&self, args: &[&str]) -> Result<String> {
        self.kubectl.run(&self.exec(args))
    }

    /// Runs the tools' program and reads the one line of JSON that it prints.
    ///
    /// # Errors
    /// When it fails or prints something else.
    pub fn say(&self, args: &[&str]) -> Result<Value> {
        let text = self.tools(args)?;
        serde_json::from_str(&text).map_err(|error| format!("{args:?} printed {text:?}: {error}"))
    }

    /// Sends a request through the proxy that the environment names.
    ///
    /// # Errors
    /// When nothing could be asked.
    pub fn request(&self, args: &[&str]) -> Result<Value> {
        self.say(&[&["request"], args].concat())
    }

    /// Tries to reach an address directly: `answered`, `refused`, `dropped` or `failed`.
    ///
    /// # Errors
    /// When nothing could be tried.
    pub fn reach(&self, network: &str, address: &str) -> Result<String> {
        let outcome = self.say(&["connect", network, address])?;
        outcome["outcome"].as_str().map(str::to_owned).ok_or_else(|| format!("no outcome: {outcome}"))
    }

    /// Starts the tools' program; its lines of JSON can be read while it runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, args: &[&str]) -> Result<Lines> {
        let mut child = self.kubectl.start(&self.exec(args))?;
        let stdout = child.stdout.take().ok_or("kubectl has no standard output")?;
        Ok(Lines { child, lines: BufReader::new(stdout).lines() })
    }

    fn exec<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let exec = ["exec", "-n", &self.namespace, &self.name, "-c", "agent", "--", "/tools"];
        [&exec[..], args].concat()
    }

    /// Deletes the pod at once.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn delete(&self) -> Result<()> {
        self.kubectl.run(&["delete", "pod", "-n", &self.namespace, &self.name, "--now"]).map(drop)
    }
}

/// The lines of a program that runs in a pod. Ends it when dropped.
pub struct Lines {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Lines {
    /// The next line. Blocks until it is there: the programs have bounds of their own.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn read(&mut self) -> Result<Value> {
        self.next().ok_or("the program in the pod has ended")?
    }

    /// Reads until a line is what is waited for.
    ///
    /// # Errors
    /// With the last line, when the program ends before.
    pub fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        loop {
            let line = self.read().map_err(|error| format!("{error}; last line: {last}"))?;
            if wanted(&line) {
                return Ok(line);
            }
            last = line;
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Value>;

    /// The next line, until the program ends.
    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?.map_err(|error| format!("the program in the pod: {error}"));
        Some(line.and_then(|line| serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))))
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
