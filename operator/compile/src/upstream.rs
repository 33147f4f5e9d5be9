//! `Upstream` to document.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clawlock_crds::bounds::{
    MAX_ARGUMENT_NAME, MAX_ARGUMENTS, MAX_CA_BUNDLE, MAX_CIDR, MAX_CIDRS, MAX_HOST, MAX_HOSTS, MAX_OPERATIONS, MAX_PATH,
};
use clawlock_crds::{Argument, CaRef, CaRefKind, Operation, Tls, Upstream, UpstreamSpec};
use clawlock_policy::document::{
    ArgumentDoc, ArgumentType, CredentialDoc, Document, OperationDoc, Protocol, Scheme, UpstreamDoc,
};
use clawlock_policy::pattern::{HostPattern, PathTemplate};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::ConfigMap;
use rustls_pki_types::pem::{PemObject as _, SectionKind};

use crate::credential;
use crate::limits::check_place;
use crate::problem::{Kind, Problem, Report};
use crate::rules::convert_category;
use crate::text::refuse_oversize;
use crate::text::{
    Limits, is_data_key, is_dns_subdomain, is_method, is_operation_name, parse_set, quoted, refuse_empty,
};

/// The ConfigMaps that upstreams can refer to, by namespace and name.
#[derive(Debug, Default)]
pub struct ConfigMaps<'a>(BTreeMap<(&'a str, &'a str), Vec<&'a ConfigMap>>);

impl<'a> ConfigMaps<'a> {
    /// Indexes them.
    #[must_use]
    pub fn new(config_maps: &'a [ConfigMap]) -> Self {
        let mut index: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for map in config_maps {
            let namespace = map.metadata.namespace.as_deref().unwrap_or_default();
            let name = map.metadata.name.as_deref().unwrap_or_default();
            index.entry((namespace, name)).or_default().push(map);
        }
        Self(index)
    }
}

/// Checks one upstream by itself. A certificate bundle that is not there makes it unusable.
///
/// # Errors
/// All mistakes in it.
pub fn check_upstream(upstream: &Upstream, config_maps: &ConfigMaps<'_>) -> Result<UpstreamDoc, Vec<Problem>> {
    let Checked { report, document, hosts: _ } = check(upstream, config_maps);
    report.finish(document)
}

/// An upstream after its check. The document holds only if the report has no error; the hosts that
/// parse are claimed in either case.
pub(crate) struct Checked {
    pub(crate) report: Report,
    pub(crate) document: Option<UpstreamDoc>,
    pub(crate) hosts: Vec<HostPattern>,
}

pub(crate) fn check(upstream: &Upstream, config_maps: &ConfigMaps<'_>) -> Checked {
    let mut report = Report::about(Kind::Upstream, &upstream.metadata);
    let UpstreamSpec { protocol, scheme, hosts, port, allowed_cidrs, tls, credential, residency, category, operations } =
        &upstream.spec;
    let protocol = match protocol {
        clawlock_crds::Protocol::Http => Protocol::Http,
        clawlock_crds::Protocol::Llm => Protocol::Llm,
    };
    let scheme = convert_scheme(*scheme);
    refuse_empty(&mut report, "spec.hosts", hosts, "name at least one host");
    let limits = Limits { items: MAX_HOSTS, length: MAX_HOST };
    let claimed = parse_set(&mut report, "spec.hosts", hosts, limits, HostPattern::parse);
    let limits = Limits { items: MAX_CIDRS, length: MAX_CIDR };
    let networks = parse_set(&mut report, "spec.allowedCIDRs", allowed_cidrs, limits, parse_cidr);
    warn_of_metadata(&mut report, &networks);
    let ca_pem = tls.as_ref().and_then(|tls| find_ca(&mut report, scheme, tls, config_maps));
    let credential = credential::convert(&mut report, credential.as_ref());
    if credential.as_ref().is_some_and(|credential| !matches!(credential, CredentialDoc::None {})) {
        check_credentialed(&mut report, scheme, hosts, &claimed);
    }
    if let Some(Err(reason)) = residency.as_deref().map(check_place) {
        report.error("spec.residency", format!("{}: {reason}", quoted(residency.as_deref().unwrap_or_default())));
    }
    let operations = convert_operations(&mut report, operations);
    let name = report.object().name.clone();
    let document = credential.map(|credential| UpstreamDoc {
        name,
        protocol,
        scheme,
        hosts: claimed.iter().map(|host| host.as_str().to_owned()).collect(),
        port: port.get(),
        allowed_cidrs: allowed_cidrs.clone(),
        ca_pem,
        credential,
        residency: residency.clone(),
        category: category.map(convert_category),
        operations,
    });
    if let Some(document) = &document {
        refuse_oversize(&mut report, &Document::Upstream(document.clone()));
    }
    Checked { report, document, hosts: claimed }
}

