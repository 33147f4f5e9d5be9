//! Pods, nodes, namespaces and NetworkPolicies, cut down to what somebody here acts upon.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, Node, Pod, PodSpec, PodStatus};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::shelf::Item;

impl Item for Pod {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Item for NetworkPolicy {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

impl Item for ConfigMap {
    fn same(&self, other: &Self) -> bool {
        self.data == other.data && self.binary_data == other.binary_data && told(self) == told(other)
    }
}

fn told(map: &ConfigMap) -> (&Option<std::collections::BTreeMap<String, String>>, &Option<String>) {
    (&map.metadata.annotations, &map.metadata.uid)
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The tenant that its label names.
    pub(crate) tenant: Option<String>,
    /// It is being deleted, so that nothing can be made in it.
    pub(crate) ending: bool,
}

impl Item for Place {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

/// A node's addresses inside of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Its InternalIPs.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Item for Machine {
    fn same(&self, other: &Self) -> bool {
        self == other
    }
}

/// Reads a namespace.
pub(crate) fn place(namespace: Namespace) -> Option<Place> {
    let labels = namespace.metadata.labels.unwrap_or_default();
    let tenant = labels.get(clawlock_compile::objects::names::TENANT_LABEL).cloned();
    Some(Place { tenant, ending: namespace.metadata.deletion_timestamp.is_some() })
}

/// Reads a node.
pub(crate) fn machine(node: Node) -> Option<Machine> {
    let addresses = node.status.unwrap_or_default().addresses.unwrap_or_default();
    let internal = addresses.into_iter().filter(|address| address.type_ == "InternalIP");
    Some(Machine { addresses: internal.filter_map(|address| address.address.parse().ok()).collect() })
}

/// Reads a ConfigMap.
pub(crate) fn config_map(mut map: ConfigMap) -> Option<ConfigMap> {
    map.metadata.managed_fields = None;
    Some(map)
}

/// Reads a NetworkPolicy.
pub(crate) fn network_policy(mut policy: NetworkPolicy) -> Option<NetworkPolicy> {
    policy.metadata.managed_fields = None;
    Some(policy)
}

/// Reads a pod: who it is, whether it has the sidecar, and whether it runs. Ten thousand of them are kept.
pub(crate) fn pod(pod: Pod) -> Option<Pod> {
    let Pod { metadata, spec, status } = pod;
    let spec = spec.unwrap_or_default();
    let status = status.unwrap_or_default();
    let metadata = ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        labels: metadata.labels,
        deletion_timestamp: metadata.deletion_timestamp,
        ..ObjectMeta::default()
    };
    let first = spec.init_containers.unwrap_or_default().into_iter().next();
    let spec = PodSpec {
        service_account_name: spec.service_account_name,
        init_containers: first.map(|container| {
            let Container { name, image, restart_policy, .. } = container;
            vec![Container { name, image, restart_policy, ..Container::default() }]
        }),
        ..PodSpec::default()
    };
    let ready = status.conditions.unwrap_or_default().into_iter().find(|condition| condition.type_ == "Ready");
    let status = PodStatus {
        phase: status.phase,
        pod_ips: status.pod_ips,
        conditions: ready.map(|mut condition| {
            condition.last_probe_time = None;
            condition.last_transition_time = None;
            condition.message = None;
            vec![condition]
        }),
        ..PodStatus::default()
    };
    Some(Pod { metadata, spec: Some(spec), status: Some(status) })
}

/// What is asked of a pod again and again.
pub(crate) trait PodFacts {
    /// Its UID.
    fn uid_text(&self) -> &str;
    /// The value of a label.
    fn label(&self, key: &str) -> Option<&str>;
    /// It has ended: its containers do not run and never will again.
    fn is_over(&self) -> bool;
    /// Its containers are ready.
    fn is_ready(&self) -> bool;
    /// Its ServiceAccount.
    fn service_account(&self) -> &str;
    /// Its addresses.
    fn addresses(&self) -> Vec<IpAddr>;
}

impl PodFacts for Pod {
    fn uid_text(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn is_over(&self) -> bool {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    fn is_ready(&self) -> bool {
        let conditions = self.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    }

    fn service_account(&self) -> &str {
        let name = self.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        name.filter(|name| !name.is_empty()).unwrap_or("default")
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let addresses = self.status.as_ref().and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
        addresses.iter().filter_map(|address| address.ip.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_cut_down_and_keeps_what_counts() {
        let whole: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "namespace": "b", "uid": "u", "labels": {"clawlock.dev/role": "agent"},
                         "annotations": {"x": "y"}, "resourceVersion": "4"},
            "spec": {"initContainers": [{"name": "clawlock", "image": "i", "args": ["run"]}, {"name": "other"}],
                     "containers": [{"name": "main", "image": "large"}], "serviceAccountName": "bot"},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.9"}],
                       "conditions": [{"type": "Ready", "status": "True", "message": "m"}]},
        }))
        .unwrap();
        let cut = pod(whole).unwrap();
        assert_eq!((cut.uid_text(), cut.service_account()), ("u", "bot"));
        assert_eq!(cut.label("clawlock.dev/role"), Some("agent"));
        assert!(cut.is_ready() && !cut.is_over());
        assert_eq!(cut.addresses(), ["10.0.0.9".parse::<IpAddr>().unwrap()]);
        assert!(cut.metadata.annotations.is_none() && cut.metadata.resource_version.is_none());
        let spec = cut.spec.as_ref().unwrap();
        assert_eq!(spec.init_containers.as_ref().unwrap()[0].name, "clawlock");
        assert!(spec.containers.is_empty());
    }
}
