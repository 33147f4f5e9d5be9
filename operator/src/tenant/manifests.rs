//! Tells people of pods that their manifest stops: an event on the pod, once for each reason. That they are stopped, and why,
//! stands in every denial as well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clawlock_compile::Compilation;
use kube::runtime::events::EventType;

use super::Context;
use super::fetch::Facts;
use super::status::tell_of_pod;
use crate::world::pod::Pod;

/// Most events of one look: a deployment of a thousand pods with one mistake must not keep its tenant waiting. The next
/// look tells of the next ones.
const MAX_EVENTS: usize = 20;

/// Tells of the pods of which it was not told yet. `told` are the reasons by UID.
pub(super) async fn tell(context: &Context, facts: &Facts, told: &mut BTreeMap<String, String>) {
    for (pod, reason) in news(&facts.in_force.settled.compilation, &facts.agents, told) {
        let note = format!("the agent is denied everything by its manifest: {reason}");
        tell_of_pod(context, &pod, EventType::Warning, "ManifestRefused", &note).await;
    }
}

/// The pods to tell of, and why they are stopped. Remembers them, and forgets those that are stopped no more.
fn news(
    compilation: &Compilation,
    agents: &[Arc<Pod>],
    told: &mut BTreeMap<String, String>,
) -> Vec<(Arc<Pod>, String)> {
    let stopped = agents.iter().filter_map(|pod| {
        let name = pod.manifest.as_deref()?;
        let reason = compilation.manifest_problem(&pod.namespace, name)?;
        Some((pod.clone(), format!("ConfigMap {name}: {reason}")))
    });
    let stopped: Vec<(Arc<Pod>, String)> = stopped.collect();
    let uids: BTreeSet<&str> = stopped.iter().map(|(pod, _)| pod.uid.as_str()).collect();
    told.retain(|uid, _| uids.contains(uid.as_str()));
    let mut new = stopped;
    new.retain(|(pod, reason)| told.get(&pod.uid) != Some(reason));
    new.truncate(MAX_EVENTS);
    told.extend(new.iter().map(|(pod, reason)| (pod.uid.clone(), reason.clone())));
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawlock_compile::{Resources, compile};
    use k8s_openapi::api::core::v1;
    use serde_json::json;

    fn pod(uid: usize, manifest: Option<&str>) -> Arc<Pod> {
        let annotations = manifest.map(|name| json!({"clawlock.dev/manifest": name}));
        let pod: v1::Pod = serde_json::from_value(json!({
            "metadata": {"name": format!("bot-{uid}"), "namespace": "acme", "uid": format!("{uid}"), "annotations": annotations},
            "spec": {"containers": []},
        }))
        .unwrap();
        Arc::new(Pod::of(&pod))
    }

    fn compiled(text: &str) -> Compilation {
        let mut resources = Resources::default();
        resources.gateways.push(
            serde_json::from_value(json!({
                "apiVersion": "clawlock.dev/v1alpha1", "kind": "TenantGateway",
                "metadata": {"name": "acme", "namespace": "acme-gateway"},
                "spec": {"namespaces": ["acme"], "trustDomain": "acme.test"},
            }))
            .unwrap(),
        );
        let map = json!({"metadata": {"name": "m", "namespace": "acme"}, "data": {"manifest.json": text}});
        resources.config_maps.push(serde_json::from_value(map).unwrap());
        compile(&resources)
    }

    #[test]
    fn a_pod_is_told_of_once_for_each_reason() {
        let (good, bad) = (compiled(r#"{"skill": "a"}"#), compiled("{"));
        let agents = [pod(1, Some("m")), pod(2, None), pod(3, Some("other"))];
        let mut told = BTreeMap::new();
        let names = |news: Vec<(Arc<Pod>, String)>| -> Vec<String> {
            news.into_iter().map(|(pod, reason)| format!("{}: {}", pod.name, &reason[..14])).collect()
        };
        assert_eq!(names(news(&bad, &agents, &mut told)), ["bot-1: ConfigMap m: m", "bot-3: ConfigMap othe"]);
        assert!(news(&bad, &agents, &mut told).is_empty());
        assert!(news(&good, &agents, &mut told).is_empty(), "it is mended");
        assert_eq!(news(&bad, &agents, &mut told).len(), 1, "and broken again");
        let many: Vec<Arc<Pod>> = (10..50).map(|uid| pod(uid, Some("m"))).collect();
        assert_eq!(news(&bad, &many, &mut told).len(), MAX_EVENTS);
        assert_eq!(news(&bad, &many, &mut told).len(), MAX_EVENTS);
        assert!(news(&bad, &many, &mut told).is_empty());
        assert!(news(&bad, &[], &mut told).is_empty() && told.is_empty());
    }
}
