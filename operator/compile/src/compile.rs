//! All resources together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clawlock_crds::{AgentHalt, AgentPolicy};
use clawlock_policy::document::{Document, HaltDoc, Mode};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::assign::{Compilation, Stored, Tenant};
use crate::compiler::{Beside, Compiler, Judgement};
use crate::manifests::Manifests;
use crate::problem::{self, Kind, ObjectRef, Problem, Report};
use crate::selection::{Selected, Selection};
use crate::selector::Scope;
use crate::tenants::{self, Judged, Upstreams};
use crate::text::is_dns_label;
use crate::upstream::ConfigMaps;
use crate::{Resources, Unreadable, halt};

/// Compiles resources. It never fails as a whole: each object that is wrong has a [`Problem`], and what
/// depends on it denies.
#[must_use]
pub fn compile(resources: &Resources) -> Compilation {
    Compiler::default().compile(resources)
}

/// Compiles resources with what a compiler remembers.
pub(crate) fn compile_with(compiler: &mut Compiler, resources: &Resources) -> Compilation {
    let Resources { gateways, upstreams, policies, halts, config_maps: maps, unreadable } = resources;
    let config_maps = ConfigMaps::new(maps);
    let platform: BTreeSet<&str> =
        gateways.iter().filter_map(|gateway| gateway.metadata.namespace.as_deref()).collect();
    let mut problems = Vec::new();
    let upstreams = tenants::judge_upstreams(upstreams, &config_maps, &platform, &mut problems);
    let judged = tenants::judge_gateways(gateways, &upstreams, &mut problems);
    let mut world = World::new(judged, upstreams);
    world.add_policies(compiler, policies, &mut problems);
    world.add_halts(halts, &mut problems);
    world.add_unreadable(unreadable, &mut problems);
    world.add_manifests(maps);
    problem::sort(&mut problems);
    world.finish(problems)
}

/// The tenants while policies and halts are added to them.
struct World {
    tenants: BTreeMap<String, Tenant>,
    /// Tenant of each agents' namespace.
    owners: BTreeMap<String, String>,
    /// Tenant of each platform namespace.
    platforms: BTreeMap<String, String>,
    invalid: BTreeMap<String, Problem>,
    upstreams: BTreeMap<String, Upstreams>,
    audited: BTreeSet<String>,
    /// What selects some of the pods of an agents' namespace.
    selected: BTreeMap<String, Vec<Selected>>,
}

impl World {
    fn new(judged: Vec<Judged<'_>>, upstreams: BTreeMap<String, Upstreams>) -> Self {
        let mut world = Self {
            tenants: BTreeMap::new(),
            owners: BTreeMap::new(),
            platforms: BTreeMap::new(),
            invalid: BTreeMap::new(),
            upstreams,
            audited: BTreeSet::new(),
            selected: BTreeMap::new(),
        };
        for Judged { gateway, object, document, settings } in judged {
            let namespaces: BTreeSet<String> = gateway.spec.namespaces.iter().cloned().collect();
            let document = match document {
                Ok(document) => document,
                Err(problem) => {
                    world.add_invalid(namespaces, &problem);
                    continue;
                }
            };
            let ObjectRef { kind: _, namespace, name } = object;
            for agents in &namespaces {
                world.owners.insert(agents.clone(), name.clone());
            }
            if document.allowed_modes.contains(&Mode::Audit) {
                world.audited.insert(name.clone());
            }
            let mut shared = vec![Stored::new(Document::Tenant(document))];
            if let Some(upstreams) = world.upstreams.get(&namespace) {
                shared.extend(upstreams.valid.values().cloned().map(Document::Upstream).map(Stored::new));
            }
            world.platforms.insert(namespace.clone(), name.clone());
            let tenant = Tenant {
                name: name.clone(),
                platform_namespace: namespace,
                trust_domain: gateway.spec.trust_domain.clone(),
                namespaces,
                settings,
                shared,
                selected: BTreeMap::new(),
                manifests: Manifests::default(),
            };
            world.tenants.insert(name, tenant);
        }
        world
    }

    /// Which of two invalid tenants of one namespace is named must not depend on their order.
    fn add_invalid(&mut self, namespaces: BTreeSet<String>, problem: &Problem) {
        let key = |problem: &Problem| (problem.object.clone(), problem.path.clone(), problem.message.clone());
        for namespace in namespaces {
            let known = self.invalid.entry(namespace).or_insert_with(|| problem.clone());
            if key(problem) < key(known) {
                *known = problem.clone();
            }
        }
    }

    fn add_policies(&mut self, compiler: &mut Compiler, policies: &[Arc<AgentPolicy>], problems: &mut Vec<Problem>) {
        let count = count_names(policies.iter().map(|policy| &policy.metadata));
        let mut beside = BTreeMap::new();
        for policy in policies {
            let namespace = policy.metadata.namespace.clone().unwrap_or_default();
            let known = beside.entry(namespace.clone());
            let known = known.or_insert_with_key(|namespace| compiler.beside(namespace, self.beside(namespace)));
            let judgement = compiler.judge(policy, known);
            let twice = is_twice(&count, &policy.metadata);
            problems.extend(self.add_policy(namespace, &judgement, twice).into_problems());
        }
        compiler.retain(|namespace| beside.contains_key(namespace));
    }

    /// What is known beside the policies of a namespace.
    fn beside(&self, namespace: &str) -> Beside {
        let tenant = self.owners.get(namespace).and_then(|owner| self.tenants.get(owner));
        let upstreams = tenant.and_then(|tenant| self.upstreams.get(&tenant.platform_namespace));
        Beside { tenant: tenant.map(|tenant| tenant.name.clone()), upstreams: upstreams.cloned().unwrap_or_default() }
    }

