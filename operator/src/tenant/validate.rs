//! Second step: what may be done about a tenant. Both sides must agree on each agents' namespace, and
//! nothing that closes is taken away while an agent is there.

use std::collections::{BTreeMap, BTreeSet};

use clawlock_compile::objects::names::TENANT_LABEL;

use super::fetch::{Facts, Namespace};

/// What is to be done about a tenant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// It is in force.
    Keep {
        /// Agents' namespaces on which both sides agree, and in which objects can be made.
        agreed: BTreeSet<String>,
        /// The others, and why.
        disagreed: BTreeMap<String, String>,
    },
    /// It is not in force, so there is nothing to do but to say so.
    Refuse {
        /// Why, when that is not in its problems: the namespace and what is wrong with it.
        disagreed: BTreeMap<String, String>,
    },
    /// It is being deleted, or its `TenantGateway` is gone.
    Depart {
        /// Agents that are still there; as long as there are, everything stays.
        agents: usize,
    },
}

/// Decides.
pub(super) fn validate(facts: &Facts, release: &str) -> Plan {
    let ending = facts.gateway.as_ref().is_none_or(|gateway| gateway.metadata.deletion_timestamp.is_some());
    if ending {
        return Plan::Depart { agents: facts.agents.len() };
    }
    let Some(tenant) = facts.tenant() else {
        return Plan::Refuse { disagreed: BTreeMap::new() };
    };
    if let Some(why) = reserved(tenant.platform_namespace(), release) {
        return Plan::Refuse { disagreed: [(tenant.platform_namespace().to_owned(), why)].into() };
    }
    let mut agreed = BTreeSet::new();
    let mut disagreed = BTreeMap::new();
    for (name, namespace) in &facts.namespaces {
        match reserved(name, release).or_else(|| disagreement(namespace, &facts.name)) {
            None => {
                agreed.insert(name.clone());
            }
            Some(why) => {
                disagreed.insert(name.clone(), why);
            }
        }
    }
    // What the `TenantGateway` lists now, but what is in force does not, is not ours yet.
    agreed.retain(|name| tenant.namespaces().any(|listed| listed == name));
    Plan::Keep { agreed, disagreed }
}

/// Namespaces that are no tenant's: the release's, where the keys are, and those of Kubernetes itself.
fn reserved(namespace: &str, release: &str) -> Option<String> {
    if namespace == release {
        return Some("is the release's own, where its keys are; use another".to_owned());
    }
    namespace.starts_with("kube-").then(|| "belongs to Kubernetes itself; use another".to_owned())
}

fn disagreement(namespace: &Namespace, tenant: &str) -> Option<String> {
    let Some(place) = &namespace.place else {
        return Some(format!("is not there, or does not carry the label {TENANT_LABEL}={tenant}; set it"));
    };
    match place.tenant.as_deref() {
        Some(labelled) if labelled == tenant && !place.ending => None,
        Some(labelled) if labelled == tenant => Some("is being deleted".to_owned()),
        Some(other) => {
            Some(format!("carries the label {TENANT_LABEL}={other}, of another tenant; correct one of them"))
        }
        None => Some(format!("does not carry the label {TENANT_LABEL}={tenant}; set it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::pod::Place;
    use std::sync::Arc;

    fn namespace(tenant: Option<&str>, ending: bool) -> Namespace {
        let place = Place { tenant: tenant.map(str::to_owned), ending };
        Namespace { place: Some(Arc::new(place)), ..Namespace::default() }
    }

    #[test]
    fn the_namespaces_of_the_release_and_of_kubernetes_are_no_tenants() {
        assert!(reserved("clawlock-system", "clawlock-system").is_some());
        assert!(reserved("kube-system", "clawlock-system").is_some());
        assert_eq!(reserved("acme", "clawlock-system"), None);
    }

    #[test]
    fn both_sides_must_agree() {
        assert_eq!(disagreement(&namespace(Some("acme"), false), "acme"), None);
        for (namespace, word) in [
            (Namespace::default(), "is not there"),
            (namespace(None, false), "does not carry"),
            (namespace(Some("other"), false), "of another tenant"),
            (namespace(Some("acme"), true), "being deleted"),
        ] {
            assert!(disagreement(&namespace, "acme").unwrap().contains(word), "{word}");
        }
    }
}
