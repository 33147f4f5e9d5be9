//! What a pod of an agents' namespace must not have: whatever would reach past its sidecar, or be taken
//! for it. The first finding is told.

mod container;
mod update;
mod volume;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, PodSpec, ResourceRequirements, Toleration};

use super::{Injection, Reason, Refusal, mutate, parts};
use crate::objects::names;
use crate::text::quoted;

pub(super) use update::{ephemeral_names, new_ephemeral, update};

type Checked = Result<(), Refusal>;

fn refusal(reason: Reason, path: impl Into<String>, message: impl Into<String>) -> Refusal {
    Refusal { reason, path: path.into(), message: message.into() }
}

/// Refuses when a condition holds.
fn refuse_if(holds: bool, reason: Reason, path: &str, message: &str) -> Checked {
    if holds { Err(refusal(reason, path, message)) } else { Ok(()) }
}

/// The ServiceAccount of a pod.
pub(super) fn account(pod: &Pod) -> &str {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    account.filter(|account| !account.is_empty()).unwrap_or("default")
}

/// Everything, for a pod that is created.
pub(super) fn pod(pod: &Pod, injection: &Injection) -> Checked {
    let Some(spec) = &pod.spec else {
        return Err(refusal(Reason::Malformed, "spec", "the pod has no spec; write one with containers"));
    };
    labels(pod, injection)?;
    node(spec)?;
    if let Some(context) = &spec.security_context {
        pod_user(context)?;
    }
    for (index, volume) in spec.volumes.iter().flatten().enumerate() {
        volume::check(&format!("spec.volumes[{index}]"), volume, injection)?;
    }
    sidecars(spec, injection)?;
    let images = injection.agents.images.get(account(pod));
    for view in container::views(spec) {
        view.check()?;
        view.image_is_allowed(account(pod), images)?;
    }
    Ok(())
}

/// A pod that is no agent has nothing of one.
pub(super) fn not_injected(pod: &Pod) -> Checked {
    let spec = pod.spec.as_ref();
    let has = |name: &str| spec.is_some_and(|spec| spec.volumes.iter().flatten().any(|volume| volume.name == name));
    let containers = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten());
    refuse_if(
        containers.into_iter().any(|container| [names::SIDECAR, names::INSTALLER].contains(&&*container.name))
            || names::VOLUMES.into_iter().any(has)
            || pod.metadata.labels.iter().flatten().any(|(key, _)| key.starts_with(names::GROUP_PREFIX)),
        Reason::Sidecar,
        "metadata.labels",
        "an exemption of the TenantGateway selects this pod, which has parts of a sidecar; remove them, or the label \
         that the exemption selects by",
    )
}

/// Reserved labels are there only beside the sidecar, as injection writes them. Another webhook may have
/// put a container before it since.
fn labels(pod: &Pod, injection: &Injection) -> Checked {
    let mut init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let injected = init.any(|container| container.name == names::SIDECAR);
    for (key, value) in pod.metadata.labels.iter().flatten() {
        if !key.starts_with(names::GROUP_PREFIX) {
            continue;
        }
        let ours = injection.labels().iter().any(|(known, wanted)| known == key && wanted == value);
        refuse_if(
            !(ours && injected),
            Reason::ReservedLabel,
            "metadata.labels",
            &format!("label {} is reserved: injection writes it; remove it from the pod or its template", quoted(key)),
        )?;
    }
    Ok(())
}

/// Labels of nodes of the control plane, which are also their taints.
const CONTROL_PLANE: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

