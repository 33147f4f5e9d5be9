//! What is in force when objects are wrong: the last good version of each.
//!
//! An invalid edit never removes enforcement, one that never was good denies, and halts never wait. The
//! last good versions are those of the stored lists, so that they survive whatever restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use clawlock_crds::{AgentHalt, AgentPolicy, TenantGateway, Upstream};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::MAX_OBJECT;
use crate::problem::{self, Kind, ObjectRef, Problem, Severity, Topic};
use crate::{Compilation, Compiler, ConfigMaps, Resources, Unreadable, check_gateway, check_policy, check_upstream};

/// What resources came to.
#[derive(Clone, Debug)]
pub struct Settled {
    /// What is in force.
    pub resources: Resources,
    /// Compiled.
    pub compilation: Compilation,
    /// What is wrong with the resources as they were given.
    pub problems: Vec<Problem>,
    /// Objects that stay in force in their last good version.
    pub kept: Vec<ObjectRef>,
}

/// Decides what is in force: `current`, but for objects that are wrong, of which the version in `good`
/// stays. Objects that are no longer there are not brought back, but for the certificate authorities of an
/// upstream that stays.
#[must_use]
pub fn settle(current: &Resources, good: &Resources) -> Settled {
    settle_with(&mut Compiler::default(), current, good)
}

/// The same with a compiler that remembers.
#[must_use]
pub fn settle_with(compiler: &mut Compiler, current: &Resources, good: &Resources) -> Settled {
    let compilation = compiler.compile(current);
    let mut problems = compilation.problems.clone();
    let oversize = oversize(current, compiler);
    problems.extend(oversize.iter().cloned());
    problem::sort(&mut problems);
    let broken: BTreeSet<ObjectRef> = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .map(|problem| problem.object.clone())
        .collect();
    if broken.is_empty() {
        return Settled { resources: current.clone(), compilation, problems, kept: Vec::new() };
    }
    let restorer = Restorer {
        good: Good::of(good, &broken),
        broken: &broken,
        oversize: &oversize.into_iter().map(|problem| (problem.object, problem.message)).collect(),
        result: Resources::default(),
        kept: Vec::new(),
    };
    let (resources, mut kept) = restorer.restore(current);
    kept.sort();
    Settled { compilation: compiler.compile(&resources), resources, problems, kept }
}

/// Objects that do not fit where state is stored. Lists within their bounds can add up to more.
fn oversize(current: &Resources, compiler: &Compiler) -> Vec<Problem> {
    let Resources { gateways, upstreams, policies, halts: _, config_maps: _, unreadable: _ } = current;
    let gateways = gateways.iter().map(|object| (Kind::TenantGateway, &object.metadata, size(&object.spec)));
    let upstreams = upstreams.iter().map(|object| (Kind::Upstream, &object.metadata, size(&object.spec)));
    let policies = policies.iter().map(|object| {
        // What was judged before need not be written again.
        let known = compiler.size(&ObjectRef::new(Kind::AgentPolicy, &object.metadata));
        (Kind::AgentPolicy, &object.metadata, known.unwrap_or_else(|| size(&object.spec)))
    });
    gateways
        .chain(upstreams)
        .chain(policies)
        .filter(|(_, _, size)| *size > MAX_SPEC)
        .map(|(kind, metadata, size)| Problem {
            object: ObjectRef::new(kind, metadata),
            path: "spec".to_owned(),
            message: format!("{size} bytes; at most {MAX_SPEC} can be kept, so split it"),
            severity: Severity::Error,
            topic: Topic::Content,
        })
        .collect()
}

/// Most bytes of a spec: an object less its names.
const MAX_SPEC: usize = MAX_OBJECT - 1024;

/// Bytes of a spec as it is stored.
pub(crate) fn size(spec: &impl Serialize) -> usize {
    let mut counter = Counter(0);
    // A spec that cannot be written is as good as too large.
    serde_json::to_writer(&mut counter, spec).map_or(usize::MAX, |()| counter.0)
}

/// Counts what is written to it.
struct Counter(usize);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The last good versions, by kind, namespace and name.
struct Good<'a> {
    gateways: BTreeMap<ObjectRef, &'a TenantGateway>,
    upstreams: BTreeMap<ObjectRef, &'a Upstream>,
    policies: BTreeMap<ObjectRef, &'a Arc<AgentPolicy>>,
    halts: BTreeMap<ObjectRef, &'a AgentHalt>,
    config_maps: &'a [ConfigMap],
}

impl<'a> Good<'a> {
    /// What was in force and by itself holds. A stored policy may also be one that stopped its agents
    /// because it was wrong.
    fn of(resources: &'a Resources, wanted: &BTreeSet<ObjectRef>) -> Self {
        let Resources { gateways, upstreams, policies, halts, config_maps, unreadable: _ } = resources;
        let authorities = ConfigMaps::new(config_maps);
        Self {
            gateways: index(
                gateways,
                |one| reference(Kind::TenantGateway, &one.metadata),
                wanted,
                |one| check_gateway(one).is_ok(),
            ),
            upstreams: index(
                upstreams,
                |one| reference(Kind::Upstream, &one.metadata),
                wanted,
                |one| check_upstream(one, &authorities).is_ok(),
            ),
            policies: index(
                policies,
                |one| reference(Kind::AgentPolicy, &one.metadata),
                wanted,
                |one| check_policy(one).is_ok(),
            ),
            halts: index(halts, |one| reference(Kind::AgentHalt, &one.metadata), wanted, |_| true),
            config_maps,
        }
    }

