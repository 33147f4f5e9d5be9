//! The release: its definitions, RBAC and settings in the API server, and its programs as processes, each with the
//! arguments and the ServiceAccount that the chart gives it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::CertificateDer;
use serde_json::json;

use crate::Args;
use crate::api::Api;
use crate::cluster::Cluster;
use crate::objects::Tenant;
use crate::process::{Memory, Process, free_port, get, write};

/// The release's namespace.
pub(crate) const NAMESPACE: &str = "clawlock-system";
/// How long a program of ours may take to be ready.
const STARTS: Duration = Duration::from_secs(60);
/// How long a token of a program holds, in seconds.
const TOKEN_SECONDS: u32 = 7200;

/// The release, installed.
pub(crate) struct Release {
    operator: PathBuf,
    dir: PathBuf,
    settings: PathBuf,
}

/// A program of the release, running.
pub(crate) struct Program {
    process: Process,
    listen: u16,
    admin: u16,
}

impl Release {
    /// Installs it: everything that the chart renders, but what would ask Services, which lead nowhere here, and the
    /// admission policies, which are the API server's work and not the operator's.
    pub(crate) async fn install(args: &Args, cluster: &Cluster, api: &Api, dir: &Path) -> Result<Self, String> {
        let file = |path: &str| args.checkout.join(path).display().to_string();
        let (definitions, rendered) = (file("crds/yaml"), file("deploy/kustomize/base/release.yaml"));
        cluster.kubectl(&["create", "namespace", NAMESPACE])?;
        cluster.kubectl(&["apply", "--server-side", "--filename", &definitions, "--filename", &rendered])?;
        cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crds", "--all"])?;
        cluster.kubectl(&["delete", "validatingadmissionpolicybindings", "--all"])?;
        cluster.kubectl(&["delete", "validatingwebhookconfiguration", "clawlock"])?;
        let nobody = r#"[{"op": "remove", "path": "/webhooks/0/rules"}]"#;
        cluster.kubectl(&["patch", "mutatingwebhookconfiguration", "clawlock", "--type=json", "--patch", nobody])?;
        let map = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/clawlock-release");
        let map = api.get(&map).await?.unwrap_or_default();
        let settings = dir.join("release.json");
        write(&settings, map["data"]["release.json"].as_str().unwrap_or_default().as_bytes())?;
        for account in ["clawlock-operator", "clawlock-webhook"] {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token");
            let token = api.create(&path, &json!({"spec": {"expirationSeconds": TOKEN_SECONDS}})).await?;
            let token = token["status"]["token"].as_str().ok_or("the API server gave no token")?;
            write(&dir.join(account), cluster.kubeconfig(token).as_bytes())?;
        }
        Ok(Self { operator: args.operator.clone(), dir: dir.to_owned(), settings })
    }

    /// Starts a replica of the operator.
    pub(crate) fn replica(&self, name: &str) -> Result<Program, String> {
        let pod = format!("clawlock-operator-{name}");
        let more = [format!("--pod={pod}"), "--webhook-configuration=clawlock".to_owned()];
        self.start("run", "--control-listen", &pod, "clawlock-operator", &more)
    }

    /// Starts the webhooks.
    pub(crate) fn webhook(&self) -> Result<Program, String> {
        self.start("webhook", "--listen", "clawlock-webhook-a", "clawlock-webhook", &[])
    }

    /// The root under which the control API proves itself, as the sidecars of a tenant are told.
    pub(crate) async fn anchor(&self, api: &Api, tenant: &Tenant) -> Result<CertificateDer<'static>, String> {
        let arguments = tenant.arguments(api).await?.ok_or("the tenant has no arguments any more")?;
        let anchor = arguments.lines().find_map(|line| line.strip_prefix("--anchor="));
        let anchor = anchor.and_then(|text| BASE64.decode(text).ok()).ok_or("no anchor in the sidecar's arguments")?;
        Ok(CertificateDer::from(anchor))
    }

    fn start(&self, role: &str, flag: &str, name: &str, account: &str, more: &[String]) -> Result<Program, String> {
        let [listen, admin] = [free_port()?, free_port()?];
        let mut args = vec![
            role.to_owned(),
            format!("--release={}", self.settings.display()),
            format!("{flag}=127.0.0.1:{listen}"),
            format!("--admin-listen=127.0.0.1:{admin}"),
            "--log=info".to_owned(),
        ];
        args.extend_from_slice(more);
        let kubeconfig = self.dir.join(account);
        let variables = [("KUBECONFIG", kubeconfig.as_path())];
        let process = Process::start_with(&self.dir, name, &self.operator, &args, &variables)?;
        Ok(Program { process, listen, admin })
    }
}

impl Program {
    /// Waits until it says that it is ready.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let admin = self.admin;
        let ready =
            move || async move { get(admin, "/readyz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) };
        self.process.until("a program of the release is ready", STARTS, ready).await
    }

    /// The port that it serves.
    pub(crate) fn port(&self) -> u16 {
        self.listen
    }

    /// Its memory.
    pub(crate) fn memory(&self) -> Result<Memory, String> {
        self.process.memory()
    }

    /// Processor time so far.
    pub(crate) fn processor(&self) -> Duration {
        self.process.processor()
    }

    /// How many streams it says that it has.
    pub(crate) async fn streams(&self) -> Option<usize> {
        let metrics = get(self.admin, "/metrics").await?;
        metrics.lines().find_map(|line| line.strip_prefix("clawlock_operator_streams "))?.trim().parse().ok()
    }

    /// Kills it without a word of warning.
    pub(crate) fn kill(self) -> Result<(), String> {
        self.process.kill()
    }
}
