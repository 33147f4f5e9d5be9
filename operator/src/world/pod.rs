//! Pods, nodes, namespaces and NetworkPolicies, cut down to what somebody here acts upon.

use std::net::IpAddr;

use clawlock_compile::manifest::{JSON, MAX_MANIFEST, TOML};
use clawlock_compile::objects::names::{INSTALLER, MANIFEST};
use clawlock_compile::objects::sidecar::PodView;
use clawlock_crds::bounds::MAX_OBJECT_NAME;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod as Whole};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::shelf::Item;
use crate::store::marks_digest;

/// Most characters of an init container's last words that are kept, for an event.
const MAX_WORDS: usize = 800;

/// A pod: who it is, whether it has the sidecar, and whether it runs. Ten thousand of them are kept, which is why
/// it is not the API's own type: that takes five times as much, nearly all of it for what is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its UID.
    pub(crate) uid: String,
    /// Its ServiceAccount.
    pub(crate) service_account: String,
    /// Its labels, and what else says where it stands.
    pub(crate) view: PodView,
    /// The ConfigMap that has its manifest. Nothing changes it on a pod: admission refuses that.
    pub(crate) manifest: Option<String>,
    /// The digest of what of it decides which documents hold: its labels and its manifest.
    pub(crate) marks_digest: String,
    /// Its containers are ready.
    pub(crate) is_ready: bool,
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// What of its OpenClaw's configuration does not hold, once that was put under its guard; empty when all does.
    pub(crate) overridden: Option<Box<str>>,
}

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

/// Reads a ConfigMap that has a manifest. Whoever may write ConfigMaps chooses how many there are and how large: of each
/// no more is kept than shows whether it is one, and one that is too large stays too large.
#[expect(clippy::needless_pass_by_value, reason = "every reader of a watch takes what it reads")]
pub(crate) fn manifest(map: ConfigMap) -> Option<ConfigMap> {
    let cut = |text: &String| {
        let end = (MAX_MANIFEST + 1..text.len()).find(|end| text.is_char_boundary(*end));
        text.get(..end.unwrap_or(text.len())).unwrap_or_default().to_owned()
    };
    let data = map.data.iter().flatten().filter(|(key, _)| [JSON, TOML].contains(&key.as_str()));
    let ObjectMeta { name, namespace, uid, .. } = map.metadata.clone();
    Some(ConfigMap {
        metadata: ObjectMeta { name, namespace, uid, ..ObjectMeta::default() },
        data: Some(data.map(|(key, text)| (key.clone(), cut(text))).collect()),
        ..ConfigMap::default()
    })
}

/// Reads a NetworkPolicy.
pub(crate) fn network_policy(mut policy: NetworkPolicy) -> Option<NetworkPolicy> {
    policy.metadata.managed_fields = None;
    Some(policy)
}

impl Pod {
    /// What counts of a pod.
    pub(crate) fn of(pod: &Whole) -> Self {
        let view = PodView::of(pod);
        let manifest = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(MANIFEST));
        // One character more than a name has is no name of anything, which stops the pod.
        let manifest = manifest.map(|name| name.chars().take(MAX_OBJECT_NAME + 1).collect::<String>());
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        let status = pod.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let addresses = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
        Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            service_account: account.filter(|name| !name.is_empty()).unwrap_or("default").to_owned(),
            marks_digest: marks_digest(&view.labels, manifest.as_deref()),
            manifest,
            view,
            is_ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            addresses: addresses.iter().filter_map(|address| address.ip.parse().ok()).collect(),
            overridden: overridden(pod),
        }
    }

    /// The value of a label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.view.labels.get(key).map(String::as_str)
    }

    /// It has ended: its containers do not run and never will again.
    pub(crate) fn is_over(&self) -> bool {
        self.view.is_over
    }

    /// `namespace/name`.
    pub(crate) fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The last words of the init container that put OpenClaw under its guard.
fn overridden(pod: &Whole) -> Option<Box<str>> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_deref()?;
    let installer = statuses.iter().find(|status| status.name == INSTALLER)?;
    let ended = installer.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code == 0)?;
    let words: String = ended.message.iter().flat_map(|words| words.chars()).take(MAX_WORDS).collect();
    Some(words.into())
}