fn check_credentialed(report: &mut Report, scheme: Scheme, hosts: &[String], claimed: &[HostPattern]) {
    if scheme != Scheme::Https {
        report
            .error("spec.scheme", "an upstream with a credential is https: cleartext would show it; change the scheme");
    }
    for host in claimed.iter().filter(|host| !host.is_exact()) {
        let index = hosts.iter().position(|text| text.eq_ignore_ascii_case(host.as_str())).unwrap_or_default();
        report.error(
            format!("spec.hosts[{index}]"),
            format!(
                "{} is a pattern, and a credential is sent only to hosts that are named; name them, or make another \
                 Upstream without a credential",
                quoted(host.as_str())
            ),
        );
    }
}

pub(crate) fn convert_scheme(scheme: clawlock_crds::Scheme) -> Scheme {
    match scheme {
        clawlock_crds::Scheme::Http => Scheme::Http,
        clawlock_crds::Scheme::Https => Scheme::Https,
    }
}

/// Parses a CIDR in its one spelling: no host bits, IPv4 as IPv4.
fn parse_cidr(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| "no CIDR; write one such as 10.1.0.0/16".to_owned())?;
    if net.trunc() != net {
        return Err(format!("bits are set behind the prefix; write {}", net.trunc()));
    }
    if let IpNet::V6(v6) = net
        && v6.network().to_ipv4_mapped().is_some()
    {
        return Err("an IPv4 network in IPv6 form; write it as IPv4".to_owned());
    }
    Ok(net)
}

/// Where clouds hand out the credentials of the node to whoever asks.
const METADATA_SERVICES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))];

fn warn_of_metadata(report: &mut Report, networks: &[IpNet]) {
    for network in networks {
        if let Some(address) = METADATA_SERVICES.iter().find(|address| network.contains(*address)) {
            report.warning(
                "spec.allowedCIDRs",
                format!(
                    "{network} has {address} in it, where clouds hand out credentials of the node; write narrower networks"
                ),
            );
        }
    }
}

fn find_ca(report: &mut Report, scheme: Scheme, tls: &Tls, config_maps: &ConfigMaps<'_>) -> Option<String> {
    let Tls { ca_ref: CaRef { kind: CaRefKind::ConfigMap, name, key } } = tls;
    let path = "spec.tls.caRef";
    if scheme != Scheme::Https {
        report.error("spec.tls", "the scheme is http, which verifies no certificate; change the scheme or remove tls");
    }
    if !is_dns_subdomain(name) {
        report.error(format!("{path}.name"), format!("{} is no name of a ConfigMap", quoted(name)));
        return None;
    }
    if !is_data_key(key) {
        report.error(format!("{path}.key"), format!("{} is no key of a ConfigMap", quoted(key)));
        return None;
    }
    let namespace = report.object().namespace.clone();
    let map = match config_maps.0.get(&(namespace.as_str(), name.as_str())).map(Vec::as_slice) {
        Some([map]) => map,
        Some([_, _, ..]) => {
            report.broken_reference(path, format!("there are two ConfigMaps {namespace}/{name}; remove one"));
            return None;
        }
        _ => {
            report.broken_reference(
                path,
                format!("there is no ConfigMap {namespace}/{name}; create it in the Upstream's namespace"),
            );
            return None;
        }
    };
    let Some(pem) = map.data.as_ref().and_then(|data| data.get(key)) else {
        report.broken_reference(
            path,
            format!("ConfigMap {namespace}/{name} has no key {} in its data; add it", quoted(key)),
        );
        return None;
    };
    if let Err(reason) = check_bundle(pem) {
        report.broken_reference(path, format!("key {} of ConfigMap {namespace}/{name}: {reason}", quoted(key)));
        return None;
    }
    Some(pem.clone())
}