    fn add_policy(&mut self, namespace: String, judgement: &Judgement, twice: bool) -> Report {
        let Judgement { report, scope, mode, stored, size: _ } = judgement;
        let mut report = report.clone();
        if twice {
            report.error("metadata.name", "two AgentPolicies of this namespace have this name; rename one");
        }
        let Some(tenant) = self.owners.get(&namespace).and_then(|owner| self.tenants.get(owner)) else {
            if is_dns_label(&namespace) && !self.invalid.contains_key(&namespace) {
                report.warning(
                    "metadata.namespace",
                    "no TenantGateway lists this namespace, so that the policy holds for nobody; move it, or ask the \
                     platform team to list the namespace",
                );
            }
            return report;
        };
        if *mode == Mode::Audit && !self.audited.contains(&tenant.name) {
            report.warning(
                "spec.mode",
                format!("tenant {} does not allow mode Audit, so that the policy is enforced", tenant.name),
            );
        }
        let stored = match report.first_error() {
            Some(problem) => Stored::new(Document::Halt(stop(problem, report.error_count()))),
            None => stored.clone(),
        };
        let selected = Selected { scope: scope.clone(), stored, origin: report.object().clone() };
        self.selected.entry(namespace).or_default().push(selected);
        report
    }

    fn add_halts(&mut self, halts: &[AgentHalt], problems: &mut Vec<Problem>) {
        let count = count_names(halts.iter().map(|halt| &halt.metadata));
        for halt in halts {
            let halt::Checked { mut report, document, scope } = halt::check(halt);
            if is_twice(&count, &halt.metadata) {
                report.error("metadata.name", "two AgentHalts of this namespace have this name; rename one");
            }
            let namespace = halt.metadata.namespace.clone().unwrap_or_default();
            self.add_halt(&mut report, &namespace, document, &scope);
            problems.extend(report.into_problems());
        }
    }

    fn add_halt(&mut self, report: &mut Report, namespace: &str, document: HaltDoc, scope: &Scope) {
        let everywhere = self.platforms.get(namespace);
        let owner = everywhere.or_else(|| self.owners.get(namespace));
        let Some(tenant) = owner.and_then(|owner| self.tenants.get(owner)) else {
            if is_dns_label(namespace) && !self.invalid.contains_key(namespace) {
                report.warning(
                    "metadata.namespace",
                    "this is neither an agents' namespace nor the platform namespace of a tenant, so that the halt \
                     stops nobody; move it",
                );
            }
            return;
        };
        let namespaces: Vec<String> = match everywhere {
            Some(_) => tenant.namespaces.iter().cloned().collect(),
            None => vec![namespace.to_owned()],
        };
        let selected = Selected {
            scope: scope.clone(),
            stored: Stored::new(Document::Halt(document)),
            origin: report.object().clone(),
        };
        for namespace in namespaces {
            self.selected.entry(namespace).or_default().push(selected.clone());
        }
    }

    fn add_unreadable(&mut self, unreadable: &[Unreadable], problems: &mut Vec<Problem>) {
        for object in unreadable {
            problems.push(object.problem());
            if matches!(object.object.kind, Kind::AgentPolicy | Kind::AgentHalt) {
                let mut report = Report::new(object.object.clone());
                let (document, scope) = object.stop();
                self.add_halt(&mut report, &object.object.namespace, document, &scope);
                problems.extend(report.into_problems());
            }
        }
    }

    fn add_manifests(&mut self, maps: &[ConfigMap]) {
        for tenant in self.tenants.values_mut() {
            let own = |map: &&ConfigMap| {
                map.metadata.namespace.as_deref().is_some_and(|namespace| tenant.namespaces.contains(namespace))
            };
            tenant.manifests = Manifests::of(maps.iter().filter(own));
        }
    }

    fn finish(self, problems: Vec<Problem>) -> Compilation {
        let Self { mut tenants, owners, platforms: _, invalid, upstreams: _, audited: _, selected } = self;
        for (namespace, selected) in selected {
            let tenant = owners.get(&namespace).and_then(|owner| tenants.get_mut(owner));
            if let Some(tenant) = tenant {
                tenant.selected.insert(namespace, Selection::new(selected));
            }
        }
        Compilation { problems, tenants, invalid }
    }
}

/// How many objects have each namespace and name.
type Count<'a> = BTreeMap<(Option<&'a str>, Option<&'a str>), usize>;

fn count_names<'a>(objects: impl Iterator<Item = &'a ObjectMeta>) -> Count<'a> {
    let mut count = Count::new();
    for metadata in objects {
        *count.entry((metadata.namespace.as_deref(), metadata.name.as_deref())).or_default() += 1;
    }
    count
}

fn is_twice(count: &Count<'_>, metadata: &ObjectMeta) -> bool {
    count.get(&(metadata.namespace.as_deref(), metadata.name.as_deref())).is_some_and(|count| *count > 1)
}

/// What holds instead of an invalid policy: the pods that it selects are stopped, and the denial says
/// where the mistake is. The name has a space, which no `AgentHalt`'s name has.
fn stop(problem: &Problem, errors: usize) -> HaltDoc {
    let Problem { object, path, message, severity: _, topic: _ } = problem;
    let more = if errors > 1 { format!(" (and {} more mistakes)", errors - 1) } else { String::new() };
    let reason = format!("policy {} is invalid{more}: {path}: {message}", object.full_name());
    HaltDoc { name: object.to_string(), reason: halt::one_line(&reason), cause: None }
}
