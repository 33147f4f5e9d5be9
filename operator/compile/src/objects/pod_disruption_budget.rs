//! How many pods of a tenant's gateway a drain may take at once.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{metadata, names, pod_selector};
use crate::Tenant;

/// One at a time, also where there is only one: a budget that forbids it would hold the node's drain for
/// ever. One that is not healthy may always go.
pub(super) fn build(tenant: &Tenant) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(tenant, tenant.platform_namespace(), names::GATEWAY),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            min_available: None,
            selector: Some(pod_selector(tenant, names::Role::Gateway)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        }),
        status: None,
    }
}
