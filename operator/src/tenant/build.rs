//! Third step: what should be there, and what should not. Pure; takes no client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clawlock_compile::Tenant;
use clawlock_compile::objects::names::{DEFAULT_DENY, FINALIZER, GATEWAY};
use clawlock_compile::objects::{self, Known, ObjectKey, ObjectKind, Release, TenantObjects};
use clawlock_policy::codec::digest;
use serde_json::{Value, json};

use super::fetch::Facts;
use crate::world::managed::Trace;

/// What should be there.
pub(super) struct Wanted {
    /// Objects in the order in which they are applied.
    pub(super) objects: Vec<Prepared>,
    /// Objects that carry the tenant's label and are to go.
    pub(super) prune: Vec<ObjectKey>,
    /// Objects that are to go, and must stay while agents are there.
    pub(super) held: Vec<ObjectKey>,
    /// Agents' namespaces that are closed.
    pub(super) isolated: BTreeSet<String>,
}

/// An object that is ready to be applied.
pub(super) struct Prepared {
    /// Which one.
    pub(super) key: ObjectKey,
    /// What it says.
    pub(super) value: Value,
    /// The digest of what it says.
    pub(super) digest: String,
}

/// Builds what should be there for a tenant that is in force.
pub(super) fn build(
    facts: &Facts,
    tenant: &Tenant,
    agreed: &BTreeSet<String>,
    release: &Release,
    anchor: &str,
    remembered: &BTreeSet<String>,
) -> serde_json::Result<Wanted> {
    let isolated: BTreeSet<String> = objects::isolation(tenant, &closed(facts, remembered), &ungoverned(facts))
        .into_iter()
        .filter(|namespace| agreed.contains(namespace))
        .collect();
    let cluster_ip = facts.stored.as_ref().and_then(|stored| stored.memory.cluster_ip);
    let built = TenantObjects::build(tenant, release, Known { anchor, cluster_ip, isolated: &isolated });
    let platform = tenant.platform_namespace();
    let can_be_made = |namespace: &str| namespace == platform || agreed.contains(namespace);
    let mut objects = Vec::new();
    for object in built.iter() {
        let key = object.key();
        if !can_be_made(&key.namespace) {
            continue;
        }
        let mut value = object.to_value()?;
        if key.kind == ObjectKind::NetworkPolicy && key.namespace != platform {
            // A namespace that is deleted takes its policies before its pods, but for this.
            value["metadata"]["finalizers"] = json!([FINALIZER]);
        }
        if key.kind == ObjectKind::StatefulSet {
            value["spec"]["template"]["metadata"]["annotations"][ACCOUNT] = json!(account(&facts.managed, platform));
        }
        let digest = digest(&serde_json::to_vec(&value)?);
        objects.push(Prepared { key, value, digest });
    }
    let (prune, held) = unwanted(facts, &built.keys(), agreed);
    Ok(Wanted { objects, prune, held, isolated })
}

/// The UID of the gateway's ServiceAccount; `None` while there is none.
pub(super) fn account<'a>(managed: &'a BTreeMap<ObjectKey, Arc<Trace>>, platform: &str) -> Option<&'a str> {
    let (namespace, name) = (platform.to_owned(), GATEWAY.to_owned());
    let found = managed.get(&ObjectKey { kind: ObjectKind::ServiceAccount, namespace, name });
    found.filter(|trace| !trace.ending).map(|trace| trace.uid.as_str())
}

/// Agents' namespaces that are known to be closed: as the status says, or as there is a default deny.
fn closed(facts: &Facts, remembered: &BTreeSet<String>) -> BTreeSet<String> {
    let mut closed = remembered.clone();
    if let Some(gateway) = &facts.gateway {
        let listed = gateway.status["isolatedNamespaces"].as_array().into_iter().flatten();
        closed.extend(listed.filter_map(|name| name.as_str()).map(str::to_owned));
    }
    let found = facts.managed.keys().filter(|key| key.kind == ObjectKind::NetworkPolicy && key.name == DEFAULT_DENY);
    closed.extend(found.map(|key| key.namespace.clone()));
    closed
}

fn ungoverned(facts: &Facts) -> BTreeMap<String, u32> {
    let known = facts.namespaces.iter().filter_map(|(name, known)| Some((name.clone(), known.ungoverned?)));
    known.collect()
}

/// What carries the tenant's label and is not wanted: what can go, and what must stay for now.
fn unwanted(
    facts: &Facts,
    wanted: &BTreeSet<ObjectKey>,
    agreed: &BTreeSet<String>,
) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
    let occupied: BTreeSet<&str> = facts.agents.iter().map(|pod| pod.namespace.as_str()).collect();
    let platform = facts.tenant().map(Tenant::platform_namespace);
    let is_unwanted = |key: &&ObjectKey| {
        // A namespace on which both sides no longer agree is no longer ours, but is not opened either.
        let ours = agreed.contains(&key.namespace) || platform == Some(key.namespace.as_str());
        !wanted.contains(*key) || !ours
    };
    facts.managed.keys().filter(is_unwanted).cloned().partition(|key| {
        // An entry of agents.ingress opens, so that taking it away closes.
        let opens = key.name.starts_with(INGRESS_PREFIX);
        opens || key.kind != ObjectKind::NetworkPolicy || !occupied.contains(key.namespace.as_str())
    })
}

/// Annotation of the gateway's pods: the UID of their ServiceAccount. With another ServiceAccount of that name the API
/// server takes their tokens no longer, and only new pods get others.
const ACCOUNT: &str = "clawlock.dev/service-account-uid";

/// The names of policies that open, see [`objects::names::ingress`].
const INGRESS_PREFIX: &str = "clawlock-ingress-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_is_the_one_that_is_there_and_stays() {
        let text = str::to_owned;
        let key = |namespace: &str| ObjectKey {
            kind: ObjectKind::ServiceAccount,
            namespace: text(namespace),
            name: text(GATEWAY),
        };
        let trace = |ending| {
            Arc::new(Trace {
                namespace: text("acme-gateway"),
                name: text(GATEWAY),
                tenant: text("acme"),
                uid: text("u"),
                version: text("1"),
                ending,
                finalizers: Vec::new(),
            })
        };
        let managed = BTreeMap::from([(key("acme-gateway"), trace(false)), (key("before"), trace(true))]);
        assert_eq!(account(&managed, "acme-gateway"), Some("u"));
        assert_eq!(account(&managed, "before"), None, "it is being deleted");
        assert_eq!(account(&managed, "other"), None);
    }

    #[test]
    fn policies_that_open_are_known_by_their_names() {
        assert!(objects::names::ingress("web").starts_with(INGRESS_PREFIX));
        assert!(!objects::names::exempt("web").starts_with(INGRESS_PREFIX));
    }
}
