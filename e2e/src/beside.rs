//! The operator as a process beside the cluster, behind `e2e/writes`: a proxy that counts its writes and, told to,
//! kills it after each new one.
//!
//! It is the program of the images with the arguments of its Deployment, and it is the operator's ServiceAccount to the
//! API server. Every life has the same name, as the lives of one container have: so the Lease is its own when it comes
//! back, and nobody waits for its end. The Deployment has no pods meanwhile; gateways reach the process through the
//! Service of the control API, which gets its address.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::{Kubectl, Result, eventually};

/// The release's namespace.
pub const RELEASE: &str = "clawlock-system";
/// The Deployment, and the ServiceAccount.
const OPERATOR: &str = "clawlock-operator";
/// What the process calls itself.
const NAME: &str = "clawlock-operator-beside";
/// Where its control API listens, on every address of the machine that the nodes reach.
const CONTROL_PORT: u16 = 18_444;

/// A write that arrived at the API server.
#[derive(Clone, Debug)]
pub struct Write {
    /// Method and path.
    pub what: String,
    /// It left its object as no write before it since [`Beside::turn`].
    pub new: bool,
    /// The operator was killed before it had the answer.
    pub killed: bool,
}

/// The process. When it is dropped, the Deployment takes over again.
pub struct Beside {
    child: Child,
    orders: Option<ChildStdin>,
    book: Arc<Mutex<Book>>,
    folder: PathBuf,
    replicas: String,
}

struct Book {
    writes: Vec<Write>,
    /// When the last new write was made.
    last: Instant,
}

impl Beside {
    /// Takes the place of the Deployment. Files, the log among them, are kept in a folder.
    ///
    /// # Errors
    /// When a program is not there, or the Deployment's pods do not go.
    pub fn start(folder: &Path) -> Result<Self> {
        let kubectl = Kubectl::admin();
        // A token is kept in it.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
        let server = credentials(&kubectl, folder)?;
        let deployment = kubectl.get(RELEASE, "deployment", OPERATOR)?.ok_or("the operator has no Deployment")?;
        let mut command = Command::new(program("E2E_WRITES")?);
        command.args(["--server", &server]).arg("--folder").arg(folder);
        command.arg("--ca").arg(folder.join("ca.crt")).arg("--token").arg(folder.join("token"));
        command.arg("--").arg(program("E2E_OPERATOR")?).args(arguments(&deployment, folder)?);
        scale(&kubectl, "0")?;
        let replicas = deployment["spec"]["replicas"].to_string();
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| format!("{command:?}: {error}"))?;
        let book = Arc::new(Mutex::new(Book { writes: Vec::new(), last: Instant::now() }));
        if let Some(lines) = child.stdout.take() {
            let book = book.clone();
            std::thread::spawn(move || keep(&book, lines));
        }
        let orders = child.stdin.take();
        // From here on it is undone when something fails.
        let beside = Self { child, orders, book, folder: folder.to_owned(), replicas };
        eventually("the Deployment's pods are gone", Duration::from_secs(60), || {
            match kubectl.list(RELEASE, "pods", "clawlock.dev/role=operator")?.len() {
                0 => Ok(()),
                left => Err(format!("{left} are there")),
            }
        })?;
        kubectl.apply(&endpoint(&kubectl)?)?;
        Ok(beside)
    }

    /// Begins a new count. From now on the operator is killed after each new write, or it is not.
    ///
    /// # Errors
    /// When the proxy has ended.
    pub fn turn(&mut self, kills: bool) -> Result<()> {
        *self.lock() = Book { writes: Vec::new(), last: Instant::now() };
        let order = if kills { "kill" } else { "pass" };
        let orders = self.orders.as_mut().ok_or("the proxy takes no orders")?;
        writeln!(orders, "{order}").map_err(|error| format!("the proxy has ended: {error}\n{}", self.log()))
    }

    /// The writes since [`Self::turn`].
    #[must_use]
    pub fn writes(&self) -> Vec<Write> {
        self.lock().writes.clone()
    }

    /// Checks that nothing new was written for a while.
    ///
    /// # Errors
    /// With how much was written, and what was last.
    pub fn quiet(&self, at_least: Duration) -> Result<()> {
        let book = self.lock();
        if book.last.elapsed() >= at_least {
            return Ok(());
        }
        let last = book.writes.iter().rev().find(|write| write.new);
        Err(format!("{} writes; the last that is new: {last:?}", book.writes.len()))
    }

    /// Checks that no life of the operator has panicked.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn sound(&self) -> Result<()> {
        let text = fs::read_to_string(self.folder.join("client.log")).map_err(|error| format!("its log: {error}"))?;
        let panic = text.lines().find(|line| line.contains("panicked at"));
        panic.map_or(Ok(()), |line| Err(format!("the operator: {line}")))
    }

    /// The end of what the operator has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.join("client.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.iter().skip(lines.len().saturating_sub(40)).map(|line| format!("{line}\n")).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // The end of its input ends the proxy, and that the operator, which gives its Lease back.
        drop(self.orders.take());
        drop(self.child.wait());
        let kubectl = Kubectl::admin();
        let restored = kubectl
            .run(&["delete", "endpointslice", NAME, "-n", RELEASE, "--ignore-not-found"])
            .and_then(|_| scale(&kubectl, &self.replicas))
            .and_then(|()| {
                kubectl.run(&["rollout", "status", "deployment", OPERATOR, "-n", RELEASE, "--timeout=120s"])
            });
        if let Err(why) = restored {
            eprintln!("the operator's Deployment was not brought back: {why}");
        }
        for secret in ["token", "kubeconfig"] {
            drop(fs::remove_file(self.folder.join(secret)));
        }
    }
}