    /// A certificate authority that an upstream names.
    fn authority(&self, namespace: &str, name: &str, key: &str) -> Option<&'a str> {
        let is_named = |map: &&ConfigMap| {
            map.metadata.namespace.as_deref() == Some(namespace) && map.metadata.name.as_deref() == Some(name)
        };
        self.config_maps.iter().find(is_named)?.data.as_ref()?.get(key).map(String::as_str)
    }
}

fn reference(kind: Kind, metadata: &ObjectMeta) -> ObjectRef {
    ObjectRef::new(kind, metadata)
}

fn index<'a, T>(
    objects: &'a [T],
    reference: impl Fn(&T) -> ObjectRef,
    wanted: &BTreeSet<ObjectRef>,
    holds: impl Fn(&T) -> bool,
) -> BTreeMap<ObjectRef, &'a T> {
    let objects = objects.iter().map(|object| (reference(object), object));
    objects.filter(|(reference, object)| wanted.contains(reference) && holds(object)).collect()
}

/// Puts the last good version in the place of what is broken.
struct Restorer<'a> {
    good: Good<'a>,
    broken: &'a BTreeSet<ObjectRef>,
    /// Those of them that do not fit where state is stored.
    oversize: &'a BTreeMap<ObjectRef, String>,
    result: Resources,
    kept: Vec<ObjectRef>,
}

impl Restorer<'_> {
    fn restore(mut self, current: &Resources) -> (Resources, Vec<ObjectRef>) {
        let Resources { gateways, upstreams, policies, halts, config_maps, unreadable } = current;
        self.result.config_maps.clone_from(config_maps);
        self.result.halts.clone_from(halts);
        for gateway in gateways {
            let reference = reference(Kind::TenantGateway, &gateway.metadata);
            if self.broken.contains(&reference) {
                // One that never was good is not there, so that its claims do not break what is good.
                self.keep(&reference);
            } else {
                self.result.gateways.push(gateway.clone());
            }
        }
        for upstream in upstreams {
            let reference = reference(Kind::Upstream, &upstream.metadata);
            if self.broken.contains(&reference) {
                self.keep(&reference);
            } else {
                self.result.upstreams.push(upstream.clone());
            }
        }
        for policy in policies {
            let reference = reference(Kind::AgentPolicy, &policy.metadata);
            if !self.broken.contains(&reference) {
                self.result.policies.push(policy.clone());
            } else if !self.keep(&reference) {
                self.stop(policy, reference);
            }
        }
        for object in unreadable {
            if !self.keep(&object.object) && matches!(object.object.kind, Kind::AgentPolicy | Kind::AgentHalt) {
                self.result.unreadable.push(object.clone());
            }
        }
        (self.result, self.kept)
    }

    /// A policy that never was good stays, since it stops its agents.
    fn stop(&mut self, policy: &Arc<AgentPolicy>, reference: ObjectRef) {
        match self.oversize.get(&reference) {
            None => self.result.policies.push(policy.clone()),
            Some(message) => {
                let selector = Some(policy.spec.agent_selector.clone());
                self.result.unreadable.push(Unreadable { object: reference, message: message.clone(), selector });
            }
        }
    }

    /// Takes the last good version of an object, if there is one.
    fn keep(&mut self, reference: &ObjectRef) -> bool {
        let Good { gateways, upstreams, policies, halts, config_maps: _ } = &self.good;
        let result = &mut self.result;
        let found = match reference.kind {
            Kind::TenantGateway => gateways.get(reference).map(|good| result.gateways.push((*good).clone())),
            Kind::AgentPolicy => policies.get(reference).map(|good| result.policies.push((*good).clone())),
            Kind::AgentHalt => halts.get(reference).map(|good| result.halts.push((*good).clone())),
            Kind::Upstream => upstreams.get(reference).map(|good| result.upstreams.push((*good).clone())),
        };
        if found.is_none() {
            return false;
        }
        if reference.kind == Kind::Upstream {
            self.keep_authority(reference);
        }
        self.kept.push(reference.clone());
        true
    }

    /// An upstream that stays keeps the certificate authority that it had, also where others name the same
    /// key of the same ConfigMap.
    fn keep_authority(&mut self, reference: &ObjectRef) {
        let Some(tls) = self.good.upstreams.get(reference).and_then(|upstream| upstream.spec.tls.as_ref()) else {
            return;
        };
        let (namespace, name, key) = (&reference.namespace, &tls.ca_ref.name, &tls.ca_ref.key);
        let Some(text) = self.good.authority(namespace, name, key) else { return };
        let is_named = |map: &&mut ConfigMap| {
            map.metadata.namespace.as_ref() == Some(namespace) && map.metadata.name.as_ref() == Some(name)
        };
        if let Some(map) = self.result.config_maps.iter_mut().find(is_named) {
            map.data.get_or_insert_default().insert(key.clone(), text.to_owned());
            return;
        }
        let metadata =
            ObjectMeta { namespace: Some(namespace.clone()), name: Some(name.clone()), ..ObjectMeta::default() };
        let data = Some(BTreeMap::from([(key.clone(), text.to_owned())]));
        self.result.config_maps.push(ConfigMap { metadata, data, ..ConfigMap::default() });
    }
}
