//! What is put into a pod: the sidecar's container and its volumes.
//!
//! Every default of the API server is written out, so that what comes back from it can be compared.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecurityContext, ServiceAccountTokenProjection,
    Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::Tenant;
use crate::objects::{Release, names};

/// Size of the volumes in memory: a key, a certificate, a socket.
const MEMORY_VOLUME: &str = "1Mi";

/// Size of the volume with OpenClaw's plugin and configuration, of which up to 1 MiB is read and which is written with
/// indentation.
const OPENCLAW_MEMORY: &str = "8Mi";

/// Seconds that the sidecar may take to prove that the pod is isolated, before it is started again: it
/// waits for the gateway, which may itself have to be scheduled.
const STARTUP_SECONDS: i32 = 600;

/// Mode of the token's file, the API server's default. The kubelet narrows it where it can.
const TOKEN_MODE: i32 = 0o644;

/// The sidecar.
pub(super) fn container(tenant: &Tenant, release: &Release, anchor: &str, gateway: SocketAddr) -> Container {
    Container {
        name: names::SIDECAR.to_owned(),
        image: Some(release.sidecar_image.clone()),
        image_pull_policy: release.pull_policy(),
        restart_policy: Some("Always".to_owned()),
        args: Some(vec![
            "run".to_owned(),
            format!("--tenant={}", tenant.name()),
            format!("--trust-domain={}", tenant.trust_domain()),
            format!("--gateway={gateway}"),
            format!("--anchor={anchor}"),
        ]),
        env: Some(vec![
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            field("POD_UID", "metadata.uid"),
            field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
            field("HOST_IP", "status.hostIP"),
        ]),
        resources: Some(release.sidecar_resources.clone())
            .filter(|resources| *resources != ResourceRequirements::default()),
        security_context: Some(confined(names::SIDECAR_UID)),
        startup_probe: Some(probe("/startupz", 1, STARTUP_SECONDS)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        volume_mounts: Some(vec![
            mount(names::TOKEN_VOLUME, names::TOKEN_DIR, Some(true)),
            mount(names::PRIVATE_VOLUME, names::PRIVATE_DIR, None),
            mount(names::AGENT_VOLUME, names::AGENT_DIR, None),
        ]),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        termination_message_policy: Some("File".to_owned()),
        ..Container::default()
    }
}

/// The sidecar of a pod for Windows: without what the API server refuses there. There is no such sidecar,
/// so that the pod never starts.
pub(super) fn for_windows(mut container: Container) -> Container {
    container.security_context = Some(SecurityContext { run_as_non_root: Some(true), ..SecurityContext::default() });
    container
}

/// The volumes of the sidecar.
pub(super) fn volumes() -> Vec<Volume> {
    vec![
        token_volume(),
        memory(names::PRIVATE_VOLUME, MEMORY_VOLUME),
        memory(names::AGENT_VOLUME, MEMORY_VOLUME),
        memory(names::OPENCLAW_VOLUME, OPENCLAW_MEMORY),
    ]
}

/// The token that proves to the control API which pod asks.
pub(in crate::objects) fn token_volume() -> Volume {
    Volume {
        name: names::TOKEN_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(vec![VolumeProjection {
                service_account_token: Some(ServiceAccountTokenProjection {
                    audience: Some(names::AUDIENCE.to_owned()),
                    expiration_seconds: Some(names::TOKEN_SECONDS),
                    path: names::TOKEN_FILE.to_owned(),
                }),
                ..VolumeProjection::default()
            }]),
            default_mode: Some(TOKEN_MODE),
        }),
        ..Volume::default()
    }
}

fn memory(name: &str, size: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity(size.to_owned())),
        }),
        ..Volume::default()
    }
}

/// What every other container of the pod mounts.
pub(super) fn agent_mount() -> VolumeMount {
    mount(names::AGENT_VOLUME, names::AGENT_DIR, Some(true))
}

/// What OpenClaw's container mounts too.
pub(super) fn openclaw_mount() -> VolumeMount {
    mount(names::OPENCLAW_VOLUME, names::OPENCLAW_DIR, Some(true))
}

pub(super) fn mount(name: &str, path: &str, read_only: Option<bool>) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: path.to_owned(), read_only, ..VolumeMount::default() }
}

/// A variable with a field of the pod.
pub(in crate::objects) fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: Some("v1".to_owned()), field_path: path.to_owned() }),
            ..EnvVarSource::default()
        }),
    }
}

/// A container that passes Pod Security `restricted` whatever its pod says.
pub(in crate::objects) fn confined(user: i64) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        read_only_root_filesystem: Some(true),
        run_as_group: Some(user),
        run_as_non_root: Some(true),
        run_as_user: Some(user),
        seccomp_profile: Some(seccomp()),
        ..SecurityContext::default()
    }
}

/// The runtime's own seccomp profile.
pub(in crate::objects) fn seccomp() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(names::SIDECAR_HEALTH_PORT)),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(2),
        period_seconds: Some(period),
        success_threshold: Some(1),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
