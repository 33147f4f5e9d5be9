//! What the pods on this replica's streams acknowledged and found, for the leader: one ConfigMap per
//! replica, written at most once a second, and summed by whoever leads.
//!
//! Nothing is decided by it. It is status, so a replica writes its own without the Lease.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawlock_compile::objects::names::{FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL, replica};
use clawlock_control::message::{IsolationOutcome, IsolationTarget, PluginState};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::cluster::Brief;
use crate::world::World;

/// Between two writes of the report.
const DEBOUNCE: Duration = Duration::from_secs(1);
/// With this many pods the report is some 400 kB, and is written less often.
const MANY: usize = 2000;
/// Between two writes of a large report.
const DEBOUNCE_MANY: Duration = Duration::from_secs(5);
/// How often it is looked whether the report is still there.
const AUDIT: Duration = Duration::from_secs(15);
/// Longest that one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The key of the ConfigMap.
const KEY: &str = "report.json";
/// Most characters of a report's detail that are kept; a person reads it in a status.
const MAX_DETAIL: usize = 128;
/// Most isolation findings, nodes, and plugins of one tenant that are reported by name.
const MAX_FINDINGS: usize = 20;

/// What a replica has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// By tenant.
    #[serde(default)]
    pub(crate) tenants: BTreeMap<String, TenantReport>,
}

/// What a replica has seen of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TenantReport {
    /// UIDs of pods by the generation that they have in force.
    #[serde(default)]
    pub(crate) generations: BTreeMap<u64, BTreeSet<String>>,
    /// What sidecars found, by UID, when it is not what it should be.
    #[serde(default)]
    pub(crate) findings: BTreeMap<String, Finding>,
    /// Nodes that answer their own pods.
    #[serde(default)]
    pub(crate) own_nodes: BTreeSet<IpAddr>,
    /// What sidecars hear of guard plugins, by UID, when it is not that they report.
    #[serde(default)]
    pub(crate) plugins: BTreeMap<String, Plugin>,
}

/// What a sidecar hears of the guard plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plugin {
    /// `namespace/name` of the pod.
    pub(crate) pod: String,
    /// What it hears.
    pub(crate) state: PluginState,
    /// For people.
    pub(crate) detail: String,
}

impl TenantReport {
    /// Those of which nothing was heard yet must not keep out the others, which people have to look at.
    fn has_place_for(&self, state: PluginState) -> bool {
        self.plugins.values().filter(|known| known.state == state).count() < MAX_FINDINGS
    }
}

impl Plugin {
    /// What the sidecar of `pod` says; `detail` comes from there and is cut.
    pub(crate) fn new(pod: &str, state: PluginState, detail: &str) -> Self {
        Self { pod: pod.to_owned(), state, detail: cut(detail) }
    }
}

/// A text of a sidecar, short and on one line.
fn cut(detail: &str) -> String {
    detail.chars().filter(|c| !c.is_control()).take(MAX_DETAIL).collect()
}

/// What a sidecar found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// `namespace/name` of the pod.
    pub(crate) pod: String,
    /// What came of the try.
    pub(crate) outcome: IsolationOutcome,
    /// What was tried.
    pub(crate) target: IsolationTarget,
    /// For people.
    pub(crate) detail: String,
}

impl Finding {
    /// What the sidecar of `pod` says; `detail` comes from there and is cut.
    pub(crate) fn new(pod: &str, outcome: IsolationOutcome, target: IsolationTarget, detail: &str) -> Self {
        Self { pod: pod.to_owned(), outcome, target, detail: cut(detail) }
    }
}

impl Report {
    /// Reads a replica's ConfigMap. One that cannot be read says nothing.
    pub(crate) fn read(map: &ConfigMap) -> Self {
        let text = map.data.as_ref().and_then(|data| data.get(KEY));
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The largest generation of a tenant.
    pub(crate) fn newest(&self, tenant: &str) -> Option<u64> {
        self.tenants.get(tenant)?.generations.keys().next_back().copied()
    }
}

/// What the replicas together say of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// The newest generation of each pod, by UID.
    pub(crate) generations: BTreeMap<String, u64>,
    /// What sidecars found, by UID.
    pub(crate) findings: BTreeMap<String, Finding>,
    /// Nodes that answer their own pods.
    pub(crate) own_nodes: BTreeSet<IpAddr>,
    /// Guard plugins that do not report, by UID.
    pub(crate) plugins: BTreeMap<String, Plugin>,
}

