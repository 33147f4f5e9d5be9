//! The one change that is made to pods of others: the sidecar, first in line, and what sends the other
//! containers through it.
//!
//! Pure, from a pod as admission sees it to JSON patch operations or a refusal. It works on the pod's own
//! JSON and replaces only the lists that it changes, so that fields of a newer Kubernetes survive.
//! Running it again changes nothing: API servers call webhooks twice, and other webhooks and built-in
//! plugins come in between. What a refusal names here the chart's admission policies refuse too; they
//! hold while this program is dead, this says why.

mod mutate;
mod openclaw;
pub(super) mod parts;
mod patch;
mod refuse;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use serde_json::Value;

pub use patch::{Operation, PatchError, apply};

use super::Release;
use super::names::{self, Role};
use crate::{AgentSettings, Tenant};

/// Everything that the injection of a tenant's pods depends on. Made once, used for every pod.
#[derive(Clone, Debug)]
pub struct Injection {
    tenant: String,
    agents: AgentSettings,
    container: Container,
    volumes: Vec<Volume>,
}

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is an agent.
    Injected(Vec<Operation>),
    /// An exemption selects it: it gets no sidecar, and no network.
    Exempt {
        /// The exemption's name.
        exemption: String,
        /// What is changed nevertheless: its API token goes.
        operations: Vec<Operation>,
    },
}

/// Why a pod is refused, for people and for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In one word.
    pub reason: Reason,
    /// Where in the pod, for example `spec.containers[0].ports[1].hostPort`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason: _, path, message } = self;
        write!(f, "{path}: {message}")
    }
}

impl std::error::Error for Refusal {}

/// Why a pod is refused, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// It cannot be read.
    Malformed,
    /// It shares namespaces of its node.
    HostNamespace,
    /// Its containers would see each other's processes, the sidecar's too.
    SharedProcesses,
    /// It chooses its node past the scheduler.
    NodeName,
    /// It could run on nodes of the control plane.
    Toleration,
    /// It could push gateways off their nodes.
    Priority,
    /// It has a volume of a kind that reaches past the pod.
    Volume,
    /// It has a volume or mount that belongs to the sidecar.
    ReservedVolume,
    /// It has a token that would speak for the sidecar.
    TokenAudience,
    /// It has a container by the sidecar's name that is not the sidecar.
    Sidecar,
    /// A container has more rights than containers have.
    Privileged,
    /// A container takes a port of its node.
    HostPort,
    /// The kubelet would connect to an address of the pod's choice.
    ProbeHost,
    /// It has the sidecar's user or group.
    ReservedUser,
    /// It has a label that only injection writes.
    ReservedLabel,
    /// Its ServiceAccount may not run this image.
    Image,
    /// A change of what must stay as it is.
    Changed,
}

impl Reason {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "Malformed",
            Self::HostNamespace => "HostNamespace",
            Self::SharedProcesses => "SharedProcesses",
            Self::NodeName => "NodeName",
            Self::Toleration => "Toleration",
            Self::Priority => "Priority",
            Self::Volume => "Volume",
            Self::ReservedVolume => "ReservedVolume",
            Self::TokenAudience => "TokenAudience",
            Self::Sidecar => "Sidecar",
            Self::Privileged => "Privileged",
            Self::HostPort => "HostPort",
            Self::ProbeHost => "ProbeHost",
            Self::ReservedUser => "ReservedUser",
            Self::ReservedLabel => "ReservedLabel",
            Self::Image => "Image",
            Self::Changed => "Changed",
        }
    }
}

impl Injection {
    /// The injection of a tenant's pods. `gateway` is the address of the gateway's Service.
    #[must_use]
    pub fn new(tenant: &Tenant, release: &Release, anchor: &str, gateway: IpAddr) -> Self {
        let gateway = SocketAddr::new(gateway, names::HOP_PORT);
        Self {
            tenant: tenant.name().to_owned(),
            agents: tenant.settings().agents.clone(),
            container: parts::container(tenant, release, anchor, gateway),
            volumes: parts::volumes(),
        }
    }

