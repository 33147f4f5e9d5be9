//! Containers of a pod, whichever their kind.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    Container, EphemeralContainer, Lifecycle, LifecycleHandler, PodSpec, Probe, SecurityContext, VolumeMount,
};

use super::super::{Reason, parts};
use super::{Checked, PRIVILEGED, refusal, refuse_if, reserved_user};
use crate::objects::names;
use crate::text::quoted;

/// What all three kinds of containers have in common.
pub(super) struct View<'a> {
    pub(super) path: String,
    pub(super) name: &'a str,
    pub(super) image: Option<&'a str>,
    context: Option<&'a SecurityContext>,
    mounts: Option<&'a Vec<VolumeMount>>,
    host_ports: Vec<(usize, i32)>,
    probes: [(&'static str, Option<&'a Probe>); 3],
    lifecycle: Option<&'a Lifecycle>,
}

/// All containers but the sidecar and OpenClaw's installer, which injection makes anew.
pub(super) fn views(spec: &PodSpec) -> impl Iterator<Item = View<'_>> {
    let init = spec.init_containers.iter().flatten().enumerate();
    let ours = [names::SIDECAR, names::INSTALLER];
    let init = init.filter(move |(_, container)| !ours.contains(&&*container.name));
    let init = init.map(|(index, container)| View::of("initContainers", index, container));
    let containers = spec.containers.iter().enumerate();
    let containers = containers.map(|(index, container)| View::of("containers", index, container));
    let ephemeral = spec.ephemeral_containers.iter().flatten().enumerate();
    init.chain(containers).chain(ephemeral.map(|(index, container)| View::of_ephemeral(index, container)))
}

impl<'a> View<'a> {
    fn of(list: &str, index: usize, container: &'a Container) -> Self {
        let ports = container.ports.iter().flatten().enumerate();
        Self {
            path: format!("spec.{list}[{index}]"),
            name: &container.name,
            image: container.image.as_deref(),
            context: container.security_context.as_ref(),
            mounts: container.volume_mounts.as_ref(),
            host_ports: ports.filter_map(|(index, port)| Some((index, port.host_port?))).collect(),
            probes: [
                ("livenessProbe", container.liveness_probe.as_ref()),
                ("readinessProbe", container.readiness_probe.as_ref()),
                ("startupProbe", container.startup_probe.as_ref()),
            ],
            lifecycle: container.lifecycle.as_ref(),
        }
    }

    pub(super) fn of_ephemeral(index: usize, container: &'a EphemeralContainer) -> Self {
        let ports = container.ports.iter().flatten().enumerate();
        Self {
            path: format!("spec.ephemeralContainers[{index}]"),
            name: &container.name,
            image: container.image.as_deref(),
            context: container.security_context.as_ref(),
            mounts: container.volume_mounts.as_ref(),
            host_ports: ports.filter_map(|(index, port)| Some((index, port.host_port?))).collect(),
            probes: [
                ("livenessProbe", container.liveness_probe.as_ref()),
                ("readinessProbe", container.readiness_probe.as_ref()),
                ("startupProbe", container.startup_probe.as_ref()),
            ],
            lifecycle: container.lifecycle.as_ref(),
        }
    }

