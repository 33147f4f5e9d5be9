//! What the API server says, kept in memory by watches. It is read by everything and decides nothing.
//!
//! Every replica watches everything, so that a follower that becomes the leader, or serves a stream, need
//! not wait. What was seen stays until the API server says otherwise.

pub(crate) mod managed;
pub(crate) mod pod;
pub(crate) mod resource;
pub(crate) mod shelf;
pub(crate) mod watch;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use clawlock_compile::objects::names::{MANAGED_BY, MANAGED_BY_LABEL, MANIFEST, ROLE_LABEL, Role, TENANT_LABEL};
use clawlock_crds::{AgentHalt, AgentPolicy, TenantGateway, Upstream};
use k8s_openapi::api::core::v1::{self, ConfigMap, Namespace, Node, Secret};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};

use crate::metrics::Metrics;
use crate::store::STORED_LABEL;
use managed::Managed;
use pod::{Machine, Place, Pod};
use resource::{Kind, Read};
use shelf::{Bell, Item, Shelf};
use watch::{Family, Watch};

/// Everything that is watched.
pub(crate) struct World {
    /// Tenants.
    pub(crate) gateways: Arc<Shelf<Read<TenantGateway>>>,
    /// What agents may reach.
    pub(crate) upstreams: Arc<Shelf<Read<Upstream>>>,
    /// What agents may do.
    pub(crate) policies: Arc<Shelf<Read<AgentPolicy>>>,
    /// Who is stopped.
    pub(crate) halts: Arc<Shelf<Read<AgentHalt>>>,
    /// Namespaces that carry a tenant's label.
    pub(crate) namespaces: Arc<Shelf<Place>>,
    /// Pods that carry our role: agents, gateways, tripwires.
    pub(crate) pods: Arc<Shelf<Pod>>,
    /// Nodes.
    pub(crate) nodes: Arc<Shelf<Machine>>,
    /// Objects that carry our label.
    pub(crate) managed: Managed,
    /// ConfigMaps of the release that hold state and objects.
    pub(crate) stored: Arc<Shelf<ConfigMap>>,
    /// Other ConfigMaps of the release that we wrote: acknowledgements, and what admission compares with.
    pub(crate) reports: Arc<Shelf<ConfigMap>>,
    /// Secrets of the release that we wrote.
    pub(crate) secrets: Arc<Shelf<Secret>>,
    /// ConfigMaps of the platform namespaces.
    pub(crate) config_maps: Family<ConfigMap, ConfigMap>,
    /// ConfigMaps of the agents' namespaces that carry the label of manifests.
    pub(crate) manifests: Family<ConfigMap, ConfigMap>,
    /// Pods of the agents' namespaces that carry no role of ours.
    pub(crate) others: Family<v1::Pod, Pod>,
    /// NetworkPolicies of the agents' namespaces.
    pub(crate) network_policies: Family<NetworkPolicy, NetworkPolicy>,
    /// Something changed that policy depends on.
    pub(crate) policy_bell: Bell,
    /// Something changed that a tenant's objects or status depend on.
    pub(crate) tenant_bell: Bell,
    /// A pod that has an identity, or a node or namespace, changed.
    pub(crate) pod_bell: Bell,
    /// What is stored changed.
    pub(crate) stored_bell: Bell,
    /// A Secret of the release changed.
    pub(crate) secret_bell: Bell,
    client: Client,
    release: String,
    metrics: Arc<Metrics>,
}

impl Item for Secret {
    fn same(&self, other: &Self) -> bool {
        self.data == other.data && self.metadata.annotations == other.metadata.annotations
    }
}

