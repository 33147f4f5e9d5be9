//! API server and etcd, on loopback, with a folder of their own. No kubelet, no controller: what is written stays as it
//! was written.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;

use crate::api::Api;
use crate::process::{Process, free_port, write};

/// The administrator's token: whoever reads the folder may be the administrator of this API server, for its minutes.
const ADMIN: &str = "clawlock-bench-administrator";
/// How long the API server may take to start.
const STARTS: Duration = Duration::from_secs(90);

/// An API server, running.
pub(crate) struct Cluster {
    port: u16,
    ca: String,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    server: Process,
    _etcd: Process,
}

impl Cluster {
    /// Starts both.
    pub(crate) fn start(programs: &Path, dir: &Path) -> Result<Self, String> {
        let [client, peer, port] = [free_port()?, free_port()?, free_port()?];
        let etcd_args = [
            format!("--data-dir={}", dir.join("etcd").display()),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            "--log-level=warn".to_owned(),
        ];
        let etcd = Process::start(dir, "etcd", &programs.join("etcd"), &etcd_args)?;
        let ca = certificates(dir)?;
        write(&dir.join("tokens.csv"), format!("{ADMIN},admin,admin,system:masters\n").as_bytes())?;
        let file = |name: &str| dir.join(name).display().to_string();
        let args = [
            format!("--etcd-servers=http://127.0.0.1:{client}"),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            // Loopback cannot be the endpoint of a Service, and nobody asks for that one.
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--tls-cert-file={}", file("server.pem")),
            format!("--tls-private-key-file={}", file("server.key")),
            format!("--token-auth-file={}", file("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            format!("--service-account-key-file={}", file("accounts.pub")),
        ];
        let server = Process::start(dir, "kube-apiserver", &programs.join("kube-apiserver"), &args)?;
        let kubeconfig = dir.join("admin.kubeconfig");
        write(&kubeconfig, kubeconfig_of(port, &ca, ADMIN).as_bytes())?;
        Ok(Self { port, ca, kubectl: programs.join("kubectl"), kubeconfig, server, _etcd: etcd })
    }

    /// A client with the rights of an administrator, once the server is ready.
    pub(crate) async fn api(&self) -> Result<Api, String> {
        let ready = || async {
            let Ok(api) = Api::connect(self.port, &self.ca, ADMIN).await else { return false };
            api.text("/readyz").await.is_ok()
        };
        self.server.until("the API server is ready", STARTS, ready).await?;
        Api::connect(self.port, &self.ca, ADMIN).await
    }

    /// What a program needs to be the owner of a token.
    pub(crate) fn kubeconfig(&self, token: &str) -> String {
        kubeconfig_of(self.port, &self.ca, token)
    }

    /// Runs kubectl as the administrator.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Result<(), String> {
        let output = Command::new(&self.kubectl).env("KUBECONFIG", &self.kubeconfig).args(args).output();
        let output = output.map_err(|error| format!("{}: {error}", self.kubectl.display()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

fn kubeconfig_of(port: u16, ca: &str, token: &str) -> String {
    // JSON is YAML.
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": BASE64.encode(ca),
        }}],
        "users": [{"name": "bench", "user": {"token": token}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
    })
    .to_string()
}

/// Writes the server's certificate and the key of the ServiceAccounts' tokens; answers the CA.
fn certificates(dir: &Path) -> Result<String, String> {
    let text = |error: rcgen::Error| error.to_string();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Clawlock benchmark API server CA");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(text)?).map_err(text)?;
    let key = KeyPair::generate().map_err(text)?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(text)?;
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    let leaf = params.signed_by(&key, &ca).map_err(text)?;
    let accounts = KeyPair::generate().map_err(text)?;
    write(&dir.join("server.pem"), leaf.pem().as_bytes())?;
    write(&dir.join("server.key"), key.serialize_pem().as_bytes())?;
    write(&dir.join("accounts.key"), accounts.serialize_pem().as_bytes())?;
    write(&dir.join("accounts.pub"), accounts.public_key_pem().as_bytes())?;
    Ok(ca.pem())
}