fn node(spec: &PodSpec) -> Checked {
    for (field, set) in [("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc)] {
        refuse_if(
            set == Some(true),
            Reason::HostNamespace,
            &format!("spec.{field}"),
            "the pod would share a namespace of its node, and so have the node's network and processes; remove it",
        )?;
    }
    refuse_if(
        spec.share_process_namespace == Some(true),
        Reason::SharedProcesses,
        "spec.shareProcessNamespace",
        "the agent would see the sidecar's processes; remove it",
    )?;
    refuse_if(
        spec.node_name.as_deref().is_some_and(|name| !name.is_empty()),
        Reason::NodeName,
        "spec.nodeName",
        "the scheduler chooses the node; remove it, and use nodeSelector or affinity",
    )?;
    refuse_if(
        spec.priority_class_name.as_deref().is_some_and(|name| name.starts_with("system-")),
        Reason::Priority,
        "spec.priorityClassName",
        "system priorities could push gateways off their nodes; use a priority class of your own",
    )?;
    let everything = |toleration: &Toleration| toleration.key.as_deref().unwrap_or_default().is_empty();
    let control_plane = |toleration: &Toleration| {
        toleration.key.as_deref().is_some_and(|key| CONTROL_PLANE.contains(&key)) || everything(toleration)
    };
    let index = spec.tolerations.iter().flatten().position(control_plane);
    refuse_if(
        index.is_some(),
        Reason::Toleration,
        &format!("spec.tolerations[{}]", index.unwrap_or_default()),
        "the pod could run beside the control plane, which its own node always lets it reach; name the taints that \
         it tolerates",
    )
}

fn pod_user(context: &PodSecurityContext) -> Checked {
    let at = |field: &str| format!("spec.securityContext.{field}");
    reserved_user(&at("runAsUser"), context.run_as_user)?;
    reserved_user(&at("runAsGroup"), context.run_as_group)?;
    reserved_user(&at("fsGroup"), context.fs_group)?;
    for group in context.supplemental_groups.iter().flatten() {
        reserved_user(&at("supplementalGroups"), Some(*group))?;
    }
    let host_process = context.windows_options.as_ref().and_then(|options| options.host_process);
    refuse_if(host_process == Some(true), Reason::Privileged, &at("windowsOptions.hostProcess"), PRIVILEGED)
}

const PRIVILEGED: &str = "the container would have rights over its node; remove it";

/// Processes of the sidecar's user can do what it can.
fn reserved_user(path: &str, id: Option<i64>) -> Checked {
    let message = format!("{} is the sidecar's; use another", names::SIDECAR_UID);
    refuse_if(id == Some(names::SIDECAR_UID), Reason::ReservedUser, path, &message)
}

/// A container by the sidecar's name is the sidecar, and is there once.
fn sidecars(spec: &PodSpec, injection: &Injection) -> Checked {
    let tokens: BTreeSet<&str> = spec
        .volumes
        .iter()
        .flatten()
        .filter(|volume| mutate::is_api_token(volume))
        .map(|volume| volume.name.as_str())
        .collect();
    let is_windows = spec.os.as_ref().is_some_and(|os| os.name == "windows");
    let wanted = if is_windows { parts::for_windows(injection.container.clone()) } else { injection.container.clone() };
    let wanted = comparable(&wanted, &tokens);
    let mut seen = false;
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        if container.name == names::SIDECAR {
            refuse_if(
                seen || comparable(container, &tokens) != wanted,
                Reason::Sidecar,
                &format!("spec.initContainers[{index}]"),
                "the name clawlock is the sidecar's, and this is not what would be injected; remove the container",
            )?;
            seen = true;
        }
    }
    Ok(())
}

/// A container without what others may change in the sidecar on the way: amounts of resources (LimitRanger),
/// the pull policy (AlwaysPullImages), an API token (ServiceAccount), and what the API server fills in.
fn comparable(container: &Container, tokens: &BTreeSet<&str>) -> Container {
    let mut container = container.clone();
    // Claims are devices, which nobody has to add.
    let claims = container.resources.take().and_then(|resources| resources.claims);
    container.resources = claims.map(|claims| ResourceRequirements { claims: Some(claims), ..Default::default() });
    container.resize_policy = None;
    container.image_pull_policy = None;
    if let Some(mounts) = &mut container.volume_mounts {
        mounts.retain(|mount| !tokens.contains(mount.name.as_str()));
    }
    if let Some(context) = &mut container.security_context
        && context.proc_mount.as_deref() == Some("Default")
    {
        context.proc_mount = None;
    }
    container
}
