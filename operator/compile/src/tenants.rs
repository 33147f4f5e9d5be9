//! Tenants and upstreams beside each other: what only one of them may claim.
//!
//! A claim of two objects is a mistake of both, so that the answer does not depend on which one was
//! read first; an invalid object keeps its claims, so that its mistake frees nothing.

use std::collections::{BTreeMap, BTreeSet};

use clawlock_crds::{TenantGateway, Upstream};
use clawlock_policy::document::{TenantDoc, UpstreamDoc};
use clawlock_policy::pattern::HostPattern;

use crate::gateway;
use crate::problem::{ObjectRef, Problem};
use crate::references::Known;
use crate::settings::Settings;
use crate::text::quoted;
use crate::upstream::{self, ConfigMaps};

/// The upstreams of one platform namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Upstreams {
    /// Those that hold, by name.
    pub(crate) valid: BTreeMap<String, UpstreamDoc>,
    /// Names of those that do not.
    pub(crate) invalid: BTreeSet<String>,
}

impl Upstreams {
    /// What is known beside the objects of a tenant.
    pub(crate) fn known<'a>(&'a self, tenant: Option<&'a str>) -> Known<'a> {
        Known {
            tenant,
            valid: self.valid.values().collect(),
            invalid: self.invalid.iter().map(String::as_str).collect(),
        }
    }
}

/// Judges all upstreams, by platform namespace.
pub(crate) fn judge_upstreams(
    upstreams: &[Upstream],
    config_maps: &ConfigMaps<'_>,
    platform_namespaces: &BTreeSet<&str>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Upstreams> {
    let mut by_namespace: BTreeMap<String, Vec<(&Upstream, upstream::Checked)>> = BTreeMap::new();
    for upstream in upstreams {
        let checked = upstream::check(upstream, config_maps);
        by_namespace.entry(checked.report.object().namespace.clone()).or_default().push((upstream, checked));
    }
    let mut judged = BTreeMap::new();
    for (namespace, mut group) in by_namespace {
        refuse_duplicates(&mut group);
        refuse_overlaps(&mut group);
        let mut result = Upstreams::default();
        for (_, mut checked) in group {
            if !platform_namespaces.contains(namespace.as_str()) {
                checked.report.warning(
                    "metadata.namespace",
                    "there is no TenantGateway in this namespace, so that nobody can use the Upstream; move it",
                );
            }
            let name = checked.report.object().name.clone();
            match checked.document {
                Some(document) if !checked.report.is_invalid() => {
                    result.valid.insert(name, document);
                }
                _ => {
                    result.invalid.insert(name);
                }
            }
            problems.extend(checked.report.into_problems());
        }
        judged.insert(namespace, result);
    }
    judged
}

fn refuse_duplicates(group: &mut [(&Upstream, upstream::Checked)]) {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for (_, checked) in group.iter() {
        *count.entry(checked.report.object().name.clone()).or_default() += 1;
    }
    for (_, checked) in group {
        if count.get(&checked.report.object().name).is_some_and(|count| *count > 1) {
            checked.report.error("metadata.name", "two Upstreams of this namespace have this name; rename one");
        }
    }
}

/// A request must belong to one upstream: its credential, its rules and its addresses depend on it.
fn refuse_overlaps(group: &mut [(&Upstream, upstream::Checked)]) {
    let mut overlaps: Vec<(usize, HostPattern, ObjectRef)> = Vec::new();
    let mut exact: BTreeMap<(u16, bool, &str), Vec<usize>> = BTreeMap::new();
    let mut patterns: Vec<(u16, bool, &HostPattern, usize)> = Vec::new();
    for (index, (upstream, checked)) in group.iter().enumerate() {
        let port = upstream.spec.port.get();
        let https = upstream.spec.scheme == clawlock_crds::Scheme::Https;
        for host in &checked.hosts {
            if host.is_exact() {
                exact.entry((port, https, host.as_str())).or_default().push(index);
            } else {
                patterns.push((port, https, host, index));
            }
        }
    }
    let object = |index: usize| group.get(index).map(|(_, checked)| checked.report.object().clone());
    let mut claim = |one: usize, host: &HostPattern, other: usize| {
        if one != other
            && let Some(object) = object(other)
        {
            overlaps.push((one, host.clone(), object));
        }
    };
    for (index, (upstream, checked)) in group.iter().enumerate() {
        let port = upstream.spec.port.get();
        let https = upstream.spec.scheme == clawlock_crds::Scheme::Https;
        for host in &checked.hosts {
            for &other in exact.get(&(port, https, host.as_str())).into_iter().flatten() {
                claim(index, host, other);
            }
            for &(_, _, pattern, other) in patterns.iter().filter(|entry| entry.0 == port && entry.1 == https) {
                if pattern.overlaps(host) {
                    claim(index, host, other);
                    claim(other, pattern, index);
                }
            }
        }
    }
    for (index, host, other) in overlaps {
        if let Some((upstream, checked)) = group.get_mut(index) {
            let at = upstream.spec.hosts.iter().position(|text| text.eq_ignore_ascii_case(host.as_str()));
            checked.report.error(
                format!("spec.hosts[{}]", at.unwrap_or_default()),
                format!(
                    "{} on this scheme and port is also declared by {other}, and a request must belong to one \
                     Upstream; remove it from one of them",
                    quoted(host.as_str())
                ),
            );
        }
    }
}

/// A tenant that was judged beside the others.
pub(crate) struct Judged<'a> {
    pub(crate) gateway: &'a TenantGateway,
    pub(crate) object: ObjectRef,
    /// Its document, or the first of its mistakes.
    pub(crate) document: Result<TenantDoc, Problem>,
    /// What its objects are made of; holds only beside a document.
    pub(crate) settings: Settings,
}