    /// The container that is injected, with every default of the API server written out.
    #[must_use]
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The volumes that are injected, with every default of the API server written out.
    #[must_use]
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// The labels that only injection writes.
    fn labels(&self) -> [(&'static str, &str); 2] {
        [(names::ROLE_LABEL, Role::Agent.as_str()), (names::TENANT_LABEL, &self.tenant)]
    }
}

/// What becomes of a pod that is created in an agents' namespace.
///
/// # Errors
/// When the pod has something that would reach past its sidecar.
pub fn inject(pod: &Value, injection: &Injection) -> Result<Outcome, Refusal> {
    let typed = read(pod)?;
    refuse::pod(&typed, injection)?;
    let labels = typed.metadata.labels.clone().unwrap_or_default();
    let exemption = injection.agents.exemptions.iter().find(|exemption| exemption.pod_selector.matches(&labels));
    match exemption {
        None => mutate::agent(pod, &typed, injection).map(Outcome::Injected),
        Some(exemption) => {
            refuse::not_injected(&typed)?;
            let operations = mutate::exempt(pod, &typed, injection)?;
            Ok(Outcome::Exempt { exemption: exemption.name.clone(), operations })
        }
    }
}

/// What becomes of the ephemeral containers that an update adds to a pod. Those that are there already
/// cannot be changed any more, and are not looked at.
///
/// # Errors
/// When one of the new ones reaches for the sidecar, or past it.
pub fn inject_ephemeral(old: &Value, new: &Value, injection: &Injection) -> Result<Vec<Operation>, Refusal> {
    let (old, typed) = (read(old)?, read(new)?);
    let known = refuse::ephemeral_names(&old);
    refuse::new_ephemeral(&typed, &known, injection)?;
    if !is_injected(&typed) {
        return Ok(Vec::new());
    }
    mutate::ephemeral(new, &known)
}

/// Whether an update leaves alone what must stay as it is: the sidecar, its volumes, reserved labels, and
/// the images of a ServiceAccount that is bound to some. Compared with the old pod and not with what
/// would be injected today, so that pods of an earlier release can still be changed and removed.
///
/// # Errors
/// When it does not.
pub fn check_update(old: &Value, new: &Value, injection: &Injection) -> Result<(), Refusal> {
    refuse::update(&read(old)?, &read(new)?, injection)
}

/// Where a pod of an agents' namespace stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// It has a sidecar.
    Governed,
    /// An exemption selects it.
    Exempt,
    /// It has none: it was there before the tenant.
    Ungoverned,
    /// It has ended.
    Over,
}

/// What of a pod its standing depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The sidecar is first in line.
    pub is_injected: bool,
    /// It has ended: its containers do not run and never will again.
    pub is_over: bool,
}

impl PodView {
    /// That of a pod.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        Self {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            is_injected: is_injected(pod),
            is_over: matches!(phase, Some("Succeeded" | "Failed")),
        }
    }
}

/// Where a pod of an agents' namespace stands.
#[must_use]
pub fn standing(pod: &PodView, tenant: &Tenant) -> Standing {
    let PodView { labels, is_injected, is_over } = pod;
    if *is_over {
        return Standing::Over;
    }
    let labelled = labels.get(names::ROLE_LABEL).is_some_and(|role| role == Role::Agent.as_str())
        && labels.get(names::TENANT_LABEL).is_some_and(|name| name == tenant.name());
    if labelled && *is_injected {
        return Standing::Governed;
    }
    let exemptions = &tenant.settings().agents.exemptions;
    if exemptions.iter().any(|exemption| exemption.pod_selector.matches(labels)) {
        return Standing::Exempt;
    }
    Standing::Ungoverned
}

/// Whether the sidecar is first in line.
fn is_injected(pod: &Pod) -> bool {
    let first = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()).and_then(|list| list.first());
    first.is_some_and(|first| first.name == names::SIDECAR && first.restart_policy.as_deref() == Some("Always"))
}

fn read(pod: &Value) -> Result<Pod, Refusal> {
    let malformed = |message: String| Refusal { reason: Reason::Malformed, path: "spec".to_owned(), message };
    let typed: Pod = serde::Deserialize::deserialize(pod).map_err(|error: serde_json::Error| {
        malformed(format!("the pod cannot be read: {}", crate::text::quoted(&error.to_string())))
    })?;
    if typed.spec.is_none() {
        return Err(malformed("the pod has no spec; write one with containers".to_owned()));
    }
    Ok(typed)
}
