//! First step: everything that is known of one tenant, out of memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clawlock_compile::objects::names::Role;
use clawlock_compile::objects::sidecar::{Standing, standing};
use clawlock_compile::objects::{ObjectKey, ObjectKind};
use clawlock_compile::{Kind, ObjectRef, Problem, Tenant};
use clawlock_crds::{AgentCounts, TenantGateway};
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::accept::InForce;
use crate::replica::{Report, Sum, sum};
use crate::store::StoredTenant;
use crate::world::World;
use crate::world::managed::Trace;
use crate::world::pod::{Place, Pod};
use crate::world::resource::Read;

/// What is known of a tenant.
pub(super) struct Facts {
    /// Its name.
    pub(super) name: String,
    /// Its `TenantGateway`, unless that is gone.
    pub(super) gateway: Option<Arc<Read<TenantGateway>>>,
    /// What is in force, of all tenants.
    pub(super) in_force: Arc<InForce>,
    /// What is stored of it.
    pub(super) stored: Option<StoredTenant>,
    /// Agents that have not ended, of all namespaces.
    pub(super) agents: Vec<Arc<Pod>>,
    /// Pods of its gateway that have not ended.
    pub(super) gateways: Vec<Arc<Pod>>,
    /// Its agents' namespaces and what is known of them.
    pub(super) namespaces: BTreeMap<String, Namespace>,
    /// Objects that carry its label.
    pub(super) managed: BTreeMap<ObjectKey, Arc<Trace>>,
    /// What its pods acknowledged.
    pub(super) sum: Sum,
}

/// What is known of an agents' namespace.
#[derive(Default)]
pub(super) struct Namespace {
    /// It is there and carries a tenant's label.
    pub(super) place: Option<Arc<Place>>,
    /// NetworkPolicies in it; `None` as long as they were not listed.
    pub(super) policies: Option<Vec<Arc<NetworkPolicy>>>,
    /// Pods in it without a sidecar that are not exempted; `None` as long as they were not listed.
    pub(super) ungoverned: Option<u32>,
    /// Agents in it.
    pub(super) governed: u32,
}

impl Facts {
    /// The tenant, when it is valid and in force.
    pub(super) fn tenant(&self) -> Option<&Tenant> {
        self.in_force.settled.compilation.tenant(&self.name)
    }

    /// The object that status is about.
    pub(super) fn object(&self) -> Option<ObjectRef> {
        self.gateway.as_ref().map(|gateway| ObjectRef::new(Kind::TenantGateway, &gateway.metadata))
    }

    /// What is wrong with its `TenantGateway`.
    pub(super) fn problems(&self) -> Vec<&Problem> {
        let Some(object) = self.object() else { return Vec::new() };
        self.in_force.settled.problems.iter().filter(|problem| problem.object == object).collect()
    }

    /// How many pods there are.
    pub(super) fn counts(&self) -> AgentCounts {
        let sum = |of: fn(&Namespace) -> u32| self.namespaces.values().map(of).fold(0, u32::saturating_add);
        let governed = sum(|namespace| namespace.governed);
        let ungoverned = sum(|namespace| namespace.ungoverned.unwrap_or_default());
        AgentCounts { total: governed.saturating_add(ungoverned), governed, ungoverned }
    }
}

/// The names of everything that is, or was, a tenant.
pub(super) fn tenants(world: &World, in_force: &InForce) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = in_force.tenants.keys().cloned().collect();
    names.extend(world.gateways.all().iter().map(|gateway| gateway.name().to_owned()));
    names.extend(in_force.settled.compilation.tenants().map(|tenant| tenant.name().to_owned()));
    for kind in ObjectKind::ALL {
        names.extend(world.managed.of(kind).all().iter().map(|trace| trace.tenant.clone()));
    }
    names
}

