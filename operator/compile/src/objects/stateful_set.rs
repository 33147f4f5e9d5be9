//! The pods of a tenant's gateway.
//!
//! They pass Pod Security `restricted`. A StatefulSet, because records and anchors need stable names;
//! its pods start and stop independently of each other.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, HTTPGetAction, Lifecycle, LifecycleHandler, PodSecurityContext, PodSpec, PodTemplateSpec,
    Probe, SleepAction, TopologySpreadConstraint, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{self, Role};
use super::sidecar::parts;
use super::{Release, metadata, pod_labels, pod_selector};
use crate::Tenant;

/// Seconds that Kubernetes waits beyond the drain before it kills.
const GRACE_MARGIN: i64 = 10;

pub(super) fn build(tenant: &Tenant, release: &Release, anchor: &str) -> StatefulSet {
    let mut labels = pod_labels(tenant, Role::Gateway);
    labels.insert(names::PART_OF_LABEL.to_owned(), names::PART_OF.to_owned());
    StatefulSet {
        metadata: metadata(tenant, tenant.platform_namespace(), names::GATEWAY),
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::from(tenant.settings().replicas.get())),
            service_name: Some(names::GATEWAY.to_owned()),
            pod_management_policy: Some("Parallel".to_owned()),
            selector: pod_selector(tenant, Role::Gateway),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod(tenant, release, anchor)),
            },
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn pod(tenant: &Tenant, release: &Release, anchor: &str) -> PodSpec {
    PodSpec {
        service_account_name: Some(names::GATEWAY.to_owned()),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        image_pull_secrets: release.pull_secrets(),
        priority_class_name: release.priority_class.clone(),
        node_selector: Some(release.node_selector.clone()).filter(|labels| !labels.is_empty()),
        tolerations: Some(release.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        termination_grace_period_seconds: Some(
            names::GATEWAY_LINGER_SECONDS + names::GATEWAY_DRAIN_SECONDS + GRACE_MARGIN,
        ),
        topology_spread_constraints: Some(vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "kubernetes.io/hostname".to_owned(),
            // A cluster with fewer nodes than replicas still gets its gateways.
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(pod_selector(tenant, Role::Gateway)),
            ..TopologySpreadConstraint::default()
        }]),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(names::RELEASE_UID),
            run_as_group: Some(names::RELEASE_UID),
            // The kubelet gives the projected tokens to this group.
            fs_group: Some(names::RELEASE_UID),
            seccomp_profile: Some(parts::seccomp()),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(tenant, release, anchor)],
        volumes: Some(vec![parts::token_volume()]),
        ..PodSpec::default()
    }
}

fn container(tenant: &Tenant, release: &Release, anchor: &str) -> Container {
    let host = names::control_host(&release.namespace);
    Container {
        name: "gateway".to_owned(),
        image: Some(release.gateway_image.clone()),
        image_pull_policy: release.pull_policy(),
        args: Some(vec![
            "run".to_owned(),
            format!("--tenant={}", tenant.name()),
            format!("--trust-domain={}", tenant.trust_domain()),
            format!("--control={host}:{}", names::CONTROL_PORT),
            format!("--anchor={anchor}"),
            format!("--hop=0.0.0.0:{}", names::HOP_PORT),
            format!("--admin=0.0.0.0:{}", names::GATEWAY_ADMIN_PORT),
        ]),
        env: Some(vec![
            parts::field("POD_NAME", "metadata.name"),
            parts::field("POD_NAMESPACE", "metadata.namespace"),
            parts::field("POD_UID", "metadata.uid"),
        ]),
        ports: Some(vec![
            port(names::HOP_PORT_NAME, names::HOP_PORT),
            port(names::ADMIN_PORT_NAME, names::GATEWAY_ADMIN_PORT),
        ]),
        resources: Some(release.gateway_resources.clone()).filter(|resources| *resources != Default::default()),
        security_context: Some(parts::confined(names::RELEASE_UID)),
        volume_mounts: Some(vec![VolumeMount {
            name: names::TOKEN_VOLUME.to_owned(),
            mount_path: names::TOKEN_DIR.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        readiness_probe: Some(Probe { period_seconds: Some(2), failure_threshold: Some(2), ..probe("/readyz") }),
        // Slow on purpose: a gateway that is only busy must not be killed.
        liveness_probe: Some(Probe { period_seconds: Some(10), failure_threshold: Some(6), ..probe("/healthz") }),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: names::GATEWAY_LINGER_SECONDS }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        ..Container::default()
    }
}

fn port(name: &str, number: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(number),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(names::ADMIN_PORT_NAME.to_owned()),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}
