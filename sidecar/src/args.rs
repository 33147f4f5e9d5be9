//! The command line and the variables of the pod, read once and whole into a [`Config`]. Nothing deeper reads
//! arguments or the environment. Every mistake is told at once: whoever mends a template sees all of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, Parser, Subcommand};
use clawlock_policy::SpiffeId;
use clawlock_proxy::voucher::Ports;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use crate::isolation::Pace;

/// The first gate, beside the agent.
#[derive(Debug, Parser)]
#[command(name = "clawlock-sidecar", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Which events are logged to standard error, such as info or clawlock_sidecar=debug
    #[arg(long, global = true, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gate
    Run(Box<RunArgs>),
    /// Put OpenClaw under its guard, as its own user: write its plugin and its configuration
    InstallOpenclaw,
}

// Texts: they are parsed together, so that all mistakes are told.
/// Arguments of `run`. In a pod, injection gives all of them.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// The tenant that the pod belongs to
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The tenant's trust domain
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: Option<String>,
    /// The tenant's gateway: the only address that is ever connected, canaries aside
    #[arg(long, value_name = "ADDRESS:PORT")]
    gateway: Option<String>,
    /// The certificate under which the control API proves itself: DER in base64
    #[arg(long, value_name = "BASE64")]
    anchor: Option<String>,
    /// The pod's name
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pod_name: Option<String>,
    /// The pod's namespace
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pod_namespace: Option<String>,
    /// The pod's uid
    #[arg(long, value_name = "UID", env = "POD_UID")]
    pod_uid: Option<String>,
    /// The pod's ServiceAccount
    #[arg(long, value_name = "NAME", env = "SERVICE_ACCOUNT")]
    service_account: Option<String>,
    /// The address of the pod's node
    #[arg(long, value_name = "ADDRESS", env = "HOST_IP")]
    host_ip: Option<String>,
}

/// All that the program is told.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The tenant.
    pub(crate) tenant: String,
    /// The pod's name, for people.
    pub(crate) pod: String,
    /// Who the pod is: what its certificate must say, and whose assignment is taken.
    pub(crate) identity: SpiffeId,
    /// The tenant's gateway.
    pub(crate) gateway: SocketAddr,
    /// The root under which the control API proves itself.
    pub(crate) anchor: CertificateDer<'static>,
    /// The pod's own node, which the network always lets through.
    pub(crate) host: IpAddr,
    /// Where things are.
    pub(crate) places: Places,
    /// Ports of the canaries.
    pub(crate) canaries: Ports,
    /// How often they are tried.
    pub(crate) pace: Pace,
}

/// Folder that agents read; injection and agents rely on it.
pub(crate) const AGENT_FOLDER: &str = "/run/clawlock/agent";
/// Folder with what governs OpenClaw, likewise.
pub(crate) const OPENCLAW_FOLDER: &str = "/run/clawlock/openclaw";

/// Where things are in a pod; injection and agents rely on it.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The pod's token.
    pub(crate) token: PathBuf,
    /// Folder of the interception CA's key.
    pub(crate) private: PathBuf,
    /// Folder that agents read.
    pub(crate) agent: PathBuf,
    /// The proxy.
    pub(crate) proxy: SocketAddr,
    /// `/v1/decide` over TCP.
    pub(crate) decide: SocketAddr,
    /// Health and metrics, for the kubelet.
    pub(crate) health: SocketAddr,
}

impl Places {
    /// Those of an injected pod on the node `host`.
    fn in_pod(host: IpAddr) -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // The kubelet asks over the family that its node and its pods have.
        let any = match host {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        Self {
            token: "/run/clawlock/token/token".into(),
            // Below the volume: its own folder belongs to root and is open to all, as volumes are.
            private: "/run/clawlock/private/ca".into(),
            agent: AGENT_FOLDER.into(),
            proxy: loopback(15_001),
            decide: loopback(15_002),
            health: SocketAddr::new(any, 15_020),
        }
    }
}

impl Config {
    /// Reads the arguments.
    ///
    /// # Errors
    /// With every mistake.
    pub(crate) fn read(args: RunArgs) -> Result<Self, Vec<String>> {
        let RunArgs {
            tenant,
            trust_domain,
            gateway,
            anchor,
            pod_name,
            pod_namespace,
            pod_uid,
            service_account,
            host_ip,
        } = args;
        let mut mistakes = Mistakes::default();
        let tenant = mistakes.read("--tenant", tenant, |text| dns_label(&text));
        let gateway = mistakes.read("--gateway", gateway, |text| gateway_address(&text));
        let anchor = mistakes.read("--anchor", anchor, |text| certificate(&text));
        let host = mistakes.read("HOST_IP", host_ip, |text| {
            text.parse().map_err(|_| format!("{text:?} is no IP address; it comes from status.hostIP"))
        });
        let pod = mistakes.read("POD_NAME", pod_name, Ok);
        let domain = mistakes.read("--trust-domain", trust_domain, Ok);
        let namespace = mistakes.read("POD_NAMESPACE", pod_namespace, Ok);
        let account = mistakes.read("SERVICE_ACCOUNT", service_account, Ok);
        let uid = mistakes.read("POD_UID", pod_uid, Ok);
        let identity = match (domain, namespace, account, uid) {
            (Some(domain), Some(namespace), Some(account), Some(uid)) => {
                let identity = SpiffeId::of_pod(&domain, &namespace, &account, &uid);
                mistakes.check(identity.map_err(|error| {
                    format!(
                        "--trust-domain {domain:?}, POD_NAMESPACE {namespace:?}, SERVICE_ACCOUNT {account:?} and \
                         POD_UID {uid:?} make no SPIFFE ID: {error}"
                    )
                }))
            }
            _ => None,
        };
        let (Some(tenant), Some(gateway), Some(anchor), Some(host), Some(pod), Some(identity)) =
            (tenant, gateway, anchor, host, pod, identity)
        else {
            return Err(mistakes.0);
        };
        let (places, canaries, pace) = (Places::in_pod(host), Ports::default(), Pace::default());
        Ok(Self { tenant, pod, identity, gateway, anchor, host, places, canaries, pace })
    }
}