/// Accepts certificates and nothing else. A private key there is a leak that must not travel further.
fn check_bundle(pem: &str) -> Result<(), String> {
    if pem.len() > MAX_CA_BUNDLE {
        return Err(format!("{} bytes; at most {MAX_CA_BUNDLE} are allowed", pem.len()));
    }
    let mut certificates = 0;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
        match section {
            Ok((SectionKind::Certificate, _)) => certificates += 1,
            Ok((kind, _)) => return Err(format!("it has a section {kind:?}; keep only the certificates")),
            Err(_) => return Err("it is no PEM; write certificates as -----BEGIN CERTIFICATE-----".to_owned()),
        }
    }
    if certificates == 0 {
        return Err("it has no certificate; write at least one as -----BEGIN CERTIFICATE-----".to_owned());
    }
    Ok(())
}

fn convert_operations(report: &mut Report, operations: &[Operation]) -> Vec<OperationDoc> {
    let mut converted = Vec::new();
    let path = "spec.operations";
    if operations.len() > MAX_OPERATIONS {
        report.error(path, format!("{} operations; at most {MAX_OPERATIONS} are allowed", operations.len()));
        return converted;
    }
    let mut names = BTreeSet::new();
    let mut shapes: BTreeMap<(&str, String), &str> = BTreeMap::new();
    for (index, operation) in operations.iter().enumerate() {
        let at = format!("{path}[{index}]");
        let Operation { name, method, path, category, arguments } = operation;
        if !is_operation_name(name) {
            report.error(
                format!("{at}.name"),
                format!(
                    "{} is no name of an operation: letters, digits, '_' and '-', in segments between dots",
                    quoted(name)
                ),
            );
        } else if !names.insert(name) {
            report.error(format!("{at}.name"), format!("two operations have the name {}; rename one", quoted(name)));
        }
        if !is_method(method) {
            report.error(
                format!("{at}.method"),
                format!("{} is no method; methods are case-sensitive, such as GET", quoted(method)),
            );
        }
        if path.len() > MAX_PATH {
            report.error(format!("{at}.path"), format!("{} bytes; at most {MAX_PATH} are allowed", path.len()));
        } else {
            match PathTemplate::parse(path) {
                Ok(template) => {
                    if let Some(other) = shapes.insert((method, template.shape()), name) {
                        report.error(
                            format!("{at}.path"),
                            format!("operation {} has the same method and paths; remove one", quoted(other)),
                        );
                    }
                }
                Err(error) => report.error(format!("{at}.path"), error.to_string()),
            }
        }
        let arguments = convert_arguments(report, &format!("{at}.arguments"), arguments);
        let category = category.map(convert_category);
        converted.push(OperationDoc {
            name: name.clone(),
            method: method.clone(),
            path: path.clone(),
            category,
            arguments,
        });
    }
    converted
}

fn convert_arguments(report: &mut Report, path: &str, arguments: &[Argument]) -> Vec<ArgumentDoc> {
    let mut converted = Vec::new();
    if arguments.len() > MAX_ARGUMENTS {
        report.error(path, format!("{} arguments; at most {MAX_ARGUMENTS} are allowed", arguments.len()));
        return converted;
    }
    let mut names = BTreeSet::new();
    for (index, argument) in arguments.iter().enumerate() {
        let Argument { name, kind } = argument;
        let at = format!("{path}[{index}].name");
        let blank = |c: char| c.is_control() || c.is_whitespace();
        if name.is_empty() || name.len() > MAX_ARGUMENT_NAME || name.contains(blank) {
            report.error(
                at,
                format!("{} is no name of an argument: 1 to {MAX_ARGUMENT_NAME} bytes without blanks", quoted(name)),
            );
        } else if !names.insert(name) {
            report.error(at, format!("two arguments have the name {}; remove one", quoted(name)));
        }
        let kind = match kind {
            clawlock_crds::ArgumentType::String => ArgumentType::String,
            clawlock_crds::ArgumentType::Integer => ArgumentType::Integer,
            clawlock_crds::ArgumentType::Number => ArgumentType::Number,
            clawlock_crds::ArgumentType::Boolean => ArgumentType::Boolean,
        };
        converted.push(ArgumentDoc { name: name.clone(), kind });
    }
    converted
}
