//! The ServiceAccount of a tenant's gateway.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{metadata, names};
use crate::Tenant;

/// It lives in the platform namespace, where no tenant can impersonate it.
pub(super) fn build(tenant: &Tenant) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(tenant, tenant.platform_namespace(), names::GATEWAY),
        // A pod must ask for the token: ours does, and nothing else that somebody starts under it.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