/// All mistakes so far.
#[derive(Default)]
struct Mistakes(Vec<String>);

impl Mistakes {
    /// A value that must be there.
    fn read<T>(
        &mut self,
        name: &str,
        value: Option<String>,
        parse: impl FnOnce(String) -> Result<T, String>,
    ) -> Option<T> {
        let given = value.filter(|text| !text.is_empty());
        let given = given.ok_or_else(|| format!("{name} is missing; the pod must be injected again"));
        self.check(given.and_then(|text| parse(text).map_err(|error| format!("{name}: {error}"))))
    }

    fn check<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|mistake| self.0.push(mistake)).ok()
    }
}

/// The tenant is a part of server names.
fn dns_label(text: &str) -> Result<String, String> {
    let is_label = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    let refused = || format!("{text:?} is no DNS label; pass the name of the TenantGateway");
    is_label.then(|| text.to_owned()).ok_or_else(refused)
}

fn gateway_address(text: &str) -> Result<SocketAddr, String> {
    let address: Option<SocketAddr> = text.parse().ok();
    address.filter(|address| address.port() != 0 && !address.ip().is_unspecified()).ok_or_else(|| {
        format!("{text:?} is no IP address and port; a name would need DNS, which agents' pods do not reach")
    })
}

fn certificate(text: &str) -> Result<CertificateDer<'static>, String> {
    let todo = "pass the root of the control API, DER in base64";
    let der = BASE64.decode(text).map_err(|error| format!("this is not base64 ({error}); {todo}"))?;
    let certificate = CertificateDer::from(der);
    let added = RootCertStore::empty().add(certificate.clone());
    added.map_err(|error| format!("this is no root certificate ({error}); {todo}"))?;
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    fn root() -> String {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        BASE64.encode(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    fn args() -> RunArgs {
        let some = |text: &str| Some(text.to_owned());
        RunArgs {
            tenant: some("acme"),
            trust_domain: some("acme.example"),
            gateway: some("10.96.0.7:8443"),
            anchor: Some(root()),
            pod_name: some("claw-0"),
            pod_namespace: some("acme"),
            pod_uid: some("0b1c"),
            service_account: some("default"),
            host_ip: some("172.18.0.3"),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_injection_gives_is_read() {
        let anchor = format!("--anchor={}", root());
        let line = ["clawlock-sidecar", "run", "--tenant=acme", "--trust-domain=acme.example"];
        let more = ["--gateway=[fd00::7]:8443", &anchor, "--pod-name=claw-0", "--pod-namespace=acme", "--pod-uid=0b1c"];
        let rest = ["--service-account=default", "--host-ip=172.18.0.3"];
        let cli = Cli::try_parse_from(line.into_iter().chain(more).chain(rest)).unwrap();
        let Command::Run(given) = cli.command else { panic!("{cli:?}") };
        let config = Config::read(*given).unwrap();
        assert_eq!(config.identity.as_str(), "spiffe://acme.example/ns/acme/sa/default/pod/0b1c");
        assert_eq!(config.gateway.to_string(), "[fd00::7]:8443");
        assert_eq!(config.host.to_string(), "172.18.0.3");
        assert_eq!((config.canaries.tripwire, config.canaries.node), (53, 10_250));
        assert_eq!(config.places.health.to_string(), "0.0.0.0:15020");
        let six = Config::read(RunArgs { host_ip: Some("fd00::3".into()), ..args() }).unwrap();
        assert_eq!(six.places.health.to_string(), "[::]:15020");
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let told = Config::read(RunArgs::default()).unwrap_err();
        assert_eq!(told.len(), 9, "{told:#?}");
        for name in ["--tenant", "--trust-domain", "--gateway", "--anchor", "POD_NAME ", "POD_UID", "HOST_IP"] {
            assert!(told.iter().any(|mistake| mistake.starts_with(name)), "{name} in {told:#?}");
        }
        let wrong = RunArgs { tenant: Some("a.b".into()), gateway: Some("gateway:8443".into()), ..args() };
        assert_eq!(Config::read(wrong).unwrap_err().len(), 2);
    }

    #[test]
    fn each_value_is_checked() {
        assert!(Config::read(args()).is_ok());
        let changes: [fn(&mut RunArgs, String); 5] = [
            |args, text| args.tenant = Some(text),
            |args, text| args.gateway = Some(text),
            |args, text| args.anchor = Some(text),
            |args, text| args.host_ip = Some(text),
            |args, text| args.pod_namespace = Some(text),
        ];
        let wrong: [&[&str]; 5] = [
            &["", "Acme", "-acme", "acme-", "a.b", "a b", &"a".repeat(64)],
            &["", "8443", "0.0.0.0:8443", "10.0.0.1:0", "10.0.0.1", "gateway.acme.svc:8443"],
            &["", "%", "AAAA"],
            &["", "node-1", "10.0.0.1:10250"],
            &["", "a/sa/b", "..", "a b"],
        ];
        for (change, wrong) in changes.iter().zip(wrong) {
            for text in wrong {
                let mut changed = args();
                change(&mut changed, (*text).to_owned());
                assert_eq!(Config::read(changed).unwrap_err().len(), 1, "{text:?}");
            }
        }
    }
}
