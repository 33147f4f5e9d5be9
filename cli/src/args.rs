//! The command line. Every value is parsed here into its type; nothing deeper reads arguments or the
//! environment.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clawlock_policy::HostName;

use crate::secret::SecretText;

/// Policy at two gates for OpenClaw agents, on this machine.
#[derive(Debug, Parser)]
#[command(name = "clawlock", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a starter folder whose policy lets OpenClaw start
    Init(InitArgs),
    /// Check files of policy; exits with 0 when they hold, 1 on a problem, 2 on wrong usage
    Lint(LintArgs),
    /// Say what would be decided on an action, and why; exits with 0 for allow, 1 for a refusal, 2 when the
    /// action or the files are not valid
    Explain(ExplainArgs),
    /// Run both gates on this machine over a folder of policy, and an agent under them
    Dev(Box<DevArgs>),
    /// Take a tenant out of a cluster, or say what is in the way; exits with 0 when it is out, 1 when it is not
    Offboard(OffboardArgs),
    /// Restrict this process to TCP ports, then become COMMAND (used by dev)
    #[command(hide = true)]
    LaunchRestricted(LaunchArgs),
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people; in colour on a terminal unless NO_COLOR is set.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Folder to write clawlock.yaml into; made when it is not there
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Replace a clawlock.yaml that is there
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `lint`.
#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Folders (searched for *.yaml and *.yml, 8 levels deep) and files
    #[arg(value_name = "PATH", default_value = ".")]
    pub(crate) paths: Vec<PathBuf>,
    /// How to print: text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Which agent is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AgentArgs {
    /// Identity of the agent [default: ServiceAccount "default" in the first namespace of the tenant]
    #[arg(long, value_name = "NAMESPACE/SERVICEACCOUNT")]
    pub(crate) agent: Option<AgentName>,
    /// A label of the agent's pod, as agentSelectors and conditions see it; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub(crate) labels: Vec<Label>,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// `tool NAME [JSON]`, for example: tool exec '{"command":"ls"}'; or `METHOD URL [BODY]`, for example:
    /// GET https://api.example.com/v1/models
    #[arg(value_name = "ACTION", required = true, num_args = 1..=3)]
    pub(crate) action: Vec<String>,
    /// Folder of the policy
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// Which agent acts
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// A header of the request; may be repeated. A BODY without Content-Type is read as application/json
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<HeaderArg>,
    /// Time of the action in RFC 3339, for example 2026-11-21T09:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<Time>,
    /// How to print: text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `dev`.
#[derive(Debug, Args)]
#[command(after_help = crate::dev::HELP)]
pub(crate) struct DevArgs {
    /// Folder of the policy, watched for changes
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) folder: PathBuf,
    /// A credential that Upstreams refer to by secretRef: from an environment variable of clawlock, which the
    /// agent does not get, or from a file, which is read again when it changes; may be repeated
    #[arg(long = "secret", value_name = "NAME/KEY=env:VAR|file:PATH")]
    pub(crate) secrets: Vec<SecretText>,
    /// Address of a host instead of what DNS says; it is checked like any other; may be repeated
    #[arg(long = "resolve", value_name = "HOST:ADDRESS")]
    pub(crate) resolve: Vec<Resolved>,
    /// Which agent runs under the gates
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    /// Loopback address and port of the proxy [default: 127.0.0.1 and the port of last time, else a free one]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<Loopback>,
    /// Where the interception CA, the Unix socket and the file of variables are kept
    /// [default: $XDG_STATE_HOME/clawlock/ and a hash of the folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// File that gets one line of JSON per decision [default: decisions.jsonl in the state folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// How to print: text, or one JSON document per line. Goes to the standard output, or to the standard
    /// error when a COMMAND is run
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Another TCP port that COMMAND may connect to, at any address; may be repeated
    #[arg(long = "allow-port", value_name = "PORT")]
    pub(crate) allow_ports: Vec<NonZeroU16>,
    /// Run COMMAND without Landlock: it can then open connections past the gates
    #[arg(long)]
    pub(crate) no_landlock: bool,
    /// The agent to run under the gates; clawlock ends when it ends, with its exit status
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Arguments of `offboard`.
#[derive(Debug, Args)]
pub(crate) struct OffboardArgs {
    /// The tenant: the name of its TenantGateway
    #[arg(value_name = "TENANT")]
    pub(crate) tenant: TenantName,
    /// Delete everything that runs in the tenant's namespaces, wait until the last one is gone, then delete the
    /// TenantGateway. Without it nothing is changed
    #[arg(long)]
    pub(crate) yes: bool,
    /// Context of kubectl's configuration [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// How to print: text, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: Format,
}

