//! What people wrote, as the watches show it, for the acceptor.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use clawlock_compile::objects::names::{Role, replica};
use clawlock_compile::{Kind, ObjectRef, Resources, Tenant, Unreadable};
use clawlock_crds::{AgentHalt, TenantGateway, Upstream};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::replica::Report;
use crate::store::StoredTenant;
use crate::world::resource::Read;
use crate::world::shelf::Shelf;
use crate::world::{Namespaces, World};

/// What there is now.
pub(super) struct Current {
    /// The objects.
    pub(super) resources: Resources,
    /// The `metadata.generation` of each object.
    pub(super) judged: HashMap<ObjectRef, Option<i64>>,
}

/// Collects what there is. `departed` tenants are on their way out: nothing of them is accepted any more.
pub(super) fn collect(
    world: &World,
    good: &Resources,
    stored: &BTreeMap<String, StoredTenant>,
    departed: &BTreeSet<String>,
) -> Current {
    let mut resources = Resources::default();
    let mut judged = HashMap::new();
    let mut present = BTreeSet::new();
    for gateway in world.gateways.all() {
        let ending = gateway.metadata.deletion_timestamp.is_some();
        // A tenant that is being deleted stays in force as long as it is stored, and does not come back.
        if ending && (departed.contains(gateway.name()) || !stored.contains_key(gateway.name())) {
            continue;
        }
        present.insert(gateway.name().to_owned());
        judged.insert(ObjectRef::new(Kind::TenantGateway, &gateway.metadata), gateway.metadata.generation);
        match &gateway.object {
            Ok(object) => resources.gateways.push(TenantGateway::clone(object)),
            Err(error) => resources.unreadable.push(unreadable(Kind::TenantGateway, &gateway, error)),
        }
    }
    // A tenant that is stored although its `TenantGateway` is gone stays in force until its agents are gone.
    for name in stored.keys().filter(|name| !present.contains(*name) && !departed.contains(*name)) {
        let last = good.gateways.iter().find(|gateway| gateway.metadata.name.as_ref() == Some(name));
        resources.gateways.extend(last.cloned());
    }
    let Resources { upstreams, policies, halts, unreadable, .. } = &mut resources;
    add(&world.upstreams, Kind::Upstream, |object| upstreams.push(Upstream::clone(object)), unreadable, &mut judged);
    add(&world.policies, Kind::AgentPolicy, |object| policies.push(object.clone()), unreadable, &mut judged);
    add(&world.halts, Kind::AgentHalt, |object| halts.push(AgentHalt::clone(object)), unreadable, &mut judged);
    resources.config_maps = config_maps(world, good);
    Current { resources, judged }
}

fn add<G>(
    shelf: &Arc<Shelf<Read<G>>>,
    kind: Kind,
    mut take: impl FnMut(&Arc<G>),
    unreadables: &mut Vec<Unreadable>,
    judged: &mut HashMap<ObjectRef, Option<i64>>,
) where
    G: PartialEq + Send + Sync + 'static,
{
    for read in shelf.all() {
        judged.insert(ObjectRef::new(kind, &read.metadata), read.metadata.generation);
        match &read.object {
            Ok(object) => take(object),
            Err(error) => unreadables.push(unreadable(kind, &read, error)),
        }
    }
}

fn unreadable<G>(kind: Kind, read: &Read<G>, error: &String) -> Unreadable {
    Unreadable::new(ObjectRef::new(kind, &read.metadata), error)
}

/// The ConfigMaps of the platform namespaces, and the manifests of the agents' namespaces. Of a namespace whose watch has
/// not begun, those that were good.
fn config_maps(world: &World, good: &Resources) -> Vec<ConfigMap> {
    let mut maps = Vec::new();
    let Namespaces { platform, agents } = world.tenant_namespaces();
    let platform = platform.into_iter().map(|namespace| (namespace, world.config_maps.shelf()));
    let agents = agents.into_iter().map(|namespace| (namespace, world.manifests.shelf()));
    for (namespace, shelf) in platform.chain(agents) {
        if shelf.is_synced(&namespace) {
            maps.extend(shelf.in_namespace(&namespace).iter().map(|map| ConfigMap::clone(map)));
        } else {
            let of = |map: &&ConfigMap| map.metadata.namespace.as_ref() == Some(&namespace);
            maps.extend(good.config_maps.iter().filter(of).cloned());
        }
    }
    maps
}

/// The digest of the labels and the manifest of each agent of a tenant, by UID.
pub(super) fn agents(world: &World, tenant: &Tenant) -> BTreeMap<String, String> {
    let namespaces: BTreeSet<&str> = tenant.namespaces().collect();
    let pods = world.pods_of(Role::Agent, tenant.name());
    let own = pods.iter().filter(|pod| namespaces.contains(pod.namespace.as_str()));
    own.map(|pod| (pod.uid.clone(), pod.marks_digest.clone())).collect()
}

/// The largest generation of a tenant that a status or a replica has seen: a state that was lost must not
/// begin below it, since receivers refuse what is older than what they have.
pub(super) fn floor(world: &World, tenant: &str) -> u64 {
    let gateways = world.gateways.all();
    let statuses = gateways.iter().filter(|gateway| gateway.name() == tenant);
    let told = statuses.filter_map(|gateway| gateway.status["policy"]["generation"].as_u64());
    let prefix = replica("");
    let maps = world.reports.in_namespace(world.release());
    let reports = maps.iter().filter(|map| map.metadata.name.as_deref().is_some_and(|name| name.starts_with(&prefix)));
    let seen = reports.filter_map(|map| Report::read(map).newest(tenant));
    told.chain(seen).max().unwrap_or_default()
}
