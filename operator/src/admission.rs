//! ConfigMap `clawlock-admission`: what the chart's admission policies compare with. They stand while the
//! operator is dead, and CEL reads no JSON, so each fact has a key of its own.
//!
//! What changed keeps its value of before beside the new one: pods of the release before must still be
//! admitted. A tenant is here once its gateway has an address that is stored, and with it what its sidecars
//! carry; until then admission refuses its agents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawlock_compile::Tenant;
use clawlock_compile::objects::Release;
use clawlock_compile::objects::names::{ADMISSION, MANAGED_BY, MANAGED_BY_LABEL};
use clawlock_compile::objects::sidecar::Injection;
use clawlock_crds::AgentSelector;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ApiResource;
use serde_json::json;

use crate::accept::InForce;
use crate::cluster::WriteError;
use crate::tenant::Context;
use crate::world::World;
use crate::world::resource::Read;

const IMAGE: &str = "sidecar-image";
const PREVIOUS: &str = "previous-";

/// What the watch does not show after this time, somebody else has written or deleted.
const LAG: Duration = Duration::from_secs(3);

/// Keeps the ConfigMap.
pub(crate) struct Admission {
    world: Arc<World>,
    /// What was written last, and when; the watch may lag behind it.
    written: Option<(BTreeMap<String, String>, Instant)>,
    known: BTreeSet<String>,
}

impl Admission {
    /// Nothing was written yet.
    pub(crate) fn new(world: Arc<World>) -> Self {
        Self { world, written: None, known: BTreeSet::new() }
    }

    /// Whether admission knows what a tenant's agents carry.
    pub(crate) fn knows(&self, tenant: &str) -> bool {
        self.known.contains(tenant)
    }

    /// Writes what changed.
    ///
    /// # Errors
    /// When it was not written.
    pub(crate) async fn publish(&mut self, context: &Context, in_force: &InForce) -> Result<(), WriteError> {
        let seen = self.world.reports.get(self.world.release(), ADMISSION);
        let seen_data = seen.as_ref().and_then(|map| map.data.clone());
        let mine = self.written.as_ref().map(|(data, _)| data.clone());
        let old = mine.clone().or_else(|| seen_data.clone()).unwrap_or_default();
        let mut data = facts(context, in_force);
        let known = data.keys().filter_map(|key| key.strip_prefix("args_")).map(str::to_owned).collect();
        remember(&mut data, &old);
        let settled = self.written.as_ref().is_none_or(|(_, at)| at.elapsed() > LAG);
        if mine.as_ref() != Some(&data) || (settled && seen_data.as_ref() != Some(&data)) {
            let map = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": ADMISSION, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
                "data": data,
            });
            let resource = ApiResource::erase::<ConfigMap>(&());
            context.writer.apply(&resource, self.world.release(), ADMISSION, &map).await?;
            self.written = Some((data, Instant::now()));
        }
        self.known = known;
        Ok(())
    }
}

/// What holds now.
fn facts(context: &Context, in_force: &InForce) -> BTreeMap<String, String> {
    let mut data = BTreeMap::from([(IMAGE.to_owned(), context.release.sidecar_image.clone())]);
    for tenant in in_force.settled.compilation.tenants() {
        let name = tenant.name();
        let stored = in_force.tenants.get(name);
        let Some(address) = stored.and_then(|stored| stored.memory.cluster_ip) else { continue };
        let args = arguments(tenant, &context.release, context.anchor.base64(), address);
        data.insert(format!("args_{name}"), args);
        if let Some(keys) = selector_keys(&context.world, tenant) {
            data.insert(format!("selector-keys_{name}"), keys.into_iter().collect::<Vec<_>>().join("\n"));
        }
        let agents = &tenant.settings().agents;
        if !agents.exemptions.is_empty() {
            data.insert(format!("exempt_{name}"), "true".to_owned());
        }
        for (account, images) in &agents.images {
            let images = images.iter().cloned().collect::<Vec<_>>().join("\n");
            data.insert(format!("images_{name}_{account}"), images);
        }
    }
    data
}

fn arguments(tenant: &Tenant, release: &Release, anchor: &str, address: std::net::IpAddr) -> String {
    let injection = Injection::new(tenant, release, anchor, address);
    injection.container().args.as_deref().unwrap_or_default().join("\n")
}

/// Keeps the value of before of the image and of each tenant's arguments, when it was another.
fn remember(data: &mut BTreeMap<String, String>, old: &BTreeMap<String, String>) {
    let kept: Vec<(String, String)> = data
        .iter()
        .filter(|(key, _)| key.as_str() == IMAGE || key.starts_with("args_"))
        .filter_map(|(key, now)| {
            let previous = format!("{PREVIOUS}{key}");
            let before = old.get(key).filter(|before| *before != now).or_else(|| old.get(&previous))?;
            (before != now).then(|| (previous, before.clone()))
        })
        .collect();
    data.extend(kept);
}

/// The label keys that selectors of a tenant use; `None` when one of its objects cannot be read, so that
/// any label may be used.
fn selector_keys(world: &World, tenant: &Tenant) -> Option<BTreeSet<String>> {
    let agents: BTreeSet<&str> = tenant.namespaces().collect();
    let platform = tenant.platform_namespace();
    let mut keys = BTreeSet::new();
    for policy in world.policies.all().iter().filter(|policy| agents.contains(policy.namespace())) {
        add(&mut keys, &policy.object.as_ref().ok()?.spec.agent_selector);
    }
    let is_own = |halt: &Read<_>| agents.contains(halt.namespace()) || halt.namespace() == platform;
    for halt in world.halts.all().iter().filter(|halt| is_own(halt)) {
        add(&mut keys, &halt.object.as_ref().ok()?.spec.agent_selector);
    }
    let settings = &tenant.settings().agents;
    settings.exemptions.iter().for_each(|exemption| add(&mut keys, &exemption.pod_selector));
    settings.plugin_optional.iter().for_each(|entry| add(&mut keys, &entry.pod_selector));
    for peer in settings.ingress.iter().flat_map(|entry| &entry.from) {
        peer.pod_selector.iter().for_each(|selector| add(&mut keys, selector));
    }
    Some(keys)
}

fn add(keys: &mut BTreeSet<String>, selector: &AgentSelector) {
    let AgentSelector { match_labels, match_expressions } = selector;
    keys.extend(match_labels.keys().cloned());
    keys.extend(match_expressions.iter().map(|requirement| requirement.key.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_changed_keeps_its_value_of_before() {
        let mut data = map(&[("sidecar-image", "b"), ("args_acme", "1"), ("exempt_acme", "true")]);
        remember(&mut data, &map(&[("sidecar-image", "a"), ("args_acme", "1"), ("args_gone", "x")]));
        assert_eq!(data["previous-sidecar-image"], "a");
        assert!(!data.contains_key("previous-args_acme") && !data.contains_key("previous-args_gone"));
        // It stays until the next change.
        let old = data;
        let mut data = map(&[("sidecar-image", "b"), ("args_acme", "2")]);
        remember(&mut data, &old);
        assert_eq!((data["previous-sidecar-image"].as_str(), data["previous-args_acme"].as_str()), ("a", "1"));
        // Back again: now the other one is the one of before.
        let old = data;
        let mut data = map(&[("sidecar-image", "a"), ("args_acme", "2")]);
        remember(&mut data, &old);
        assert_eq!(data["previous-sidecar-image"], "b");
    }

    #[test]
    fn a_first_value_has_none_before_it() {
        let mut data = map(&[("sidecar-image", "a")]);
        remember(&mut data, &BTreeMap::new());
        assert_eq!(data.len(), 1);
    }
}
