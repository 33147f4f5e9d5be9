//! The address of a tenant's gateway.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{metadata, names, pod_labels};
use crate::Tenant;

/// Sidecars carry the address itself, since agents reach no DNS server; a Service that is made again must
/// therefore get the address that it had.
pub(super) fn build(tenant: &Tenant, cluster_ip: Option<IpAddr>) -> Service {
    Service {
        metadata: metadata(tenant, tenant.platform_namespace(), names::GATEWAY),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: cluster_ip.map(|address| address.to_string()),
            selector: Some(pod_labels(tenant, names::Role::Gateway)),
            ports: Some(vec![ServicePort {
                name: Some(names::HOP_PORT_NAME.to_owned()),
                port: i32::from(names::HOP_PORT),
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(names::HOP_PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