impl World {
    /// A world that has seen nothing yet.
    pub(crate) fn new(client: Client, release_namespace: &str, metrics: Arc<Metrics>) -> Self {
        let bells = [Bell::new(), Bell::new(), Bell::new(), Bell::new(), Bell::new()];
        let [policy_bell, tenant_bell, pod_bell, stored_bell, secret_bell] = bells;
        let policy = [&policy_bell, &tenant_bell];
        let family = || (client.clone(), metrics.clone());
        let (platform, manifests, others, rules) = (family(), family(), family(), family());
        Self {
            gateways: Shelf::new(&[&policy_bell, &tenant_bell, &pod_bell]),
            upstreams: Shelf::new(&policy),
            policies: Shelf::new(&policy),
            halts: Shelf::new(&policy),
            namespaces: Shelf::new(&[&policy_bell, &tenant_bell, &pod_bell]),
            pods: Shelf::new(&[&policy_bell, &tenant_bell, &pod_bell]),
            // Any watch may be the last to begin, and whoever waits for all of them listens to the tenants' bell.
            nodes: Shelf::new(&[&tenant_bell, &pod_bell]),
            managed: Managed::new(&tenant_bell),
            stored: Shelf::new(&[&stored_bell, &tenant_bell]),
            reports: Shelf::new(&[&tenant_bell]),
            secrets: Shelf::new(&[&secret_bell, &tenant_bell]),
            config_maps: Family::new(platform.0, "", Shelf::new(&policy), pod::config_map, platform.1),
            manifests: Family::new(manifests.0, MANIFEST, Shelf::new(&policy), pod::manifest, manifests.1),
            others: Family::new(
                others.0,
                &format!("{ROLE_LABEL}!={}", Role::Agent.as_str()),
                Shelf::new(&[&tenant_bell]),
                pod::pod,
                others.1,
            ),
            network_policies: Family::new(rules.0, "", Shelf::new(&[&tenant_bell]), pod::network_policy, rules.1),
            policy_bell,
            tenant_bell,
            pod_bell,
            stored_bell,
            secret_bell,
            client,
            release: release_namespace.to_owned(),
            metrics,
        }
    }

    /// Starts the watches whose namespaces never change, and keeps the others at the namespaces of the
    /// tenants. Runs until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        self.watch_kind(&self.gateways);
        self.watch_kind(&self.upstreams);
        self.watch_kind(&self.policies);
        self.watch_kind(&self.halts);
        self.managed.spawn(&self.client, &self.metrics);
        let ours = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
        self.watch(Api::<Namespace>::all(self.client.clone()), TENANT_LABEL, &self.namespaces, pod::place);
        self.watch(Api::<v1::Pod>::all(self.client.clone()), ROLE_LABEL, &self.pods, pod::pod);
        self.watch(Api::<Node>::all(self.client.clone()), "", &self.nodes, pod::machine);
        let release = || self.client.clone();
        let maps = || Api::<ConfigMap>::namespaced(release(), &self.release);
        self.watch_release(maps(), &format!("{ours},{STORED_LABEL}"), &self.stored, pod::config_map);
        self.watch_release(maps(), &format!("{ours},!{STORED_LABEL}"), &self.reports, pod::config_map);
        self.watch_release(Api::<Secret>::namespaced(release(), &self.release), &ours, &self.secrets, |mut secret| {
            secret.metadata.managed_fields = None;
            Some(secret)
        });
        let mut changed = self.policy_bell.listen();
        loop {
            let namespaces = self.tenant_namespaces();
            self.config_maps.watch_exactly(namespaces.platform.iter().map(String::as_str));
            self.manifests.watch_exactly(namespaces.agents.iter().map(String::as_str));
            self.others.watch_exactly(namespaces.agents.iter().map(String::as_str));
            self.network_policies.watch_exactly(namespaces.agents.iter().map(String::as_str));
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn watch_kind<G: Kind>(&self, shelf: &Arc<Shelf<Read<G>>>) {
        let resource = ApiResource::erase::<G>(&());
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        self.watch(api, "", shelf, resource::read::<G>);
    }

    fn watch<K, T>(&self, api: Api<K>, labels: &str, shelf: &Arc<Shelf<T>>, read: fn(K) -> Option<T>)
    where
        K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
        K::DynamicType: Send + Sync,
        T: Item,
    {
        let watch = Watch { api, labels: labels.to_owned(), scope: String::new(), shelf: shelf.clone(), read };
        tokio::spawn(watch.run(self.metrics.clone()));
    }

    /// The namespaces of the tenants, as written and as labelled.
    pub(crate) fn tenant_namespaces(&self) -> Namespaces {
        let mut namespaces = Namespaces::default();
        for gateway in self.gateways.all() {
            namespaces.platform.insert(gateway.namespace().to_owned());
            if let Ok(gateway) = &gateway.object {
                namespaces.agents.extend(gateway.spec.namespaces.iter().cloned());
            }
        }
        for trace in self.managed.of(clawlock_compile::objects::ObjectKind::NetworkPolicy).all() {
            namespaces.agents.insert(trace.namespace.clone());
        }
        namespaces
    }

    /// Whether everything has been listed once.
    pub(crate) fn is_synced(&self) -> bool {
        self.not_synced().is_none()
    }

    /// What has not been listed yet of what is needed to serve.
    pub(crate) fn not_served(&self) -> Option<&'static str> {
        let waits = [
            ("TenantGateways", self.gateways.is_synced("")),
            ("Namespaces", self.namespaces.is_synced("")),
            ("Pods", self.pods.is_synced("")),
            ("Nodes", self.nodes.is_synced("")),
            ("ConfigMaps", self.stored.is_synced(&self.release)),
            ("Secrets", self.secrets.is_synced(&self.release)),
        ];
        waits.into_iter().find(|(_, synced)| !synced).map(|(name, _)| name)
    }

