//! Updates of a pod.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use super::super::{Injection, Reason};
use super::container::{View, views};
use super::{Checked, account, refuse_if};
use crate::objects::names;

/// Names of the ephemeral containers of a pod.
pub(in crate::objects::sidecar) fn ephemeral_names(pod: &Pod) -> BTreeSet<String> {
    let containers = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    containers.map(|container| container.name.clone()).collect()
}

/// Ephemeral containers that are not in `known`.
pub(in crate::objects::sidecar) fn new_ephemeral(
    pod: &Pod,
    known: &BTreeSet<String>,
    injection: &Injection,
) -> Checked {
    let containers = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten()).enumerate();
    for (index, container) in containers.filter(|(_, container)| !known.contains(&container.name)) {
        let view = View::of_ephemeral(index, container);
        view.check()?;
        refuse_if(
            container.target_container_name.as_deref() == Some(names::SIDECAR),
            Reason::SharedProcesses,
            &format!("{}.targetContainerName", view.path),
            "it would see the sidecar's processes; name a container of the agent",
        )?;
        view.image_is_allowed(account(pod), injection.agents.images.get(account(pod)))?;
    }
    Ok(())
}

/// What an update of a pod must not change.
pub(in crate::objects::sidecar) fn update(old: &Pod, new: &Pod, injection: &Injection) -> Checked {
    let sidecars = |pod: &Pod| -> Vec<(usize, Container)> {
        let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten()).enumerate();
        containers
            .filter(|(_, container)| [names::SIDECAR, names::INSTALLER].contains(&&*container.name))
            .map(|(at, one)| (at, one.clone()))
            .collect()
    };
    refuse_if(
        sidecars(old) != sidecars(new),
        Reason::Changed,
        "spec.initContainers",
        "what was injected into a pod stays as it is; delete the pod to get a new one",
    )?;
    let volumes = |pod: &Pod| -> Vec<Volume> {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        volumes.filter(|volume| injection.volumes.iter().any(|ours| ours.name == volume.name)).cloned().collect()
    };
    refuse_if(
        volumes(old) != volumes(new),
        Reason::Changed,
        "spec.volumes",
        "the sidecar's volumes stay as they were injected; delete the pod to get a new one",
    )?;
    let labels = |pod: &Pod| -> Vec<(String, String)> {
        let labels = pod.metadata.labels.iter().flatten().filter(|(key, _)| key.starts_with(names::GROUP_PREFIX));
        labels.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    refuse_if(
        labels(old) != labels(new),
        Reason::ReservedLabel,
        "metadata.labels",
        "labels of clawlock.dev are reserved: injection writes them; leave them as they are",
    )?;
    let annotations = |pod: &Pod| -> Vec<(String, String)> {
        let all = pod.metadata.annotations.iter().flatten().filter(|(key, _)| key.starts_with(names::GROUP_PREFIX));
        all.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    // Without its manifest the pod would have whatever policy allows.
    refuse_if(
        annotations(old) != annotations(new),
        Reason::Changed,
        "metadata.annotations",
        "annotations of clawlock.dev are reserved: what a pod was created with stays; delete the pod to get a new one",
    )?;
    let Some(images) = injection.agents.images.get(account(new)) else { return Ok(()) };
    let image_before = |name: &str| {
        old.spec.iter().flat_map(views).find(|view| view.name == name).and_then(|view| view.image.map(str::to_owned))
    };
    for view in new.spec.iter().flat_map(views) {
        // What ran before its ServiceAccount was bound goes on.
        if image_before(view.name).as_deref() != view.image {
            view.image_is_allowed(account(new), Some(images))?;
        }
    }
    Ok(())
}
