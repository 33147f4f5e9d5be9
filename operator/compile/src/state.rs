//! What is in force for a tenant, as bytes that can be signed, stored and read again.
//!
//! Each object by itself, addressed by the digest of its bytes, and one list of digests per tenant. The
//! bytes hold what decisions depend on and nothing else, so that a new label or status is no new object.
//! Reading is strict, and a list is served as a whole or not at all: an object that is left out could be
//! the one that forbids. Signatures and storage are the operator's.

mod last_good;
mod payload;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clawlock_crds::{AgentHalt, AgentPolicy, TenantGateway, Upstream, UpstreamSpec};
use clawlock_policy::codec;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(crate) use last_good::size;
pub use last_good::{Settled, settle, settle_with};
pub use payload::{StateError, TenantState};

use crate::{Compilation, Resources, Unreadable, manifests};

/// Type of an object's bytes in its envelope.
pub const OBJECT_TYPE: &str = "application/vnd.clawlock.object.v1+json";

/// Type of a list's bytes in its envelope.
pub const STATE_TYPE: &str = "application/vnd.clawlock.state.v1+json";

/// Most bytes of one object. A ConfigMap holds 1 MiB, and base64 of an envelope takes a third more.
pub const MAX_OBJECT: usize = 700 * 1024;

/// Most objects of one tenant's list: with 75 bytes each it stays within a ConfigMap.
pub const MAX_OBJECTS: usize = 8_000;

/// One object that is in force.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    /// A tenant.
    TenantGateway(Box<TenantGateway>),
    /// What its agents may reach.
    Upstream(Box<Upstream>),
    /// What its agents may do.
    AgentPolicy(Arc<AgentPolicy>),
    /// Who is stopped.
    AgentHalt(Box<AgentHalt>),
    /// Certificate authorities of an upstream, or the manifest of agents.
    ConfigMap(Box<ConfigMap>),
    /// A policy or halt that stops its agents because it cannot be read.
    Unreadable(Unreadable),
}

impl Accepted {
    /// The kind as it stands in YAML.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::TenantGateway(_) => "TenantGateway",
            Self::Upstream(_) => "Upstream",
            Self::AgentPolicy(_) => "AgentPolicy",
            Self::AgentHalt(_) => "AgentHalt",
            Self::ConfigMap(_) => "ConfigMap",
            Self::Unreadable(unreadable) => unreadable.object.kind.as_str(),
        }
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self {
            Self::Unreadable(unreadable) => &unreadable.object.namespace,
            _ => self.metadata().and_then(|metadata| metadata.namespace.as_deref()).unwrap_or_default(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Unreadable(unreadable) => &unreadable.object.name,
            _ => self.metadata().and_then(|metadata| metadata.name.as_deref()).unwrap_or_default(),
        }
    }

    fn metadata(&self) -> Option<&ObjectMeta> {
        match self {
            Self::TenantGateway(object) => Some(&object.metadata),
            Self::Upstream(object) => Some(&object.metadata),
            Self::AgentPolicy(object) => Some(&object.metadata),
            Self::AgentHalt(object) => Some(&object.metadata),
            Self::ConfigMap(object) => Some(&object.metadata),
            Self::Unreadable(_) => None,
        }
    }

    /// Its bytes: a function of what it says.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        payload::encode(self)
    }

    /// Reads an object.
    ///
    /// # Errors
    /// When the bytes are none that [`Accepted::encode`] of this version or an earlier one makes.
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        payload::decode(bytes)
    }

    /// The digest of its bytes, `sha256:…`.
    #[must_use]
    pub fn digest(&self) -> String {
        codec::digest(&self.encode())
    }
}

/// Objects as resources that can be compiled.
#[must_use]
pub fn resources(accepted: impl IntoIterator<Item = Accepted>) -> Resources {
    let mut resources = Resources::default();
    for object in accepted {
        match object {
            Accepted::TenantGateway(object) => resources.gateways.push(*object),
            Accepted::Upstream(object) => resources.upstreams.push(*object),
            Accepted::AgentPolicy(object) => resources.policies.push(object),
            Accepted::AgentHalt(object) => resources.halts.push(*object),
            Accepted::ConfigMap(object) => resources.config_maps.push(*object),
            Accepted::Unreadable(object) => resources.unreadable.push(object),
        }
    }
    resources
}

/// What a tenant's list holds of the resources that are in force, in the order of kind, namespace and
/// name; `None` when the tenant is not valid.
#[must_use]
pub fn of_tenant(resources: &Resources, compilation: &Compilation, tenant: &str) -> Option<Vec<Accepted>> {
    let tenant = compilation.tenant(tenant)?;
    let Resources { gateways, upstreams, policies, halts, config_maps, unreadable } = resources;
    let platform = tenant.platform_namespace();
    let agents: BTreeSet<&str> = tenant.namespaces().collect();
    let of = |metadata: &ObjectMeta| metadata.namespace.clone().unwrap_or_default();
    let is_agents = |namespace: &str| agents.contains(namespace);
    let is_own = |namespace: &str| namespace == platform || is_agents(namespace);
    let upstreams: Vec<&Upstream> = upstreams.iter().filter(|object| of(&object.metadata) == platform).collect();
    let referenced = certificate_keys(upstreams.iter().map(|upstream| &upstream.spec));
    let mut found: Vec<Accepted> = Vec::new();
    let gateways = gateways
        .iter()
        .filter(|object| of(&object.metadata) == platform && object.metadata.name.as_deref() == Some(tenant.name()));
    found.extend(gateways.cloned().map(Box::new).map(Accepted::TenantGateway));
    found.extend(upstreams.into_iter().cloned().map(Box::new).map(Accepted::Upstream));
    let policies = policies.iter().filter(|object| is_agents(&of(&object.metadata)));
    found.extend(policies.cloned().map(Accepted::AgentPolicy));
    let halts = halts.iter().filter(|object| is_own(&of(&object.metadata)));
    found.extend(halts.cloned().map(Box::new).map(Accepted::AgentHalt));
    for map in config_maps.iter().filter(|object| of(&object.metadata) == platform) {
        let Some(keys) = referenced.get(map.metadata.name.as_deref().unwrap_or_default()) else { continue };
        let data = map.data.iter().flatten().filter(|(key, _)| keys.contains(key.as_str()));
        let map = ConfigMap {
            metadata: map.metadata.clone(),
            data: Some(data.map(|(key, text)| (key.clone(), text.clone())).collect()),
            ..ConfigMap::default()
        };
        found.push(Accepted::ConfigMap(Box::new(map)));
    }
    let manifests = config_maps.iter().filter(|map| tenant.manifests.has(map)).map(manifests::only_manifests);
    found.extend(manifests.map(Box::new).map(Accepted::ConfigMap));
    let unreadable = unreadable.iter().filter(|object| is_own(&object.object.namespace));
    found.extend(unreadable.cloned().map(Accepted::Unreadable));
    found.sort_by(|one, two| (one.kind(), one.namespace(), one.name()).cmp(&(two.kind(), two.namespace(), two.name())));
    Some(found)
}

/// The ConfigMaps that upstreams name, and which keys of them: others can be large, and are nobody's
/// business.
fn certificate_keys<'a>(specs: impl Iterator<Item = &'a UpstreamSpec>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for reference in specs.filter_map(|spec| spec.tls.as_ref()).map(|tls| &tls.ca_ref) {
        found.entry(&reference.name).or_default().insert(&reference.key);
    }
    found
}
