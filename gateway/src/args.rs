//! The command line and the pod's environment. Every value is parsed here into its type, and all mistakes are told
//! together; nothing deeper reads arguments or the environment.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, Parser, Subcommand};
use clawlock_policy::{HostName, SpiffeId};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

/// ServiceAccount of every gateway: a part of its identity.
const SERVICE_ACCOUNT: &str = "clawlock-gateway";

/// The pod's token for the control API. The kubelet renews it.
const TOKEN: &str = "/run/clawlock/token/token";

/// The gateway of one Clawlock tenant.
#[derive(Debug, Parser)]
#[command(name = "clawlock-gateway", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the tenant's sidecars until SIGTERM. Also needs POD_NAME, POD_NAMESPACE and POD_UID in the environment
    Run(RunArgs),
}

/// Arguments of `run`, as they were typed: [`Settings::parse`] reads them, so that all mistakes come out together.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// The tenant: the name of its TenantGateway
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The trust domain of its identities
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: Option<String>,
    /// The control API
    #[arg(long, value_name = "HOST:PORT")]
    control: Option<String>,
    /// The control API's root certificate: DER, as base64
    #[arg(long, value_name = "BASE64")]
    anchor: Option<String>,
    /// Where sidecars connect
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8443")]
    hop: Option<String>,
    /// Where health and metrics are served
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9090")]
    admin: Option<String>,
}

/// What this gateway is and where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The tenant.
    pub(crate) tenant: String,
    /// This pod's identity.
    pub(crate) identity: SpiffeId,
    /// This pod's name, for the log.
    pub(crate) pod: String,
    /// This pod's namespace: that of the Secrets.
    pub(crate) namespace: String,
    /// The control API.
    pub(crate) control: Control,
    /// Its root.
    pub(crate) anchor: CertificateDer<'static>,
    /// Where sidecars connect.
    pub(crate) hop: SocketAddr,
    /// Where health and metrics are served.
    pub(crate) admin: SocketAddr,
    /// The pod's token.
    pub(crate) token: PathBuf,
}

/// Where the control API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    /// Its host.
    pub(crate) host: ControlHost,
    /// Its port.
    pub(crate) port: u16,
}

/// Its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ControlHost {
    /// An address.
    Address(IpAddr),
    /// A name, asked for with the pod's search domains.
    Name(String),
}

/// Something is wrong with the command line or the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    place: &'static str,
    why: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.why)
    }
}

/// Collects mistakes, so that one run tells them all.
#[derive(Default)]
struct Mistakes(Vec<Mistake>);

impl Mistakes {
    fn read<T>(
        &mut self,
        place: &'static str,
        text: Option<String>,
        parse: impl FnOnce(String) -> Result<T, String>,
    ) -> Option<T> {
        let read = text.filter(|text| !text.is_empty()).ok_or_else(|| "it is missing".to_owned()).and_then(parse);
        read.map_err(|why| self.0.push(Mistake { place, why })).ok()
    }
}

