//! What weakens agents' pods.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Check, State, containers};
use crate::cluster::{items, text};

/// Most pods that a message names.
const NAMED: usize = 10;

/// Secrets that pods mount or read into variables: keys that the agent holds itself.
pub(super) fn secrets(pods: &[Value]) -> Check {
    let found = pods.iter().filter_map(|pod| {
        let secrets: BTreeSet<&str> = mounted(pod).collect();
        let list: Vec<&str> = secrets.into_iter().collect();
        (!list.is_empty()).then(|| format!("{} has the Secrets {}", name(pod), list.join(", ")))
    });
    let good = "no agent's pod has a Secret of its own";
    some("secrets", good, found.collect(), "move keys into Upstreams, whose credentials only the gateway holds")
}

/// The names of the Secrets that a pod has.
fn mounted(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = items(pod, "/spec/volumes").flat_map(|volume| {
        let projected = items(volume, "/projected/sources").map(|source| text(source, "/secret/name"));
        std::iter::once(text(volume, "/secret/secretName")).chain(projected)
    });
    let variables = containers(pod).flat_map(|container| {
        let single = items(container, "/env").map(|variable| text(variable, "/valueFrom/secretKeyRef/name"));
        single.chain(items(container, "/envFrom").map(|source| text(source, "/secretRef/name")))
    });
    volumes.chain(variables).filter(|name| !name.is_empty())
}

/// Pods that were there before the tenant and have no sidecar.
pub(super) fn sidecars(pods: &[Value]) -> Check {
    let ended = |pod: &&Value| ["Succeeded", "Failed"].contains(&text(pod, "/status/phase"));
    let without = pods.iter().filter(|pod| !ended(pod) && text(pod, "/metadata/labels/clawlock.dev~1role") != "agent");
    let good = "every pod of the agents' namespaces is governed";
    some("sidecars", good, without.map(name).collect(), "restart them, or see agents.exemptions of the TenantGateway")
}

/// Pods in which AF_VSOCK sockets can be opened: the runtime's default profile leaves them open.
pub(super) fn vsock(pods: &[Value]) -> Check {
    let profile = |object: &Value| {
        object.pointer("/securityContext/seccompProfile/type").and_then(Value::as_str).map(str::to_owned)
    };
    let open = pods.iter().filter(|pod| {
        let of_pod = pod.pointer("/spec").and_then(profile);
        containers(pod).any(|container| profile(container).or_else(|| of_pod.clone()).as_deref() != Some("Localhost"))
    });
    let open: Vec<String> = open.map(name).collect();
    let good = "every agent's pod has a seccomp profile of its own; whether it closes AF_VSOCK is in the profile";
    some(
        "vsock",
        good,
        open,
        "no seccomp profile of its own closes AF_VSOCK; on virtual machines use one (type Localhost) that does",
    )
}

fn name(pod: &Value) -> String {
    format!("{}/{}", text(pod, "/metadata/namespace"), text(pod, "/metadata/name"))
}

fn some(check: &'static str, good: &str, found: Vec<String>, advice: &str) -> Check {
    if found.is_empty() {
        return Check::new(check, State::Good, good);
    }
    let more = found.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named: Vec<String> = found.into_iter().take(NAMED).collect();
    Check::new(check, State::Weak, format!("{}{more}; {advice}", named.join(", ")))
}
