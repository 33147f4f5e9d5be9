//! What a tenant's Kubernetes objects and the injection of its pods are made of, checked.
//!
//! Names, selectors, ports, images and durations leave this module in forms that nobody has to check
//! again, sorted, so that what is made of them does not depend on the order in which they were written.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU8;
use std::time::Duration;

use clawlock_crds::bounds::{
    MAX_CERTIFICATE_SECONDS, MAX_EXEMPTIONS, MAX_IMAGE, MAX_IMAGES, MAX_INGRESS, MAX_PEERS, MAX_PLUGIN_OPTIONAL,
    MAX_PORTS, MAX_REPLICAS, MAX_SERVICE_ACCOUNTS, MIN_CERTIFICATE_SECONDS,
};
use clawlock_crds::{
    AgentSelector, Agents, ApiAccess, Exemption, Identity, Ingress, IngressPeer, IngressPort, Onboarding,
    PluginOptional, ServiceAccountImages,
};

use crate::duration;
use crate::objects::names;
use crate::problem::Report;
use crate::selector;
use crate::text::{Limits, is_dns_label, is_dns_subdomain, is_image, parse_set, quoted, refuse_empty};

/// What a tenant's Kubernetes objects are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pods of the gateway.
    pub replicas: NonZeroU8,
    /// What becomes of pods that were there before the tenant.
    pub onboarding: Onboarding,
    /// What holds for the pods in the agents' namespaces.
    pub agents: AgentSettings,
    /// How long a certificate lives.
    pub certificate_ttl: Duration,
}

/// What holds for the pods in the agents' namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentSettings {
    /// Pods without a sidecar and without a network, by name.
    pub exemptions: Vec<Exemption>,
    /// Agents that need no guard plugin, by name.
    pub plugin_optional: Vec<PluginOptional>,
    /// Who may connect to agents, by name.
    pub ingress: Vec<Ingress>,
    /// The images that a ServiceAccount may run, by its name. One that is not here runs any.
    pub images: BTreeMap<String, BTreeSet<String>>,
    /// ServiceAccounts whose pods keep their API token.
    pub api_access: BTreeSet<String>,
}

/// Checks the settings of a tenant. They hold only if the report has no error afterwards.
pub(crate) fn check(
    report: &mut Report,
    replicas: NonZeroU8,
    onboarding: Onboarding,
    agents: Option<&Agents>,
    identity: Option<&Identity>,
) -> Settings {
    if replicas.get() > MAX_REPLICAS {
        report.error("spec.replicas", format!("{replicas} replicas; at most {MAX_REPLICAS} are allowed"));
    }
    let agents = agents.map(|agents| check_agents(report, agents)).unwrap_or_default();
    let certificate_ttl = match identity {
        None => Duration::from_secs(MAX_CERTIFICATE_SECONDS),
        Some(Identity { certificate_ttl }) => check_ttl(report, certificate_ttl),
    };
    Settings { replicas, onboarding, agents, certificate_ttl }
}

fn check_ttl(report: &mut Report, text: &str) -> Duration {
    let (min, max) = (Duration::from_secs(MIN_CERTIFICATE_SECONDS), Duration::from_secs(MAX_CERTIFICATE_SECONDS));
    let reason = match duration::parse(text) {
        Some(ttl) if (min..=max).contains(&ttl) => return ttl,
        Some(_) => "is out of bounds: a certificate lives for 60s to 24h",
        None => "is no duration; write one such as 12h or 1h30m",
    };
    report.error("spec.identity.certificateTTL", format!("{} {reason}", quoted(text)));
    max
}

fn check_agents(report: &mut Report, agents: &Agents) -> AgentSettings {
    let Agents { exemptions, plugin_optional, ingress, service_accounts, api_access } = agents;
    let exemptions = check_exemptions(report, exemptions);
    let plugin_optional = check_plugin_optional(report, plugin_optional);
    let ingress = check_ingress(report, ingress);
    let images = check_images(report, service_accounts);
    let path = "spec.agents.apiAccess";
    let names = api_access.iter().map(|ApiAccess { service_account }| service_account.as_str());
    let form = Form { key: "serviceAccount", valid: is_dns_subdomain, wanted: ACCOUNT, max: MAX_SERVICE_ACCOUNTS };
    let api_access = check_names(report, path, names, form).into_iter().map(str::to_owned).collect();
    AgentSettings { exemptions, plugin_optional, ingress, images, api_access }
}

/// What the names of a list look like.
#[derive(Clone, Copy)]
struct Form {
    key: &'static str,
    valid: fn(&str) -> bool,
    wanted: &'static str,
    max: usize,
}

const ACCOUNT: &str = "no name of a ServiceAccount; write one such as billing-agent";
const LABEL: &str = "no valid name; write a DNS label such as web";

/// Checks the names of a list: bounded, of their form, each there once. Too long a list has none.
fn check_names<'a>(
    report: &mut Report,
    path: &str,
    names: impl ExactSizeIterator<Item = &'a str>,
    form: Form,
) -> BTreeSet<&'a str> {
    let Form { key, valid, wanted, max } = form;
    let mut seen = BTreeSet::new();
    if names.len() > max {
        report.error(path, format!("{} entries; at most {max} are allowed", names.len()));
        return seen;
    }
    for (index, name) in names.enumerate() {
        let at = format!("{path}[{index}].{key}");
        if !valid(name) {
            report.error(at, format!("{}: {wanted}", quoted(name)));
        } else if !seen.insert(name) {
            report.error(at, format!("{} stands here twice; remove or rename one", quoted(name)));
        }
    }
    seen
}

