//! The Kubernetes objects of a tenant: pure functions from a valid [`Tenant`] to typed objects.
//!
//! One kind per file. What they make is a function of tenant, release and a few facts that the operator
//! remembers; it has no status, no default of the API server and no order that depends on the input, so
//! that applying it twice changes nothing. [`sidecar`] makes the one change to pods of others, and
//! [`names`] holds every name that two programs must agree on.

pub mod environment;
mod isolation;
pub mod names;
mod network_policy;
mod pod_disruption_budget;
mod release;
mod role_binding;
mod service;
mod service_account;
pub mod sidecar;
mod stateful_set;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

pub use isolation::isolation;
pub use release::{PullPolicy, Release};

use crate::Tenant;

/// What the operator remembers of a tenant between two reconciliations.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The certificate that the control API's certificates chain to: DER in base64.
    pub anchor: &'a str,
    /// The address of the gateway's Service, which the sidecars carry; `None` before there was one.
    pub cluster_ip: Option<IpAddr>,
    /// The agents' namespaces that are closed, see [`isolation`].
    pub isolated: &'a BTreeSet<String>,
}

/// All objects of a tenant outside of the release's namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantObjects {
    /// Of the platform namespace and of every agents' namespace.
    pub network_policies: Vec<NetworkPolicy>,
    /// Under which the gateway runs.
    pub service_account: ServiceAccount,
    /// Lets it read the Secrets of the platform namespace.
    pub role_binding: RoleBinding,
    /// The address of the gateway.
    pub service: Service,
    /// Keeps pods of the gateway through drains of nodes.
    pub pod_disruption_budget: PodDisruptionBudget,
    /// The gateway.
    pub stateful_set: StatefulSet,
}

impl TenantObjects {
    /// Makes the objects of a tenant.
    #[must_use]
    pub fn build(tenant: &Tenant, release: &Release, known: Known<'_>) -> Self {
        Self {
            network_policies: network_policy::build(tenant, release, known.isolated),
            service_account: service_account::build(tenant),
            role_binding: role_binding::build(tenant),
            service: service::build(tenant, known.cluster_ip),
            pod_disruption_budget: pod_disruption_budget::build(tenant),
            stateful_set: stateful_set::build(tenant, release, known.anchor),
        }
    }

    /// The objects in the order in which they are applied: what closes comes before what runs.
    pub fn iter(&self) -> impl Iterator<Item = Object<'_>> {
        let Self { network_policies, service_account, role_binding, service, pod_disruption_budget, stateful_set } =
            self;
        network_policies.iter().map(Object::NetworkPolicy).chain([
            Object::ServiceAccount(service_account),
            Object::RoleBinding(role_binding),
            Object::Service(service),
            Object::PodDisruptionBudget(pod_disruption_budget),
            Object::StatefulSet(stateful_set),
        ])
    }

    /// What pruning keeps. Everything else with the tenant's labels ([`names::managed_selector`]) goes.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<ObjectKey> {
        self.iter().map(|object| object.key()).collect()
    }
}

/// One of a tenant's objects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Object<'a> {
    /// Who may connect to whom.
    NetworkPolicy(&'a NetworkPolicy),
    /// Under which the gateway runs.
    ServiceAccount(&'a ServiceAccount),
    /// What the gateway may read.
    RoleBinding(&'a RoleBinding),
    /// The gateway's address.
    Service(&'a Service),
    /// How many gateways may be down.
    PodDisruptionBudget(&'a PodDisruptionBudget),
    /// The gateway.
    StatefulSet(&'a StatefulSet),
}

impl Object<'_> {
    /// Kind, namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let (kind, metadata) = match self {
            Self::NetworkPolicy(object) => (ObjectKind::NetworkPolicy, &object.metadata),
            Self::ServiceAccount(object) => (ObjectKind::ServiceAccount, &object.metadata),
            Self::RoleBinding(object) => (ObjectKind::RoleBinding, &object.metadata),
            Self::Service(object) => (ObjectKind::Service, &object.metadata),
            Self::PodDisruptionBudget(object) => (ObjectKind::PodDisruptionBudget, &object.metadata),
            Self::StatefulSet(object) => (ObjectKind::StatefulSet, &object.metadata),
        };
        let ObjectMeta { namespace, name, .. } = metadata;
        ObjectKey { kind, namespace: namespace.clone().unwrap_or_default(), name: name.clone().unwrap_or_default() }
    }

    /// The object with `apiVersion` and `kind`, as server-side apply takes it.
    ///
    /// # Errors
    /// Never in practice: these types have no map with keys that are no text.
    pub fn to_value(&self) -> serde_json::Result<serde_json::Value> {
        match self {
            Self::NetworkPolicy(object) => serde_json::to_value(object),
            Self::ServiceAccount(object) => serde_json::to_value(object),
            Self::RoleBinding(object) => serde_json::to_value(object),
            Self::Service(object) => serde_json::to_value(object),
            Self::PodDisruptionBudget(object) => serde_json::to_value(object),
            Self::StatefulSet(object) => serde_json::to_value(object),
        }
    }
}

/// The kinds of a tenant's objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    /// networking.k8s.io
    NetworkPolicy,
    /// core
    ServiceAccount,
    /// rbac.authorization.k8s.io
    RoleBinding,
    /// core
    Service,
    /// policy
    PodDisruptionBudget,
    /// apps
    StatefulSet,
}

impl ObjectKind {
    /// All of them, in the order in which they are applied. Pruning lists each.
    pub const ALL: [Self; 6] = [
        Self::NetworkPolicy,
        Self::ServiceAccount,
        Self::RoleBinding,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::StatefulSet,
    ];

    /// The kind as it stands in YAML.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ServiceAccount => "ServiceAccount",
            Self::RoleBinding => "RoleBinding",
            Self::Service => "Service",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// Metadata of an object of a tenant.
fn metadata(tenant: &Tenant, namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(names::managed_labels(tenant.name())),
        ..ObjectMeta::default()
    }
}

/// Labels of the tenant's pods of a role.
fn pod_labels(tenant: &Tenant, role: names::Role) -> BTreeMap<String, String> {
    BTreeMap::from([
        (names::ROLE_LABEL.to_owned(), role.as_str().to_owned()),
        (names::TENANT_LABEL.to_owned(), tenant.name().to_owned()),
    ])
}

/// Selects the tenant's pods of a role.
fn pod_selector(tenant: &Tenant, role: names::Role) -> LabelSelector {
    LabelSelector { match_labels: Some(pod_labels(tenant, role)), match_expressions: None }
}
