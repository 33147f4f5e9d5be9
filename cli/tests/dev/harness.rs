//! Starts `clawlock dev`, a TLS upstream that remembers what it saw, and speaks to both.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up. Generous: the machine is shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Name of the upstream's host.
pub(crate) const HOST: &str = "api.test.example";

/// The credential that only the upstream may see.
pub(crate) const CANARY: &str = "canary-credential-4711";

/// The variable that holds it.
pub(crate) const VARIABLE: &str = "CLAWLOCK_TEST_TOKEN";

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A TLS upstream.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    pub(crate) ca_pem: String,
    seen: Arc<Mutex<Vec<String>>>,
    release: Mutex<Option<SyncSender<()>>>,
}

/// A path whose answer waits for [`Upstream::release`].
pub(crate) const SLOW: &str = "/open/slow";

impl Upstream {
    /// Starts it; it ends with the test's process.
    pub(crate) fn start() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new([HOST.to_owned()]).unwrap().signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let memory = seen.clone();
        let (release, released) = sync_channel(1);
        let released = Arc::new(Mutex::new(released));
        std::thread::spawn(move || {
            let config = Arc::new(config);
            for tcp in listener.incoming() {
                let (config, memory, released) = (config.clone(), memory.clone(), released.clone());
                std::thread::spawn(move || answer(tcp.unwrap(), config, &memory, &released));
            }
        });
        Self { port, ca_pem, seen, release: Mutex::new(Some(release)) }
    }

    /// Lets a request to [`SLOW`] be answered.
    pub(crate) fn release(&self) {
        self.release.lock().unwrap().take().unwrap().send(()).unwrap();
    }

    /// The heads of the requests that arrived.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(tcp: TcpStream, config: Arc<ServerConfig>, seen: &Mutex<Vec<String>>, released: &Mutex<Receiver<()>>) {
    let mut tls = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
    let Some(head) = read_head(&mut tls) else { return };
    let slow = head.contains(SLOW);
    seen.lock().unwrap().push(head);
    if slow {
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    }
    // The gateway may be gone by now; then nobody reads the answer.
    drop(tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"));
    tls.conn.send_close_notify();
    drop(tls.flush());
}

fn read_head(stream: &mut impl std::io::Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}

/// A folder of policy for an upstream.
pub(crate) fn policy_folder(upstream: &Upstream) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let indented: String = upstream.ca_pem.lines().map(|line| format!("    {line}\n")).collect();
    let platform = format!(
        "apiVersion: clawlock.dev/v1alpha1\nkind: TenantGateway\nmetadata: {{name: acme, namespace: acme-gateway}}\n\
         spec: {{namespaces: [acme], trustDomain: acme.example}}\n---\n\
         apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: test-ca, namespace: acme-gateway}}\ndata:\n  ca.crt: |\n{indented}---\n\
         apiVersion: clawlock.dev/v1alpha1\nkind: Upstream\nmetadata: {{name: api, namespace: acme-gateway}}\nspec:\n  \
         protocol: HTTP\n  scheme: https\n  hosts: [{HOST}]\n  port: {}\n  allowedCIDRs: [127.0.0.0/8]\n  \
         tls: {{caRef: {{kind: ConfigMap, name: test-ca, key: ca.crt}}}}\n  \
         credential: {{type: Bearer, bearer: {{secretRef: {{name: api, key: token}}}}}}\n",
        upstream.port
    );
    fs::write(dir.path().join("platform.yaml"), platform).unwrap();
    fs::write(dir.path().join("policy.yaml"), policy("Auto", "Block")).unwrap();
    dir
}

/// The tenant's policy: tiers of `/open/**` and of `/shut/**`, and of the tool `exec`.
pub(crate) fn policy(open: &str, shut: &str) -> String {
    format!(
        "apiVersion: clawlock.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {{name: support, namespace: acme}}\nspec:\n  \
         agentSelector: {{}}\n  rules:\n  - name: open\n    match: {{http: {{upstreams: [api], paths: [\"/open/**\"]}}}}\n    \
         tier: {open}\n  - name: shut\n    match: {{http: {{upstreams: [api], paths: [\"/shut/**\"]}}}}\n    tier: {shut}\n  \
         - name: shell\n    match: {{tools: [exec]}}\n    tier: {shut}\n"
    )
}