/// Reads a pod. What is kept is copied, so that all of the large object that it was read from is free again.
#[expect(clippy::needless_pass_by_value, reason = "every reader of a watch takes what it reads")]
pub(crate) fn pod(pod: Whole) -> Option<Pod> {
    Some(Pod::of(&pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_cut_down_and_keeps_what_counts() {
        let whole: Whole = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "namespace": "b", "uid": "u", "labels": {"clawlock.dev/role": "agent"},
                         "annotations": {"x": "y"}, "resourceVersion": "4"},
            "spec": {"initContainers": [{"name": "clawlock", "restartPolicy": "Always"}, {"name": "other"}],
                     "containers": [{"name": "main", "image": "large"}], "serviceAccountName": "bot"},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.9"}],
                       "conditions": [{"type": "Ready", "status": "True", "message": "m"}]},
        }))
        .unwrap();
        let cut = Pod::of(&whole);
        assert_eq!((&*cut.uid, &*cut.service_account, &*cut.title()), ("u", "bot", "b/a"));
        assert_eq!(cut.label("clawlock.dev/role"), Some("agent"));
        assert!(cut.is_ready && !cut.is_over() && cut.view.is_injected);
        assert_eq!(cut.addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(Pod::of(&Whole::default()).service_account, "default");
        assert_eq!(cut.manifest, None);
    }

    #[test]
    fn a_pod_names_its_manifest_within_bounds() {
        let named = |name: &str| {
            let annotations = serde_json::json!({"clawlock.dev/manifest": name});
            Pod::of(&serde_json::from_value(serde_json::json!({"metadata": {"annotations": annotations}})).unwrap())
        };
        assert_eq!(named("web-search").manifest.as_deref(), Some("web-search"));
        assert_eq!(named("").manifest.as_deref(), Some(""), "an empty name is one that is not there");
        assert_eq!(named(&"a".repeat(100_000)).manifest.map(|name| name.len()), Some(254));
        assert_ne!(named("a").marks_digest, named("b").marks_digest);
        assert_ne!(named("").marks_digest, Pod::of(&Whole::default()).marks_digest);
    }

    #[test]
    fn of_a_config_map_no_more_is_kept_than_shows_whether_it_has_a_manifest() {
        let whole: ConfigMap = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "m", "namespace": "a", "uid": "u", "annotations": {"x": "y".repeat(1000)}},
            "data": {"manifest.json": "é".repeat(1 << 19), "claw.toml": "skill = 'a'", "notes": "z".repeat(1000)},
            "binaryData": {"blob": "QUJD"},
        }))
        .unwrap();
        let cut = manifest(whole).unwrap();
        let data = cut.data.unwrap();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["claw.toml", "manifest.json"]);
        assert_eq!(data["claw.toml"], "skill = 'a'");
        // Still too large to be read, so that it is not taken for what it begins with.
        assert!((MAX_MANIFEST + 1..MAX_MANIFEST + 4).contains(&data["manifest.json"].len()));
        assert!(cut.metadata.annotations.is_none() && cut.binary_data.is_none());
        assert_eq!((cut.metadata.name.as_deref(), cut.metadata.namespace.as_deref()), (Some("m"), Some("a")));
    }

    #[test]
    fn what_of_openclaw_s_configuration_does_not_hold_is_known_once_the_installer_has_ended() {
        let overridden = |state: serde_json::Value| {
            let statuses =
                serde_json::json!([{"name": "other", "state": {}}, {"name": "clawlock-openclaw", "state": state}]);
            let pod = serde_json::json!({"metadata": {}, "status": {"initContainerStatuses": statuses}});
            Pod::of(&serde_json::from_value::<Whole>(pod).unwrap()).overridden
        };
        let ended =
            |code: i32, message: &str| serde_json::json!({"terminated": {"exitCode": code, "message": message}});
        assert_eq!(overridden(serde_json::json!({"running": {}})), None);
        assert_eq!(overridden(ended(1, "cannot be read")), None);
        assert_eq!(overridden(ended(0, "")).as_deref(), Some(""));
        assert_eq!(overridden(ended(0, "plugins.enabled: true")).as_deref(), Some("plugins.enabled: true"));
        assert_eq!(overridden(ended(0, &"é".repeat(4096))).unwrap().chars().count(), MAX_WORDS);
    }
}