/// Notes each line of the proxy, until it ends.
fn keep(book: &Mutex<Book>, lines: ChildStdout) {
    for line in BufReader::new(lines).lines().map_while(std::io::Result::ok) {
        let line: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(how) = line["ended"].as_str() {
            eprintln!("life {} of the operator has ended by itself: {how}", line["life"]);
            continue;
        }
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let what = format!("{} {}", text("verb"), text("path"));
        let write = Write { what, new: line["new"] == true, killed: line["killed"] == true };
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        if write.new {
            book.last = Instant::now();
        }
        book.writes.push(write);
    }
}

fn program(variable: &str) -> Result<String> {
    std::env::var(variable).map_err(|_| format!("{variable} is not set; run the tests with make e2e-full"))
}

/// Writes what the process needs to be the operator. Answers the API server's URL.
fn credentials(kubectl: &Kubectl, folder: &Path) -> Result<String> {
    let config = kubectl.run(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"])?;
    let config: Value = serde_json::from_str(&config).map_err(|error| format!("kubeconfig: {error}"))?;
    let cluster = &config["clusters"][0]["cluster"];
    let ca = BASE64.decode(cluster["certificate-authority-data"].as_str().unwrap_or_default());
    let ca = ca.map_err(|error| format!("the cluster's CA: {error}"))?;
    let token = kubectl.run(&["create", "token", OPERATOR, "-n", RELEASE, "--duration=1h"])?;
    let release = kubectl.get(RELEASE, "configmap", "clawlock-release")?.ok_or("there is no release")?;
    let release = release["data"]["release.json"].as_str().unwrap_or_default();
    for (name, content) in
        [("ca.crt", ca.as_slice()), ("token", token.trim().as_bytes()), ("release.json", release.as_bytes())]
    {
        fs::write(folder.join(name), content).map_err(|error| format!("{name}: {error}"))?;
    }
    cluster["server"].as_str().map(str::to_owned).ok_or_else(|| "the kubeconfig names no server".to_owned())
}

/// The Deployment's arguments, with the places of this machine.
fn arguments(deployment: &Value, folder: &Path) -> Result<Vec<String>> {
    let args = deployment.pointer("/spec/template/spec/containers/0/args").and_then(Value::as_array);
    let args = args.ok_or("the operator's container has no arguments")?.iter().filter_map(Value::as_str);
    let release = folder.join("release.json");
    Ok(args
        .map(|arg| match arg.split_once('=') {
            Some((flag @ "--release", _)) => format!("{flag}={}", release.display()),
            Some((flag @ "--pod", _)) => format!("{flag}={NAME}"),
            Some((flag @ "--control-listen", _)) => format!("{flag}=0.0.0.0:{CONTROL_PORT}"),
            // Nobody asks, and the port may be taken.
            Some((flag @ "--admin-listen", _)) => format!("{flag}=127.0.0.1:0"),
            _ => arg.to_owned(),
        })
        .collect())
}

fn scale(kubectl: &Kubectl, replicas: &str) -> Result<()> {
    kubectl.run(&["scale", "deployment", OPERATOR, "-n", RELEASE, &format!("--replicas={replicas}")]).map(drop)
}

/// The process as an endpoint of the control API's Service.
fn endpoint(kubectl: &Kubectl) -> Result<String> {
    let node = kubectl.get("", "node", &kubectl.worker()?)?.ok_or("the worker is gone")?;
    let addresses = node.pointer("/status/addresses").and_then(Value::as_array);
    let internal = addresses.into_iter().flatten().find(|address| address["type"] == "InternalIP");
    let node = internal.and_then(|address| address["address"].as_str()).ok_or("the worker has no address")?;
    let address = towards(node).map_err(|error| format!("the way to {node}: {error}"))?;
    Ok(format!(
        r#"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {NAME}
  namespace: {RELEASE}
  labels: {{kubernetes.io/service-name: clawlock-control, endpointslice.kubernetes.io/managed-by: e2e}}
addressType: IPv4
ports: [{{name: control, port: {CONTROL_PORT}, protocol: TCP}}]
endpoints: [{{addresses: ["{address}"], conditions: {{ready: true}}}}]
"#
    ))
}

/// The address of ours that a node sees. Nothing is sent.
fn towards(node: &str) -> std::io::Result<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((node, CONTROL_PORT))?;
    Ok(socket.local_addr()?.ip())
}