impl Settings {
    /// Parses arguments and environment.
    ///
    /// # Errors
    /// With every mistake in them.
    pub(crate) fn parse(args: RunArgs, environment: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Mistake>> {
        let RunArgs { tenant, trust_domain, control, anchor, hop, admin } = args;
        let mut mistakes = Mistakes::default();
        let tenant = mistakes.read("--tenant", tenant, label);
        let trust_domain = mistakes.read("--trust-domain", trust_domain, |domain| {
            // The other parts are known to be good here, so that only the domain can be at fault.
            match SpiffeId::of_pod(&domain, "a", "a", "a") {
                Ok(_) => Ok(domain),
                Err(error) => Err(error.to_string()),
            }
        });
        let control = mistakes.read("--control", control, |text| parse_control(&text));
        let anchor = mistakes.read("--anchor", anchor, |text| parse_anchor(&text));
        let hop = mistakes.read("--hop", hop, |text| parse_address(&text));
        let admin = mistakes.read("--admin", admin, |text| parse_address(&text));
        let pod = mistakes.read("POD_NAME in the environment", environment("POD_NAME"), Ok);
        let namespace = mistakes.read("POD_NAMESPACE in the environment", environment("POD_NAMESPACE"), label);
        let uid = mistakes.read("POD_UID in the environment", environment("POD_UID"), |uid| {
            match SpiffeId::of_pod("a", "a", "a", &uid) {
                Ok(_) => Ok(uid),
                Err(error) => Err(error.to_string()),
            }
        });
        let all = (tenant, trust_domain, control, anchor, hop, admin, pod, namespace, uid);
        let (
            Some(tenant),
            Some(domain),
            Some(control),
            Some(anchor),
            Some(hop),
            Some(admin),
            Some(pod),
            Some(namespace),
            Some(uid),
        ) = all
        else {
            return Err(mistakes.0);
        };
        let identity = SpiffeId::of_pod(&domain, &namespace, SERVICE_ACCOUNT, &uid)
            .map_err(|error| vec![Mistake { place: "--trust-domain and the pod", why: error.to_string() }])?;
        Ok(Self { tenant, identity, pod, namespace, control, anchor, hop, admin, token: TOKEN.into() })
    }
}

/// A DNS label (RFC 1123): tenants and namespaces are part of names.
fn label(text: String) -> Result<String, String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good =
        (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-');
    if good {
        Ok(text)
    } else {
        Err(format!("{text:?} is no DNS label: 1 to 63 lower-case letters, digits and inner '-'"))
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no ADDRESS:PORT, for example 0.0.0.0:8443"))
}

fn parse_control(text: &str) -> Result<Control, String> {
    let wrong = || format!("{text:?} is no HOST:PORT, for example clawlock-control.clawlock-system.svc:8444");
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Control { host: ControlHost::Address(address.ip()), port: address.port() });
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let host = HostName::parse(host).map_err(|error| format!("{text:?}: {error}"))?;
    Ok(Control { host: ControlHost::Name(host.as_str().to_owned()), port })
}

fn parse_anchor(text: &str) -> Result<CertificateDer<'static>, String> {
    let der = BASE64.decode(text).map_err(|error| format!("it is no base64: {error}"))?;
    let anchor = CertificateDer::from(der);
    RootCertStore::empty().add(anchor.clone()).map_err(|error| format!("it is no root certificate: {error}"))?;
    Ok(anchor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;
    use rcgen::{CertificateParams, KeyPair};

    fn given() -> RunArgs {
        let root = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap();
        let anchor = format!("--anchor={}", BASE64.encode(root.der()));
        let Cli { command: Command::Run(args) } = Cli::parse_from([
            "clawlock-gateway",
            "run",
            "--tenant=acme",
            "--trust-domain=acme.example",
            "--control=clawlock-control.clawlock-system.svc:8444",
            &anchor,
        ]);
        args
    }

    fn pod(name: &str) -> Option<String> {
        let value = match name {
            "POD_NAME" => "clawlock-gateway-0",
            "POD_NAMESPACE" => "acme-platform",
            "POD_UID" => "0b7c9a5e-1111-4222-8333-444455556666",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_pod_is_who_its_arguments_and_its_environment_say() {
        let settings = Settings::parse(given(), pod).unwrap();
        assert_eq!(
            settings.identity.as_str(),
            "spiffe://acme.example/ns/acme-platform/sa/clawlock-gateway/pod/0b7c9a5e-1111-4222-8333-444455556666"
        );
        let name = ControlHost::Name("clawlock-control.clawlock-system.svc".to_owned());
        assert_eq!(settings.control, Control { host: name, port: 8444 });
        assert_eq!((settings.hop.port(), settings.admin.port()), (8443, 9090));
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let args = RunArgs {
            tenant: Some("Acme!".to_owned()),
            trust_domain: Some("A".to_owned()),
            control: Some("nowhere".to_owned()),
            anchor: Some("AAAA".to_owned()),
            hop: Some("8443".to_owned()),
            admin: None,
        };
        let mistakes = Settings::parse(args, |_| None).unwrap_err();
        let places: Vec<&str> = mistakes.iter().map(|mistake| mistake.place).collect();
        let environment =
            ["POD_NAME in the environment", "POD_NAMESPACE in the environment", "POD_UID in the environment"];
        let options = ["--tenant", "--trust-domain", "--control", "--anchor", "--hop", "--admin"];
        assert_eq!(places, [&options[..], &environment[..]].concat());
        assert!(mistakes[0].to_string().starts_with("--tenant: \"Acme!\" is no DNS label"));
    }

    #[test]
    fn the_control_api_is_a_name_or_an_address_with_a_port() {
        let address = Control { host: ControlHost::Address("10.96.0.7".parse().unwrap()), port: 8444 };
        assert_eq!(parse_control("10.96.0.7:8444"), Ok(address));
        assert!(parse_control("[fd00::7]:8444").is_ok());
        for wrong in ["", ":8444", "host", "host:", "host:0", "host:65536", "ho st:1", "http://host:1", "a:b:1"] {
            assert!(parse_control(wrong).is_err(), "{wrong:?}");
        }
    }
}
