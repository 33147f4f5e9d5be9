//! The variables that send an agent and its tools through the gates, for the file that a person sources.
//!
//! Which variables there are is said in `clawlock_compile::objects::environment`, for injected pods too.
//! Here is what needs a process: asking the Node on the path what it knows, and writing for a shell.

use std::process::Stdio;
use std::time::Duration;

use clawlock_compile::objects::environment::{NODE_OPTION, NODE_OPTIONS};

pub(super) use clawlock_compile::objects::environment::{Places, variables, wgetrc};

/// How long the Node on the path may take to say whether it knows [`NODE_OPTION`].
const NODE_ANSWERS: Duration = Duration::from_secs(5);

/// Whether the Node on the path takes [`NODE_OPTION`] in `NODE_OPTIONS` (from 22.14 and 23.7). Without a Node
/// on the path there is none that it could break.
pub(super) async fn node_takes_option() -> bool {
    let mut node = tokio::process::Command::new("node");
    node.arg("--version").env(NODE_OPTIONS, NODE_OPTION).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(NODE_ANSWERS, node.output()).await {
        Ok(Ok(output)) => output.status.success(),
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::NotFound,
        Err(_) => false,
    }
}

/// The variables as a file for a shell. `NODE_OPTIONS` adds to what the shell has.
pub(super) fn shell_file(places: &Places) -> String {
    let mut text = String::from("# Sends an agent started from this shell through the gates of clawlock dev.\n");
    for (name, value) in variables(places, None) {
        if name == NODE_OPTIONS {
            text.push_str(&format!("export NODE_OPTIONS=\"${{NODE_OPTIONS:+$NODE_OPTIONS }}{NODE_OPTION}\"\n"));
        } else {
            text.push_str(&format!("export {name}={}\n", quoted(&value)));
        }
    }
    text
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            proxy: "127.0.0.1:1".parse().unwrap(),
            decide: "127.0.0.1:2".parse().unwrap(),
            socket: "/s/decide.sock".into(),
            ca: "/s/it's/ca.crt".into(),
            wgetrc: "/s/wgetrc".into(),
            node_option: true,
        }
    }

    #[test]
    fn the_file_is_read_by_a_shell_as_it_was_meant() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("env");
        std::fs::write(&path, shell_file(&places())).unwrap();
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(". \"$0\"; printf '%s|%s|%s' \"$HTTPS_PROXY\" \"$SSL_CERT_FILE\" \"$NODE_OPTIONS\"")
            .arg(&path)
            .env("NODE_OPTIONS", "--x")
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "http://127.0.0.1:1|/s/it's/ca.crt|--x --disable-sigusr1"
        );
    }
}
