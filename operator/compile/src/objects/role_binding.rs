//! What a tenant's gateway may read: the Secrets of its own platform namespace.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};

use super::{metadata, names};
use crate::Tenant;

/// The ClusterRole is the chart's, and the only one that the operator may bind.
pub(super) fn build(tenant: &Tenant) -> RoleBinding {
    let namespace = tenant.platform_namespace();
    RoleBinding {
        metadata: metadata(tenant, namespace, names::GATEWAY),
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: names::GATEWAY.to_owned(),
        },
        subjects: Some(vec![Subject {
            api_group: None,
            kind: "ServiceAccount".to_owned(),
            name: names::GATEWAY.to_owned(),
            namespace: Some(namespace.to_owned()),
        }]),
    }
}
