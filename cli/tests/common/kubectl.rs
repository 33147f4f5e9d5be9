//! A `kubectl` that plays a cluster: it answers from files, and writes down what it was asked.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// What every such `kubectl` begins with.
const BEGIN: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$*" >>asked
answer() { if [ -f "$1" ]; then cat "$1"; else echo '{"items": []}'; fi; }
"#;

pub(crate) struct Cluster(pub(crate) TempDir);

impl Cluster {
    /// One whose `kubectl` goes on with this part of a script, in which `answer FILE` prints a list.
    pub(crate) fn playing(script: &str) -> Self {
        let cluster = Self(tempfile::tempdir().unwrap());
        let kubectl = cluster.0.path().join("kubectl");
        fs::write(&kubectl, format!("{BEGIN}{script}")).unwrap();
        fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
        cluster
    }

    /// Makes a list that `kubectl` can answer.
    pub(crate) fn put(&self, file: &str, items: &[Value]) {
        fs::write(self.0.path().join(file), json!({"items": items}).to_string()).unwrap();
    }

    /// Runs `clawlock` with that `kubectl`.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let path = format!("{}:/usr/bin:/bin", self.0.path().display());
        Command::new(env!("CARGO_BIN_EXE_clawlock")).args(arguments).env("PATH", path).output().unwrap()
    }

    /// What `kubectl` was asked, line by line, of what has this part.
    pub(crate) fn asked(&self, part: &str) -> Vec<String> {
        let asked = fs::read_to_string(self.0.path().join("asked")).unwrap_or_default();
        asked.lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
    }
}