    pub(super) fn check(&self) -> Checked {
        let Self { path, name, image: _, context, mounts, host_ports, probes, lifecycle } = self;
        refuse_if(
            [names::SIDECAR, names::INSTALLER].contains(name),
            Reason::Sidecar,
            &format!("{path}.name"),
            "the names clawlock and clawlock-openclaw are injection's; rename the container",
        )?;
        if let Some(context) = context {
            check_context(&format!("{path}.securityContext"), context)?;
        }
        for (index, mount) in mounts.iter().flat_map(|mounts| mounts.iter()).enumerate() {
            check_mount(&format!("{path}.volumeMounts[{index}]"), mount)?;
        }
        for (index, port) in host_ports {
            refuse_if(
                *port != 0,
                Reason::HostPort,
                &format!("{path}.ports[{index}].hostPort"),
                "a port of the node lets others past the NetworkPolicies; remove it, and use a Service",
            )?;
        }
        for (field, probe) in probes {
            let host = probe.is_some_and(|probe| {
                named(probe.http_get.as_ref().and_then(|action| action.host.as_deref()))
                    || named(probe.tcp_socket.as_ref().and_then(|action| action.host.as_deref()))
            });
            refuse_if(host, Reason::ProbeHost, &format!("{path}.{field}"), PROBE)?;
        }
        let Some(lifecycle) = lifecycle else { return Ok(()) };
        for (field, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            let host = handler.as_ref().is_some_and(|LifecycleHandler { exec: _, http_get, sleep: _, tcp_socket }| {
                named(http_get.as_ref().and_then(|action| action.host.as_deref()))
                    || named(tcp_socket.as_ref().and_then(|action| action.host.as_deref()))
            });
            refuse_if(host, Reason::ProbeHost, &format!("{path}.lifecycle.{field}"), PROBE)?;
        }
        Ok(())
    }

    pub(super) fn image_is_allowed(&self, account: &str, images: Option<&BTreeSet<String>>) -> Checked {
        let Some(images) = images else { return Ok(()) };
        refuse_if(
            !self.image.is_some_and(|image| images.contains(image)),
            Reason::Image,
            &format!("{}.image", self.path),
            &format!(
                "ServiceAccount {} runs only the images that the TenantGateway lists, and {} is none of them; use \
                 another ServiceAccount, or ask the platform team",
                quoted(account),
                quoted(self.image.unwrap_or_default())
            ),
        )
    }
}

const PROBE: &str = "the kubelet would connect to an address of the pod's choice, past the gateway; remove host";

fn named(host: Option<&str>) -> bool {
    host.is_some_and(|host| !host.is_empty())
}

fn check_context(path: &str, context: &SecurityContext) -> Checked {
    reserved_user(&format!("{path}.runAsUser"), context.run_as_user)?;
    reserved_user(&format!("{path}.runAsGroup"), context.run_as_group)?;
    refuse_if(context.privileged == Some(true), Reason::Privileged, &format!("{path}.privileged"), PRIVILEGED)?;
    let host_process = context.windows_options.as_ref().and_then(|options| options.host_process);
    let at = format!("{path}.windowsOptions.hostProcess");
    refuse_if(host_process == Some(true), Reason::Privileged, &at, PRIVILEGED)?;
    let added = context.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
    // Ports below 1024 are the pod's own; Pod Security `restricted` allows this one too.
    let mut added = added.filter(|name| *name != "NET_BIND_SERVICE");
    match added.next() {
        None => Ok(()),
        Some(name) => Err(refusal(
            Reason::Privileged,
            format!("{path}.capabilities.add"),
            format!("capability {} reaches past the container; remove it", quoted(name)),
        )),
    }
}

/// The volumes of ours are mounted by our containers alone, but for those that agents read.
fn check_mount(path: &str, mount: &VolumeMount) -> Checked {
    if [parts::agent_mount(), parts::openclaw_mount()].contains(mount) {
        return Ok(());
    }
    let reserved = names::VOLUMES.contains(&mount.name.as_str());
    refuse_if(
        reserved || is_ours(&mount.mount_path),
        Reason::ReservedVolume,
        path,
        &format!(
            "{} and everything below {} belong to the sidecar; mount another volume elsewhere",
            quoted(&mount.name),
            names::RUN_DIR
        ),
    )
}

/// Whether a path is where the sidecar's files are, in whichever spelling.
fn is_ours(path: &str) -> bool {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    // In most images /var/run is a link to /run.
    let parts = parts.strip_prefix(&["var"]).filter(|rest| rest.first() == Some(&"run")).unwrap_or(&parts);
    matches!(parts, ["run", "clawlock", ..])
}