/// Judges all tenants.
pub(crate) fn judge_gateways<'a>(
    gateways: &'a [TenantGateway],
    upstreams: &BTreeMap<String, Upstreams>,
    problems: &mut Vec<Problem>,
) -> Vec<Judged<'a>> {
    let claims = Claims::of(gateways);
    let none = Upstreams::default();
    let mut judged = Vec::new();
    for gateway in gateways {
        let namespace = gateway.metadata.namespace.as_deref().unwrap_or_default();
        let known = upstreams.get(namespace).unwrap_or(&none).known(gateway.metadata.name.as_deref());
        let gateway::Checked { mut report, document, settings } = gateway::check(gateway, &known);
        claims.check(gateway, &mut report);
        let object = report.object().clone();
        let document = match report.first_error() {
            Some(problem) => Err(problem.clone()),
            None => Ok(document),
        };
        problems.extend(report.into_problems());
        judged.push(Judged { gateway, object, document, settings });
    }
    judged
}

/// How often each thing is claimed that only one tenant may have.
#[derive(Default)]
struct Claims<'a> {
    names: BTreeMap<&'a str, usize>,
    trust_domains: BTreeMap<&'a str, usize>,
    platform: BTreeMap<&'a str, usize>,
    agents: BTreeMap<&'a str, usize>,
}

impl<'a> Claims<'a> {
    fn of(gateways: &'a [TenantGateway]) -> Self {
        let mut claims = Self::default();
        for gateway in gateways {
            *claims.names.entry(gateway.metadata.name.as_deref().unwrap_or_default()).or_default() += 1;
            *claims.platform.entry(gateway.metadata.namespace.as_deref().unwrap_or_default()).or_default() += 1;
            *claims.trust_domains.entry(&gateway.spec.trust_domain).or_default() += 1;
            // Twice in one list is that list's mistake, not a second claim.
            for namespace in gateway.spec.namespaces.iter().collect::<BTreeSet<_>>() {
                *claims.agents.entry(namespace).or_default() += 1;
            }
        }
        claims
    }

    fn check(&self, gateway: &TenantGateway, report: &mut crate::problem::Report) {
        let twice = |map: &BTreeMap<&str, usize>, key: &str| map.get(key).is_some_and(|count| *count > 1);
        let object = report.object().clone();
        if twice(&self.names, &object.name) {
            report.error("metadata.name", "two TenantGateways have this name, which is the tenant's; rename one");
        }
        if twice(&self.platform, &object.namespace) {
            report.error(
                "metadata.namespace",
                "two TenantGateways are in this namespace, so that its Upstreams belong to neither; move one",
            );
        }
        if twice(&self.trust_domains, &gateway.spec.trust_domain) {
            report.error("spec.trustDomain", "two TenantGateways have this trust domain; give each tenant its own");
        }
        for (index, namespace) in gateway.spec.namespaces.iter().enumerate() {
            let at = format!("spec.namespaces[{index}]");
            if twice(&self.agents, namespace) {
                report.error(
                    at,
                    format!("{} is listed by two TenantGateways; a namespace belongs to one tenant", quoted(namespace)),
                );
            } else if *namespace != object.namespace && self.platform.contains_key(namespace.as_str()) {
                report.error(
                    at,
                    format!("{} is the platform namespace of a tenant; agents run elsewhere", quoted(namespace)),
                );
            }
        }
    }
}