/// A halt of every agent.
pub(crate) const HALT: &str = "apiVersion: clawlock.dev/v1alpha1\nkind: AgentHalt\nmetadata: {name: inc-42, namespace: acme}\n\
                        spec: {agentSelector: {}, reason: 'INC-42'}\n";

/// A running `clawlock dev`.
pub(crate) struct Dev {
    child: Child,
    events: Mutex<Receiver<Value>>,
    /// The ready event.
    pub(crate) ready: Value,
    _state: Option<TempDir>,
}

/// `clawlock dev` over a folder, with a state folder, not yet started.
pub(crate) fn command(folder: &Path, state: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clawlock"));
    command.args(["dev", "--output", "json", "--folder"]).arg(folder).arg("--state-dir").arg(state);
    command.args(["--resolve", &format!("{HOST}:127.0.0.1"), "--secret", &format!("api/token=env:{VARIABLE}")]);
    command.args(more).env(VARIABLE, CANARY).env_remove("CLAWLOCK_LOG").stdin(Stdio::null());
    command
}

impl Dev {
    /// Starts it and waits until it serves.
    pub(crate) fn start(folder: &Path, more: &[&str]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut dev = Self::spawn(command(folder, state.path(), more));
        dev._state = Some(state);
        dev
    }

    /// Starts a prepared command and waits until it serves.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let to_stderr = command.get_args().any(|argument| argument == "--");
        if to_stderr {
            command.stderr(Stdio::piped());
        } else {
            command.stdout(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        let stream: Box<dyn std::io::Read + Send> = match to_stderr {
            true => Box::new(child.stderr.take().unwrap()),
            false => Box::new(child.stdout.take().unwrap()),
        };
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let event =
                    serde_json::from_str(&line).unwrap_or_else(|_| serde_json::json!({"event": "other", "line": line}));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        let mut dev = Self { child, events: Mutex::new(events), ready: Value::Null, _state: None };
        dev.ready = dev.event(|event| event["event"] == "ready");
        dev
    }

    /// Waits for an event.
    pub(crate) fn event(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut others = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.lock().unwrap().recv_timeout(left) {
                Ok(event) if wanted(&event) => return event,
                Ok(event) => others.push(event),
                Err(error) => panic!("the event did not come ({error}); others: {others:#?}"),
            }
        }
    }

    /// Waits for the next generation in force.
    pub(crate) fn installed(&self) -> u64 {
        self.event(|event| event["event"] == "installed")["generation"].as_u64().unwrap()
    }

    pub(crate) fn path(&self, field: &str) -> PathBuf {
        self.ready[field].as_str().unwrap().into()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::yield_now();
        }
    }

    /// `host:port` of a URL of the ready event.
    pub(crate) fn address(&self, field: &str) -> SocketAddr {
        let url = self.ready[field].as_str().unwrap();
        url.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap()
    }

    /// Sends a request to the upstream through the proxy as an agent does. Answers status and body.
    pub(crate) fn get(&self, upstream: &Upstream, path: &str) -> (u16, String) {
        let authority = format!("{HOST}:{}", upstream.port);
        let mut tcp = TcpStream::connect(self.address("proxy")).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(tcp, "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").unwrap();
        let head = read_head(&mut tcp).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca")).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(HOST).unwrap();
        let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp);
        write!(
            tls,
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nAuthorization: Bearer agents-own\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        split(&read_all(&mut tls))
    }

    /// Asks `/v1/decide` about a tool. Answers the document.
    pub(crate) fn decide(&self, id: &str, tool: &str) -> Value {
        let mut tcp = TcpStream::connect(self.address("decide")).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = format!(r#"{{"version":1,"requestId":"{id}","tool":"{tool}","args":{{}}}}"#);
        write!(
            tcp,
            "POST /v1/decide HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address("decide"),
            body.len()
        )
        .unwrap();
        let (status, body) = split(&read_all(&mut tcp));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read_all(stream: &mut impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // Some peers close without a TLS goodbye; HTTP frames the message by itself.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
        Err(error) => panic!("{error}: {}", String::from_utf8_lossy(&bytes)),
    }
    bytes
}

/// Status and body of a response.
fn split(bytes: &[u8]) -> (u16, String) {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {text:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