/// Arguments of `launch-restricted`.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// A TCP port that COMMAND may connect to
    #[arg(long = "port", value_name = "PORT")]
    pub(crate) ports: Vec<NonZeroU16>,
    /// What to become
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// `NAMESPACE/SERVICEACCOUNT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentName {
    /// The namespace.
    pub(crate) namespace: String,
    /// The ServiceAccount.
    pub(crate) service_account: String,
}

impl FromStr for AgentName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, account)) if !namespace.is_empty() && !account.is_empty() && !account.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), service_account: account.to_owned() })
            }
            _ => Err("write NAMESPACE/SERVICEACCOUNT, for example acme/default".to_owned()),
        }
    }
}

/// Name of a tenant: a DNS label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantName(String);

impl TenantName {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let ends = !text.starts_with('-') && !text.ends_with('-');
        match (1..=63).contains(&text.len()) && text.bytes().all(inner) && ends {
            true => Ok(Self(text.to_owned())),
            false => {
                Err("write the name of a TenantGateway: lower-case letters, digits and dashes, at most 63".to_owned())
            }
        }
    }
}

/// `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    /// The key.
    pub(crate) key: String,
    /// The value, which may be empty.
    pub(crate) value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
            _ => Err("write KEY=VALUE, for example app=support-agent".to_owned()),
        }
    }
}

/// `NAME: VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderArg {
    /// The name.
    pub(crate) name: http::HeaderName,
    /// The value.
    pub(crate) value: http::HeaderValue,
}

impl FromStr for HeaderArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write 'NAME: VALUE', for example 'accept: application/json'".to_owned();
        let (name, value) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Self { name: name.parse().map_err(|_| wrong())?, value: value.trim().parse().map_err(|_| wrong())? })
    }
}

/// A time in RFC 3339, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) u64);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let timestamp: k8s_openapi::jiff::Timestamp =
            text.parse().map_err(|_| "write RFC 3339 with a zone, for example 2026-11-21T09:00:00Z".to_owned())?;
        u64::try_from(timestamp.as_millisecond()).map(Self).map_err(|_| "write a time after 1970".to_owned())
    }
}

/// `HOST:ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The host.
    pub(crate) host: HostName,
    /// Its address.
    pub(crate) address: IpAddr,
}

impl FromStr for Resolved {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write HOST:ADDRESS, for example api.example.com:127.0.0.1".to_owned();
        let (host, address) = text.split_once(':').ok_or_else(wrong)?;
        let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
        let host = HostName::parse(host).map_err(|error| format!("{error}; {}", wrong()))?;
        Ok(Self { host, address: address.parse().map_err(|_| wrong())? })
    }
}

/// An address that only this machine reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loopback(pub(crate) SocketAddr);

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: SocketAddr =
            text.parse().map_err(|_| "write ADDRESS:PORT, for example 127.0.0.1:8877".to_owned())?;
        if !address.ip().is_loopback() {
            return Err(
                "whoever reaches the proxy acts as the agent; write a loopback address such as 127.0.0.1".into()
            );
        }
        Ok(Self(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_parsed_at_the_edge() {
        assert!("acme/default".parse::<AgentName>().is_ok());
        for text in ["acme", "/a", "a/", "a/b/c", ""] {
            assert!(text.parse::<AgentName>().is_err(), "{text:?}");
        }
        assert_eq!("acme-2".parse::<TenantName>().unwrap().as_str(), "acme-2");
        for text in ["", "-acme", "acme-", "--all", "ACME", "a.b", "a/b", "ü", &"a".repeat(64)] {
            assert!(text.parse::<TenantName>().is_err(), "{text:?}");
        }
        assert_eq!("app=a=b".parse::<Label>().unwrap(), Label { key: "app".into(), value: "a=b".into() });
        assert!("=x".parse::<Label>().is_err());
        assert_eq!("1970-01-01T00:00:01Z".parse::<Time>(), Ok(Time(1000)));
        for text in ["yesterday", "2026-11-21", "1969-01-01T00:00:00Z"] {
            assert!(text.parse::<Time>().is_err(), "{text:?}");
        }
        assert_eq!("A.example:::1".parse::<Resolved>().unwrap().address, "::1".parse::<IpAddr>().unwrap());
        assert_eq!("a.example:[::1]".parse::<Resolved>().unwrap().host.as_str(), "a.example");
        for text in ["a.example", "127.0.0.1:127.0.0.1", "a.example:b.example", "a.example:127.0.0.1:80"] {
            assert!(text.parse::<Resolved>().is_err(), "{text:?}");
        }
        assert!("127.0.0.1:0".parse::<Loopback>().is_ok());
        assert!("0.0.0.0:1".parse::<Loopback>().unwrap_err().contains("loopback"));
        assert!("a: b\r\nc: d".parse::<HeaderArg>().is_err());
        assert!("Accept: text/plain".parse::<HeaderArg>().is_ok());
    }
}
