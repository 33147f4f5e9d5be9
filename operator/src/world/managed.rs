//! Objects that carry our label: seen as metadata only, so that what somebody deleted or changed is put
//! right, and what nobody wants any more is found.

use std::sync::Arc;

use clawlock_compile::objects::ObjectKind;
use clawlock_compile::objects::names::{MANAGED_BY, MANAGED_BY_LABEL, TENANT_LABEL};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource};

use super::shelf::{Bell, Item, Shelf};
use super::watch::Watch;
use crate::metrics::Metrics;

/// What is known of a managed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its tenant.
    pub(crate) tenant: String,
    /// Its UID.
    pub(crate) uid: String,
    /// Its version.
    pub(crate) version: String,
    /// It is being deleted.
    pub(crate) ending: bool,
    /// Its finalizers.
    pub(crate) finalizers: Vec<String>,
}

impl Item for Trace {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

/// The managed objects of all kinds.
pub(crate) struct Managed {
    shelves: [(ObjectKind, Arc<Shelf<Trace>>); 6],
}

/// The kinds, in the order of [`Managed::shelves`].
const KINDS: [ObjectKind; 6] = [
    ObjectKind::NetworkPolicy,
    ObjectKind::ServiceAccount,
    ObjectKind::RoleBinding,
    ObjectKind::Service,
    ObjectKind::PodDisruptionBudget,
    ObjectKind::StatefulSet,
];

impl Managed {
    /// Empty shelves that ring a bell.
    pub(crate) fn new(bell: &Bell) -> Self {
        Self { shelves: KINDS.map(|kind| (kind, Shelf::new(&[bell]))) }
    }

    /// The objects of one kind.
    pub(crate) fn of(&self, kind: ObjectKind) -> &Arc<Shelf<Trace>> {
        let found = self.shelves.iter().find(|(known, _)| *known == kind);
        &found.expect("KINDS holds every kind, as the exhaustive match of `spawn` shows").1
    }

    /// Everything that carries a tenant's label, with its kind.
    pub(crate) fn of_tenant(&self, tenant: &str) -> Vec<(ObjectKind, Arc<Trace>)> {
        let all = self.shelves.iter().flat_map(|(kind, shelf)| shelf.all().into_iter().map(|trace| (*kind, trace)));
        all.filter(|(_, trace)| trace.tenant == tenant).collect()
    }

    /// Whether all first lists are complete.
    pub(crate) fn is_synced(&self) -> bool {
        self.shelves.iter().all(|(_, shelf)| shelf.is_synced(""))
    }

    /// Starts the watches.
    pub(crate) fn spawn(&self, client: &Client, metrics: &Arc<Metrics>) {
        for (kind, shelf) in &self.shelves {
            let (client, shelf, metrics) = (client.clone(), shelf.clone(), metrics.clone());
            match kind {
                ObjectKind::NetworkPolicy => watch::<NetworkPolicy>(client, shelf, metrics),
                ObjectKind::ServiceAccount => watch::<ServiceAccount>(client, shelf, metrics),
                ObjectKind::RoleBinding => watch::<RoleBinding>(client, shelf, metrics),
                ObjectKind::Service => watch::<Service>(client, shelf, metrics),
                ObjectKind::PodDisruptionBudget => watch::<PodDisruptionBudget>(client, shelf, metrics),
                ObjectKind::StatefulSet => watch::<StatefulSet>(client, shelf, metrics),
            }
        }
    }
}

fn watch<K>(client: Client, shelf: Arc<Shelf<Trace>>, metrics: Arc<Metrics>)
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = ()> + serde::de::DeserializeOwned,
{
    let watch: Watch<PartialObjectMeta<K>, Trace> = Watch {
        api: Api::all(client),
        labels: format!("{MANAGED_BY_LABEL}={MANAGED_BY},{TENANT_LABEL}"),
        scope: String::new(),
        shelf,
        read: |object| trace(object.metadata),
    };
    tokio::spawn(watch.run(metrics));
}

fn trace(metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<Trace> {
    Some(Trace {
        tenant: metadata.labels.unwrap_or_default().remove(TENANT_LABEL)?,
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        version: metadata.resource_version.unwrap_or_default(),
        ending: metadata.deletion_timestamp.is_some(),
        finalizers: metadata.finalizers.unwrap_or_default(),
    })
}
