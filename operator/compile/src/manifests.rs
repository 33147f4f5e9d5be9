//! The manifests of a tenant's agents: what holds for a pod that names one.
//!
//! They lie beside the agents and are written by the tenant, so that they can only narrow. One that is not there or cannot
//! hold stops the pods that name it, like a policy with a mistake: there is no last good version, since the pod would
//! then have what nobody declares any more.

use std::collections::BTreeMap;

use clawlock_policy::document::{Document, HaltDoc};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::assign::Stored;
use crate::halt::one_line;
use crate::manifest::{self, JSON, TOML};
use crate::objects::names::MANIFEST;
use crate::text::is_dns_subdomain;

/// Most manifests of a tenant: more than it has kinds of agents, and few enough that they leave room for its policies in
/// what is stored ([`MAX_OBJECTS`](crate::state::MAX_OBJECTS)). Those behind, by namespace and name, are not there.
pub(crate) const MAX_MANIFESTS: usize = 500;

/// Manifests by namespace and name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifests {
    known: BTreeMap<(String, String), Declared>,
    /// What holds for a pod whose manifest is not there.
    missing: Declared,
}

/// What holds for the pods that name a manifest.
#[derive(Clone, Debug, PartialEq)]
struct Declared {
    stored: Stored,
    /// Why the pods are stopped.
    problem: Option<String>,
}

impl Declared {
    /// Stops the pods. The name has a space, which no `AgentHalt`'s name has.
    fn stop(name: String, problem: &str) -> Self {
        let problem = one_line(problem);
        let halt = HaltDoc { name, reason: problem.clone(), cause: None };
        Self { stored: Stored::new(Document::Halt(halt)), problem: Some(problem) }
    }

    fn of(map: &ConfigMap, namespace: &str, name: &str) -> Self {
        match manifest::of_config_map(map) {
            Ok(document) => Self { stored: Stored::new(Document::Manifest(document)), problem: None },
            Err(reason) => Self::stop(format!("ConfigMap {namespace}/{name}"), &reason),
        }
    }
}

impl Default for Manifests {
    fn default() -> Self {
        let reason = format!(
            "the manifest that the pod's annotation {MANIFEST} names is not there: make a ConfigMap of this name in the \
             pod's namespace, with the label {MANIFEST}: \"true\""
        );
        Self { known: BTreeMap::new(), missing: Declared::stop("manifest of the pod".to_owned(), &reason) }
    }
}

impl Manifests {
    /// Those of the agents' namespaces of a tenant, in any order.
    pub(crate) fn of<'a>(maps: impl Iterator<Item = &'a ConfigMap>) -> Self {
        let mut sorted: BTreeMap<(String, String), Vec<&ConfigMap>> = BTreeMap::new();
        for map in maps {
            let key = key(map);
            if is_dns_subdomain(&key.1) {
                sorted.entry(key).or_default().push(map);
            }
        }
        let known = sorted.into_iter().take(MAX_MANIFESTS).map(|((namespace, name), maps)| {
            let declared = match maps.as_slice() {
                [map] => Declared::of(map, &namespace, &name),
                _ => Declared::stop(format!("ConfigMap {namespace}/{name}"), "it is there twice; remove one"),
            };
            ((namespace, name), declared)
        });
        Self { known: known.collect(), ..Self::default() }
    }

    fn declared(&self, namespace: &str, name: &str) -> &Declared {
        self.known.get(&(namespace.to_owned(), name.to_owned())).unwrap_or(&self.missing)
    }

    /// What holds for the pods of a namespace that name a manifest.
    pub(crate) fn stored(&self, namespace: &str, name: &str) -> &Stored {
        &self.declared(namespace, name).stored
    }

    /// Why these pods are stopped.
    pub(crate) fn problem(&self, namespace: &str, name: &str) -> Option<&str> {
        self.declared(namespace, name).problem.as_deref()
    }

    /// Whether a ConfigMap is one of them.
    pub(crate) fn has(&self, map: &ConfigMap) -> bool {
        self.known.contains_key(&key(map))
    }
}

fn key(map: &ConfigMap) -> (String, String) {
    (map.metadata.namespace.clone().unwrap_or_default(), map.metadata.name.clone().unwrap_or_default())
}

/// A ConfigMap with nothing but manifests in it.
pub(crate) fn only_manifests(map: &ConfigMap) -> ConfigMap {
    let data = map.data.iter().flatten().filter(|(key, _)| [JSON, TOML].contains(&key.as_str()));
    ConfigMap {
        metadata: map.metadata.clone(),
        data: Some(data.map(|(key, text)| (key.clone(), text.clone())).collect()),
        ..ConfigMap::default()
    }
}
