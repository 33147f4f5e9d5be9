//! Policies of others that widen: NetworkPolicies of the agents' namespaces, and the kinds of other APIs
//! where their definitions are.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clawlock_compile::objects::ObjectKind;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;

use super::Context;
use super::fetch::Facts;
use crate::cluster::Brief;
use crate::status::foreign::{may_widen, widens};

/// How often the other APIs are asked: their definitions come and go with a CNI.
const PERIOD: Duration = Duration::from_secs(60);
/// Longest that one question may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most objects of one kind that are looked at.
const MAX_OBJECTS: u32 = 500;

/// The kinds of other APIs: group, version, kind, plural.
const KINDS: [(&str, &str, &str, &str); 5] = [
    ("policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy", "clusternetworkpolicies"),
    ("policy.networking.k8s.io", "v1alpha1", "AdminNetworkPolicy", "adminnetworkpolicies"),
    ("policy.networking.k8s.io", "v1alpha1", "BaselineAdminNetworkPolicy", "baselineadminnetworkpolicies"),
    ("cilium.io", "v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies"),
    ("cilium.io", "v2", "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies"),
];

/// What the other APIs say.
#[derive(Default)]
pub(super) struct Foreign {
    looked: Option<Instant>,
    /// Policies that widen: their namespace, empty when they hold for all of them, and their name.
    found: BTreeSet<(String, String)>,
}

impl Foreign {
    /// Asks the other APIs, from time to time.
    pub(super) async fn look(&mut self, context: &Context) {
        if self.looked.is_some_and(|looked| looked.elapsed() < PERIOD) {
            return;
        }
        self.looked = Some(Instant::now());
        let mut found = BTreeSet::new();
        for (group, version, kind, plural) in KINDS {
            let gvk = GroupVersionKind::gvk(group, version, kind);
            let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
            let api: Api<DynamicObject> = Api::all_with(context.writer.client().clone(), &resource);
            let params = ListParams::default().limit(MAX_OBJECTS);
            match tokio::time::timeout(TIMEOUT, api.list(&params)).await {
                Ok(Ok(list)) => {
                    found.extend(list.items.iter().filter(|object| may_widen(kind, &object.data)).map(|object| {
                        let name = object.metadata.name.as_deref().unwrap_or_default();
                        (object.metadata.namespace.clone().unwrap_or_default(), format!("{kind} {name}"))
                    }));
                }
                // There is no such API here.
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
                Ok(Err(error)) => tracing::debug!(kind, "policies of another API cannot be listed: {}", Brief(&error)),
                Err(_) => tracing::debug!(kind, "policies of another API were not listed in time"),
            }
        }
        self.found = found;
    }

    /// What widens for the agents of a tenant, by name.
    pub(super) fn of(&self, facts: &Facts) -> Vec<String> {
        let mut all: Vec<String> = self
            .found
            .iter()
            .filter(|(namespace, _)| namespace.is_empty() || facts.namespaces.contains_key(namespace))
            .map(|(namespace, name)| if namespace.is_empty() { name.clone() } else { format!("{name} in {namespace}") })
            .collect();
        for (namespace, known) in &facts.namespaces {
            let ours: BTreeSet<&str> = facts
                .managed
                .keys()
                .filter(|key| key.kind == ObjectKind::NetworkPolicy && key.namespace == *namespace)
                .map(|key| key.name.as_str())
                .collect();
            for policy in known.policies.iter().flatten() {
                let name = policy.metadata.name.as_deref().unwrap_or_default();
                // What carries our label and is not ours is pruned; until then it counts.
                let expected = ours.contains(name) && name.starts_with("clawlock-");
                if !expected && widens(policy) {
                    all.push(format!("NetworkPolicy {namespace}/{name}"));
                }
            }
        }
        all
    }
}
