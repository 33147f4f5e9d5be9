//! The variables that send an agent and its tools through the gates, for the child's environment and for
//! the file that a person sources.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Where things are.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The proxy.
    pub(super) proxy: SocketAddr,
    /// `/v1/decide` over TCP.
    pub(super) decide: SocketAddr,
    /// `/v1/decide` over a Unix socket.
    pub(super) socket: PathBuf,
    /// The interception CA. Everything is intercepted or refused, so it is the only root that is needed.
    pub(super) ca: PathBuf,
    /// Configuration of wget, which reads its CA from nowhere else.
    pub(super) wgetrc: PathBuf,
    /// Whether [`NODE_OPTION`] is set: a Node that does not know it would not start.
    pub(super) node_option: bool,
}

/// How long the Node on the path may take to say whether it knows [`NODE_OPTION`].
const NODE_ANSWERS: Duration = Duration::from_secs(5);

/// Whether the Node on the path takes [`NODE_OPTION`] in `NODE_OPTIONS` (from 22.14 and 23.7). Without a Node
/// on the path there is none that it could break.
pub(super) async fn node_takes_option() -> bool {
    let mut node = tokio::process::Command::new("node");
    node.arg("--version").env("NODE_OPTIONS", NODE_OPTION).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(NODE_ANSWERS, node.output()).await {
        Ok(Ok(output)) => output.status.success(),
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::NotFound,
        Err(_) => false,
    }
}

/// Loopback stays direct: agents talk to servers of their own there.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// Node's option that keeps `kill -USR1` from opening its inspector to every process of the user.
const NODE_OPTION: &str = "--disable-sigusr1";

/// Variables that name a proxy, and that name the CA.
const PROXY: &[&str] = &["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const CA: &[&str] = &[
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "npm_config_cafile",
];

/// All variables with their values. `node_options` is what the agent would have without us.
pub(super) fn variables(places: &Places, node_options: Option<&str>) -> Vec<(&'static str, String)> {
    let Places { proxy, decide, socket, ca, wgetrc, node_option } = places;
    let text = |path: &Path| path.display().to_string();
    let proxy = format!("http://{proxy}");
    let node_options = match node_options.map(str::trim).filter(|options| !options.is_empty()) {
        Some(options) if options.split_whitespace().any(|option| option == NODE_OPTION) => options.to_owned(),
        Some(options) => format!("{options} {NODE_OPTION}"),
        None => NODE_OPTION.to_owned(),
    };
    let mut variables: Vec<(&'static str, String)> = PROXY.iter().map(|name| (*name, proxy.clone())).collect();
    variables.extend(CA.iter().map(|name| (*name, text(ca))));
    variables.extend([
        ("NO_PROXY", NO_PROXY.to_owned()),
        ("no_proxy", NO_PROXY.to_owned()),
        ("OPENCLAW_PROXY_URL", proxy),
        // It refuses a proxy on loopback inside a container otherwise.
        ("OPENCLAW_CONTAINER_ALLOW_LOOPBACK_PROXY_URL", "1".to_owned()),
        ("NODE_USE_ENV_PROXY", "1".to_owned()),
        ("WGETRC", text(wgetrc)),
        ("CLAWLOCK_DECIDE_URL", format!("http://{decide}/v1/decide")),
        ("CLAWLOCK_DECIDE_SOCKET", text(socket)),
    ]);
    if *node_option {
        variables.push(("NODE_OPTIONS", node_options));
    }
    variables
}

/// The variables as a file for a shell. `NODE_OPTIONS` adds to what the shell has.
pub(super) fn shell_file(places: &Places) -> String {
    let mut text = String::from("# Sends an agent started from this shell through the gates of clawlock dev.\n");
    for (name, value) in variables(places, None) {
        if name == "NODE_OPTIONS" {
            text.push_str(&format!("export NODE_OPTIONS=\"${{NODE_OPTIONS:+$NODE_OPTIONS }}{NODE_OPTION}\"\n"));
        } else {
            text.push_str(&format!("export {name}={}\n", quoted(&value)));
        }
    }
    text
}

/// The configuration of wget.
pub(super) fn wgetrc(ca: &Path) -> String {
    format!("ca_certificate = {}\n", ca.display())
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
    fn both_spellings_of_the_proxy_are_set() {
        let variables = variables(&places(), None);
        for name in ["HTTPS_PROXY", "https_proxy", "OPENCLAW_PROXY_URL"] {
            assert!(variables.contains(&(name, "http://127.0.0.1:1".to_owned())), "{name}");
        }
        assert!(variables.contains(&("CLAWLOCK_DECIDE_URL", "http://127.0.0.1:2/v1/decide".to_owned())));
        let mut names: Vec<&str> = variables.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), variables.len(), "a variable is set twice");
    }

    #[test]
    fn node_options_are_kept() {
        let options = |before: Option<&str>| {
            let all = variables(&places(), before);
            all.into_iter().find(|(name, _)| *name == "NODE_OPTIONS").unwrap().1
        };
        assert_eq!(options(None), "--disable-sigusr1");
        assert_eq!(options(Some("--max-old-space-size=1536")), "--max-old-space-size=1536 --disable-sigusr1");
        assert_eq!(options(Some("--disable-sigusr1")), "--disable-sigusr1");
        let old = Places { node_option: false, ..places() };
        let without = variables(&old, None);
        assert!(without.iter().all(|(name, _)| *name != "NODE_OPTIONS"));
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