fn check_exemptions(report: &mut Report, exemptions: &[Exemption]) -> Vec<Exemption> {
    let path = "spec.agents.exemptions";
    let names = exemptions.iter().map(|exemption| exemption.name.as_str());
    let form = Form { key: "name", valid: is_dns_label, wanted: LABEL, max: MAX_EXEMPTIONS };
    if check_names(report, path, names, form).is_empty() {
        return Vec::new();
    }
    for (index, Exemption { name: _, pod_selector }) in exemptions.iter().enumerate() {
        let path = format!("{path}[{index}].podSelector");
        check_some_pods(
            report,
            &path,
            pod_selector,
            "this exempts every pod of the tenant; select the pods by a label",
        );
    }
    let mut sorted = exemptions.to_vec();
    sorted.sort_by(|one, two| one.name.cmp(&two.name));
    sorted
}

fn check_plugin_optional(report: &mut Report, entries: &[PluginOptional]) -> Vec<PluginOptional> {
    let path = "spec.agents.pluginOptional";
    let names = entries.iter().map(|entry| entry.name.as_str());
    let form = Form { key: "name", valid: is_dns_label, wanted: LABEL, max: MAX_PLUGIN_OPTIONAL };
    if check_names(report, path, names, form).is_empty() {
        return Vec::new();
    }
    for (index, PluginOptional { name: _, pod_selector }) in entries.iter().enumerate() {
        let path = format!("{path}[{index}].podSelector");
        check_some_pods(report, &path, pod_selector, "so no agent of the tenant needs the plugin; select by a label");
    }
    let mut sorted = entries.to_vec();
    sorted.sort_by(|one, two| one.name.cmp(&two.name));
    sorted
}

/// Checks a selector that loosens something for the pods that it selects: it must not select all of them, and not
/// by labels that only injection writes.
fn check_some_pods(report: &mut Report, path: &str, selector: &AgentSelector, all: &str) {
    let AgentSelector { match_labels, match_expressions } = selector;
    if match_labels.is_empty() && match_expressions.is_empty() {
        report.error(path, all);
    }
    let mut keys = match_labels.keys().chain(match_expressions.iter().map(|requirement| &requirement.key));
    if let Some(key) = keys.find(|key| key.starts_with(names::GROUP_PREFIX)) {
        report.error(path, format!("{} is written by injection; select by a label of your own", quoted(key)));
    }
    selector::check(report, path, selector);
}

fn check_ingress(report: &mut Report, ingress: &[Ingress]) -> Vec<Ingress> {
    let path = "spec.agents.ingress";
    let names = ingress.iter().map(|ingress| ingress.name.as_str());
    let form = Form { key: "name", valid: is_dns_label, wanted: LABEL, max: MAX_INGRESS };
    if check_names(report, path, names, form).is_empty() {
        return Vec::new();
    }
    for (index, Ingress { name: _, from, ports }) in ingress.iter().enumerate() {
        check_peers(report, &format!("{path}[{index}].from"), from);
        check_ports(report, &format!("{path}[{index}].ports"), ports);
    }
    let mut sorted = ingress.to_vec();
    sorted.sort_by(|one, two| one.name.cmp(&two.name));
    sorted
}

/// In a NetworkPolicy an empty list of peers means everybody, and one of ports every port.
fn check_peers(report: &mut Report, path: &str, from: &[IngressPeer]) {
    if from.is_empty() || from.len() > MAX_PEERS {
        report.error(path, format!("{} peers; write 1 to {MAX_PEERS}, each a selector", from.len()));
        return;
    }
    for (index, IngressPeer { namespace_selector, pod_selector }) in from.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if namespace_selector.is_none() && pod_selector.is_none() {
            report.error(&*path, "nobody is selected; set namespaceSelector, podSelector or both");
        }
        for (field, selector) in [("namespaceSelector", namespace_selector), ("podSelector", pod_selector)] {
            if let Some(selector) = selector {
                selector::check(report, &format!("{path}.{field}"), selector);
            }
        }
    }
}

fn check_ports(report: &mut Report, path: &str, ports: &[IngressPort]) {
    if ports.is_empty() || ports.len() > MAX_PORTS {
        report.error(path, format!("{} ports; write 1 to {MAX_PORTS}", ports.len()));
        return;
    }
    for (index, port) in ports.iter().enumerate() {
        if ports.iter().take(index).any(|other| other == port) {
            report.error(format!("{path}[{index}]"), "this port stands here twice; remove one");
        }
    }
}

fn check_images(report: &mut Report, accounts: &[ServiceAccountImages]) -> BTreeMap<String, BTreeSet<String>> {
    let path = "spec.agents.serviceAccounts";
    let names = accounts.iter().map(|account| account.name.as_str());
    let form = Form { key: "name", valid: is_dns_subdomain, wanted: ACCOUNT, max: MAX_SERVICE_ACCOUNTS };
    if check_names(report, path, names, form).is_empty() {
        return BTreeMap::new();
    }
    let mut found = BTreeMap::new();
    for (index, ServiceAccountImages { name, images }) in accounts.iter().enumerate() {
        let path = format!("{path}[{index}].images");
        refuse_empty(report, &path, images, "name at least one image, or remove the entry");
        parse_set(report, &path, images, Limits { items: MAX_IMAGES, length: MAX_IMAGE }, |text| {
            if is_image(text) {
                Ok(())
            } else {
                Err("no reference of an image; write one such as registry.example/billing@sha256:…")
            }
        });
        for (index, image) in images.iter().enumerate().filter(|(_, image)| !image.contains('@')) {
            report.warning(
                format!("{path}[{index}]"),
                format!("whoever writes the registry can move {}; name the image by its digest", quoted(image)),
            );
        }
        found.insert(name.clone(), images.iter().cloned().collect());
    }
    found
}