    /// What has not been listed yet.
    pub(crate) fn not_synced(&self) -> Option<&'static str> {
        let waits = [
            ("Upstreams", self.upstreams.is_synced("")),
            ("AgentPolicies", self.policies.is_synced("")),
            ("AgentHalts", self.halts.is_synced("")),
            ("managed objects", self.managed.is_synced()),
            ("reports", self.reports.is_synced(&self.release)),
        ];
        let waits = waits.into_iter().find(|(_, synced)| !synced).map(|(name, _)| name);
        waits.or_else(|| self.not_served())
    }

    fn watch_release<K, T>(&self, api: Api<K>, labels: &str, shelf: &Arc<Shelf<T>>, read: fn(K) -> Option<T>)
    where
        K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
        K::DynamicType: Send + Sync,
        T: Item,
    {
        let scope = self.release.clone();
        let watch = Watch { api, labels: labels.to_owned(), scope, shelf: shelf.clone(), read };
        tokio::spawn(watch.run(self.metrics.clone()));
    }

    /// The release namespace.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// Pods of a role and tenant that have not ended.
    pub(crate) fn pods_of(&self, role: Role, tenant: &str) -> Vec<Arc<Pod>> {
        let is = |pod: &Arc<Pod>| {
            pod.label(ROLE_LABEL) == Some(role.as_str()) && pod.label(TENANT_LABEL) == Some(tenant) && !pod.is_over()
        };
        self.pods.all().into_iter().filter(is).collect()
    }

    /// The tenant that a namespace's label names.
    pub(crate) fn labelled_tenant(&self, namespace: &str) -> Option<String> {
        // A namespace has no namespace of its own.
        self.namespaces.get("", namespace).and_then(|place| place.tenant.clone())
    }

    /// Addresses of the tripwires that run.
    pub(crate) fn tripwires(&self) -> Vec<IpAddr> {
        let pods = self.pods.in_namespace(&self.release);
        let running = pods.iter().filter(|pod| pod.label(ROLE_LABEL) == Some(Role::Tripwire.as_str()) && pod.is_ready);
        let mut addresses: Vec<IpAddr> = running.flat_map(|pod| pod.addresses.clone()).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// Addresses of the nodes.
    pub(crate) fn machines(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self.nodes.all().iter().flat_map(|node| node.addresses.clone()).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }
}

/// The namespaces of the tenants.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Where tenants are written.
    pub(crate) platform: BTreeSet<String>,
    /// Where agents run.
    pub(crate) agents: BTreeSet<String>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[tokio::test]
    async fn whichever_watch_begins_last_whoever_waits_for_all_hears_of_it() {
        // No request is ever sent by it.
        let client = Client::try_from(kube::Config::new("http://127.0.0.1:9".parse().unwrap())).unwrap();
        let world = World::new(client, "clawlock-system", Arc::new(Metrics::new()));
        let begin: [&dyn Fn(); 9] = [
            &|| world.gateways.replace("", BTreeMap::new()),
            &|| world.namespaces.replace("", BTreeMap::new()),
            &|| world.pods.replace("", BTreeMap::new()),
            &|| world.nodes.replace("", BTreeMap::new()),
            &|| world.stored.replace("clawlock-system", BTreeMap::new()),
            &|| world.secrets.replace("clawlock-system", BTreeMap::new()),
            &|| world.upstreams.replace("", BTreeMap::new()),
            &|| world.policies.replace("", BTreeMap::new()),
            &|| world.halts.replace("", BTreeMap::new()),
        ];
        for (number, begin) in begin.into_iter().enumerate() {
            let heard = world.tenant_bell.listen();
            begin();
            assert!(heard.has_changed().unwrap(), "watch {number}");
        }
    }
}
