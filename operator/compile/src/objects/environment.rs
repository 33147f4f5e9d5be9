//! The variables that send an agent and its tools through the gates.
//!
//! One table for injected pods and for `clawlock dev`: an agent sees the same in both.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::names;

/// Where things are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The proxy.
    pub proxy: SocketAddr,
    /// `/v1/decide` over TCP.
    pub decide: SocketAddr,
    /// `/v1/decide` over a Unix socket.
    pub socket: PathBuf,
    /// The interception CA. Everything is intercepted or refused, so it is the only root that is needed.
    pub ca: PathBuf,
    /// Configuration of wget, which reads its CA from nowhere else.
    pub wgetrc: PathBuf,
    /// Whether [`NODE_OPTION`] is set: a Node that does not know it would not start.
    pub node_option: bool,
}

/// Files of [`names::AGENT_DIR`], which the sidecar writes and agents read.
pub const CA_FILE: &str = "ca.crt";
/// See [`CA_FILE`].
pub const WGETRC_FILE: &str = "wgetrc";
/// See [`CA_FILE`].
pub const SOCKET_FILE: &str = "decide.sock";

impl Places {
    /// Those of an injected pod.
    #[must_use]
    pub fn in_pod() -> Self {
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let folder = Path::new(names::AGENT_DIR);
        Self {
            proxy: loopback(names::PROXY_PORT),
            decide: loopback(names::DECIDE_PORT),
            socket: folder.join(SOCKET_FILE),
            ca: folder.join(CA_FILE),
            wgetrc: folder.join(WGETRC_FILE),
            node_option: true,
        }
    }
}

/// Loopback stays direct: agents talk to servers of their own there.
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// Node's option that keeps `kill -USR1` from opening its inspector to every process of the user.
pub const NODE_OPTION: &str = "--disable-sigusr1";

/// The variable that [`NODE_OPTION`] is added to. Every other one is replaced.
pub const NODE_OPTIONS: &str = "NODE_OPTIONS";

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
#[must_use]
pub fn variables(places: &Places, node_options: Option<&str>) -> Vec<(&'static str, String)> {
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
        variables.push((NODE_OPTIONS, node_options));
    }
    variables
}

/// The configuration of wget.
#[must_use]
pub fn wgetrc(ca: &Path) -> String {
    format!("ca_certificate = {}\n", ca.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            proxy: "127.0.0.1:1".parse().unwrap(),
            decide: "127.0.0.1:2".parse().unwrap(),
            socket: "/s/decide.sock".into(),
            ca: "/s/ca.crt".into(),
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
            all.into_iter().find(|(name, _)| *name == NODE_OPTIONS).unwrap().1
        };
        assert_eq!(options(None), "--disable-sigusr1");
        assert_eq!(options(Some("--max-old-space-size=1536")), "--max-old-space-size=1536 --disable-sigusr1");
        assert_eq!(options(Some("--disable-sigusr1")), "--disable-sigusr1");
        let old = Places { node_option: false, ..places() };
        let without = variables(&old, None);
        assert!(without.iter().all(|(name, _)| *name != NODE_OPTIONS));
    }

    #[test]
    fn a_pod_has_its_gates_on_loopback_and_its_files_in_the_mount() {
        let variables = variables(&Places::in_pod(), None);
        let value = |name: &str| variables.iter().find(|(known, _)| *known == name).unwrap().1.as_str();
        assert_eq!(value("HTTPS_PROXY"), "http://127.0.0.1:15001");
        assert_eq!(value("CLAWLOCK_DECIDE_URL"), "http://127.0.0.1:15002/v1/decide");
        assert_eq!(value("CLAWLOCK_DECIDE_SOCKET"), "/run/clawlock/agent/decide.sock");
        assert_eq!(value("SSL_CERT_FILE"), "/run/clawlock/agent/ca.crt");
        assert_eq!(value("WGETRC"), "/run/clawlock/agent/wgetrc");
    }
}