/// Sums up reports.
pub(crate) fn sum<'a>(tenant: &str, reports: impl Iterator<Item = &'a Report>) -> Sum {
    let mut sum = Sum::default();
    for report in reports.filter_map(|report| report.tenants.get(tenant)) {
        for (generation, uids) in &report.generations {
            for uid in uids {
                let known = sum.generations.entry(uid.clone()).or_default();
                *known = (*known).max(*generation);
            }
        }
        sum.findings.extend(report.findings.clone());
        sum.own_nodes.extend(&report.own_nodes);
        sum.plugins.extend(report.plugins.clone());
    }
    sum
}

/// Collects what the streams of this replica say.
#[derive(Default)]
pub(crate) struct Acks {
    pods: Mutex<BTreeMap<(String, String), PodAcks>>,
    changed: watch::Sender<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct PodAcks {
    generation: u64,
    finding: Option<Finding>,
    own_node: Option<IpAddr>,
    plugin: Option<Plugin>,
    /// Streams of the pod; it is forgotten with the last one.
    streams: usize,
}

/// The acknowledgements of one stream. When it is dropped, what it said is forgotten.
pub(crate) struct StreamAcks {
    acks: Arc<Acks>,
    key: (String, String),
}

impl Acks {
    /// A stream of a pod begins.
    pub(crate) fn stream(self: &Arc<Self>, tenant: &str, uid: &str) -> StreamAcks {
        let key = (tenant.to_owned(), uid.to_owned());
        self.lock().entry(key.clone()).or_default().streams += 1;
        StreamAcks { acks: self.clone(), key }
    }

    /// Moves with every change.
    #[cfg(test)]
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The newest generation of a tenant.
    #[cfg(test)]
    pub(crate) fn newest(&self, tenant: &str) -> Option<u64> {
        self.report().0.newest(tenant)
    }

    fn report(&self) -> (Report, usize) {
        let pods = self.lock();
        let mut report = Report::default();
        for ((tenant, uid), PodAcks { generation, finding, own_node, plugin, streams: _ }) in pods.iter() {
            let tenant = report.tenants.entry(tenant.clone()).or_default();
            tenant.generations.entry(*generation).or_default().insert(uid.clone());
            if let Some(finding) = finding.clone().filter(|_| tenant.findings.len() < MAX_FINDINGS) {
                tenant.findings.insert(uid.clone(), finding);
            }
            if let Some(plugin) = plugin.clone().filter(|plugin| tenant.has_place_for(plugin.state)) {
                tenant.plugins.insert(uid.clone(), plugin);
            }
            tenant.own_nodes.extend(own_node.filter(|_| tenant.own_nodes.len() < MAX_FINDINGS));
        }
        (report, pods.len())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), PodAcks>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Writes the report whenever it changed. Runs until it is dropped.
    pub(crate) async fn run(self: Arc<Self>, client: Client, world: Arc<World>, pod: String) {
        let api: Api<ConfigMap> = Api::namespaced(client, world.release());
        let name = replica(&pod);
        let mut changed = self.changed.subscribe();
        let mut written: Option<Report> = None;
        loop {
            changed.mark_unchanged();
            let (report, pods) = self.report();
            let mut failed = false;
            let lost = world.reports.is_synced(world.release()) && world.reports.get(world.release(), &name).is_none();
            if lost || written.as_ref() != Some(&report) {
                match write(&api, &name, &report).await {
                    Ok(()) => written = Some(report),
                    Err(error) => {
                        failed = true;
                        tracing::warn!("the acknowledgements of this replica are not written: {error}");
                    }
                }
            }
            tokio::time::sleep(if pods > MANY { DEBOUNCE_MANY } else { DEBOUNCE }).await;
            if failed {
                continue;
            }
            if let Ok(Err(_)) = tokio::time::timeout(AUDIT, changed.changed()).await {
                return;
            }
        }
    }
}

async fn write(api: &Api<ConfigMap>, name: &str, report: &Report) -> Result<(), String> {
    let text = serde_json::to_string(report).map_err(|error| error.to_string())?;
    let map = serde_json::json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
        "data": {KEY: text},
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match tokio::time::timeout(WRITE_TIMEOUT, api.patch(name, &params, &Patch::Apply(map))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Brief(&error).to_string()),
        Err(_) => Err("the API server did not answer in time".to_owned()),
    }
}

impl StreamAcks {
    /// The pod has this generation in force.
    pub(crate) fn generation(&self, generation: u64) {
        self.change(|acks| acks.generation = generation);
    }

    /// The pod's sidecar tried to get out.
    pub(crate) fn isolation(&self, finding: Finding, own_node: Option<IpAddr>) {
        self.change(|acks| {
            acks.finding = Some(finding).filter(|finding| finding.outcome != IsolationOutcome::Dropped);
            acks.own_node = own_node;
        });
    }