/// Collects what is known.
pub(super) fn fetch(world: &World, in_force: &Arc<InForce>, name: &str) -> Facts {
    let mut gateways: Vec<Arc<Read<TenantGateway>>> =
        world.gateways.all().into_iter().filter(|gateway| gateway.name() == name).collect();
    let tenant = in_force.settled.compilation.tenant(name);
    // Two of one name are both invalid; the one that was good, if any, is what the objects belong to.
    gateways.sort_by_key(|gateway| tenant.is_none_or(|tenant| gateway.namespace() != tenant.platform_namespace()));
    let managed: BTreeMap<ObjectKey, Arc<Trace>> = world
        .managed
        .of_tenant(name)
        .into_iter()
        .map(|(kind, trace)| (ObjectKey { kind, namespace: trace.namespace.clone(), name: trace.name.clone() }, trace))
        .collect();
    let agents = world.pods_of(Role::Agent, name);
    let mut namespaces: BTreeSet<String> =
        tenant.map(|tenant| tenant.namespaces().map(str::to_owned).collect()).unwrap_or_default();
    if let Some(gateway) = gateways.first()
        && let Ok(gateway) = &gateway.object
    {
        namespaces.extend(gateway.spec.namespaces.iter().cloned());
    }
    let namespaces = namespaces
        .into_iter()
        .map(|namespace| {
            let known = namespace_of(world, tenant, &agents, &namespace);
            (namespace, known)
        })
        .collect();
    let reports: Vec<Report> = live_reports(world);
    Facts {
        name: name.to_owned(),
        gateway: gateways.into_iter().next(),
        in_force: in_force.clone(),
        stored: in_force.tenants.get(name).cloned(),
        gateways: world.pods_of(Role::Gateway, name),
        agents,
        namespaces,
        managed,
        sum: sum(name, reports.iter()),
    }
}

/// The reports of replicas whose pods are there: what a dead one has seen says nothing.
pub(super) fn live_reports(world: &World) -> Vec<Report> {
    let maps = world.reports.in_namespace(world.release());
    let prefix = clawlock_compile::objects::names::replica("");
    let of_replica = maps.iter().filter_map(|map| {
        let pod = map.metadata.name.as_deref()?.strip_prefix(&prefix)?;
        Some((pod, map))
    });
    let is_there = |pod: &str| {
        // Outside of a cluster the operator has no pod.
        let any = world.pods.in_namespace(world.release()).iter().any(|known| is_operator(known));
        !any || world.pods.get(world.release(), pod).is_some()
    };
    of_replica.filter(|(pod, _)| is_there(pod)).map(|(_, map)| Report::read(map)).collect()
}

fn is_operator(pod: &Pod) -> bool {
    pod.label(clawlock_compile::objects::names::ROLE_LABEL) == Some(Role::Operator.as_str())
}

fn namespace_of(world: &World, tenant: Option<&Tenant>, agents: &[Arc<Pod>], namespace: &str) -> Namespace {
    let inside: Vec<&Arc<Pod>> = agents.iter().filter(|pod| pod.namespace == namespace).collect();
    let of = |pod: &Pod, wanted: Standing| tenant.is_some_and(|tenant| standing(&pod.view, tenant) == wanted);
    let governed = inside.iter().filter(|pod| of(pod, Standing::Governed)).count();
    let others = world.others.shelf();
    let ungoverned = others.is_synced(namespace).then(|| {
        let others = others.in_namespace(namespace);
        // A pod that says it is an agent and has no sidecar is none.
        let false_agents = inside.iter().filter(|pod| of(pod, Standing::Ungoverned)).count();
        others.iter().filter(|pod| of(pod, Standing::Ungoverned)).count() + false_agents
    });
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let policies = world.network_policies.shelf();
    Namespace {
        place: world.namespaces.get("", namespace),
        policies: policies.is_synced(namespace).then(|| policies.in_namespace(namespace)),
        ungoverned: ungoverned.map(count),
        governed: count(governed),
    }
}
