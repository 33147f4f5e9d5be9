//! Values of the command line, parsed into their types.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use clawlock_policy::HostName;

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
        let wrong = "write NAMESPACE/SERVICEACCOUNT, for example acme/default";
        let (namespace, service_account) = two_parts(text).ok_or(wrong)?;
        Ok(Self { namespace, service_account })
    }
}

/// An `AgentHalt`: `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HaltName {
    /// The namespace.
    pub(crate) namespace: String,
    /// The name.
    pub(crate) name: String,
}

impl FromStr for HaltName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = two_parts(text).ok_or("write NAMESPACE/NAME, for example acme/inc-42")?;
        Ok(Self { namespace, name })
    }
}

/// The parts before and after the only slash, neither of them empty.
fn two_parts(text: &str) -> Option<(String, String)> {
    let (one, two) = text.split_once('/')?;
    (!one.is_empty() && !two.is_empty() && !two.contains('/')).then(|| (one.to_owned(), two.to_owned()))
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

impl Label {
    /// Labels by key.
    ///
    /// # Errors
    /// When a key is given twice.
    pub(crate) fn unique(labels: &[Self]) -> Result<BTreeMap<String, String>, String> {
        let mut unique = BTreeMap::new();
        for Self { key, value } in labels {
            if unique.insert(key.clone(), value.clone()).is_some() {
                return Err(format!("--label {key} is given twice; give it once"));
            }
        }
        Ok(unique)
    }
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