    /// What the pod's sidecar hears of the guard plugin.
    pub(crate) fn plugin(&self, plugin: Plugin) {
        let is_fine = matches!(plugin.state, PluginState::Optional | PluginState::Reporting);
        self.change(|acks| acks.plugin = Some(plugin).filter(|_| !is_fine));
    }

    fn change(&self, change: impl FnOnce(&mut PodAcks)) {
        let mut pods = self.acks.lock();
        let Some(acks) = pods.get_mut(&self.key) else { return };
        let before = acks.clone();
        change(acks);
        let changed = *acks != before;
        drop(pods);
        if changed {
            self.acks.ring();
        }
    }
}

impl Drop for StreamAcks {
    fn drop(&mut self) {
        let mut pods = self.acks.lock();
        if let Some(acks) = pods.get_mut(&self.key) {
            acks.streams = acks.streams.saturating_sub(1);
            if acks.streams == 0 {
                pods.remove(&self.key);
            }
        }
        drop(pods);
        self.acks.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_summed_by_the_newest_generation() {
        let of = |generation: u64| {
            let acks = Arc::new(Acks::default());
            let stream = acks.stream("acme", "uid");
            stream.generation(generation);
            acks.report().0
        };
        let reports = [of(3), of(7), of(5)];
        let sum = sum("acme", reports.iter());
        assert_eq!(sum.generations["uid"], 7);
        assert_eq!(reports[1].newest("acme"), Some(7));
        assert_eq!(reports[1].newest("other"), None);
    }

    #[test]
    fn a_pod_is_forgotten_with_its_last_stream() {
        let acks = Arc::new(Acks::default());
        let one = acks.stream("acme", "uid");
        let two = acks.stream("acme", "uid");
        two.generation(4);
        drop(one);
        assert_eq!(acks.report().0.newest("acme"), Some(4));
        drop(two);
        assert!(acks.report().0.tenants.is_empty());
    }

    #[test]
    fn only_what_is_wrong_is_a_finding() {
        let acks = Arc::new(Acks::default());
        let stream = acks.stream("acme", "uid");
        let found = |outcome, detail| Finding::new("acme/a", outcome, IsolationTarget::Tripwire, detail);
        stream.isolation(found(IsolationOutcome::Answered, "10.0.0.1:53\nx"), None);
        let finding = acks.report().0.tenants["acme"].findings["uid"].clone();
        assert_eq!((finding.pod.as_str(), finding.detail.as_str()), ("acme/a", "10.0.0.1:53x"));
        let node = "10.0.0.2".parse().unwrap();
        stream.isolation(found(IsolationOutcome::Dropped, ""), Some(node));
        let report = acks.report().0;
        assert!(report.tenants["acme"].findings.is_empty());
        assert_eq!(sum("acme", [&report, &report].into_iter()).own_nodes, BTreeSet::from([node]));
        stream.isolation(found(IsolationOutcome::Dropped, ""), None);
        assert!(acks.report().0.tenants["acme"].own_nodes.is_empty());
    }

    #[test]
    fn only_plugins_that_do_not_report_are_named_and_the_new_ones_leave_room() {
        let acks = Arc::new(Acks::default());
        let stream = acks.stream("acme", "uid");
        let told = |state| Plugin::new("acme/a", state, "");
        stream.plugin(told(PluginState::Silent));
        assert_eq!(acks.report().0.tenants["acme"].plugins["uid"].state, PluginState::Silent);
        for state in [PluginState::Reporting, PluginState::Optional] {
            stream.plugin(told(PluginState::Disobeyed));
            stream.plugin(told(state));
            assert!(acks.report().0.tenants["acme"].plugins.is_empty(), "{state:?}");
        }
        let many: Vec<StreamAcks> = (0..100).map(|at| acks.stream("acme", &format!("a{at}"))).collect();
        many.iter().for_each(|stream| stream.plugin(told(PluginState::Awaited)));
        stream.plugin(told(PluginState::Disobeyed));
        let plugins = &acks.report().0.tenants["acme"].plugins;
        assert_eq!((plugins.len(), plugins["uid"].state), (MAX_FINDINGS + 1, PluginState::Disobeyed));
    }

    #[test]
    fn a_report_survives_being_written() {
        let acks = Arc::new(Acks::default());
        let stream = acks.stream("acme", "uid");
        stream.generation(9);
        let report = acks.report().0;
        let text = serde_json::to_string(&report).unwrap();
        let map = ConfigMap { data: Some([(KEY.to_owned(), text)].into()), ..ConfigMap::default() };
        assert_eq!(Report::read(&map), report);
        let garbage = ConfigMap { data: Some([(KEY.to_owned(), "{".to_owned())].into()), ..ConfigMap::default() };
        assert_eq!(Report::read(&garbage), Report::default());
    }
}
