//! Removing what nobody needs any more, later: objects that no list names, which another replica may still
//! be reading, and the reports of replicas that are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use clawlock_compile::objects::names::{ROLE_LABEL, Role, object, replica};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ApiResource;

use crate::cluster::{WriteError, Writer};
use crate::store::{StoredTenant, is_object};
use crate::world::World;

/// How long a ConfigMap stays after it was needed last.
const KEEP: Duration = Duration::from_secs(600);
/// Most that are removed at one time: what is in force must not wait for this.
const BATCH: usize = 20;

/// What nobody needs, and since when.
#[derive(Default)]
pub(super) struct Garbage {
    unneeded: BTreeMap<String, Instant>,
}

impl Garbage {
    /// Removes some of what has been unneeded for long enough.
    pub(super) async fn collect(
        &mut self,
        world: &World,
        stored: &BTreeMap<String, StoredTenant>,
        writer: &Writer,
    ) -> Result<(), WriteError> {
        let listed: BTreeSet<String> =
            stored.values().flat_map(|stored| &stored.state.objects).filter_map(|digest| object(digest)).collect();
        let maps = world.stored.in_namespace(world.release());
        let mut unneeded: BTreeSet<String> = maps
            .iter()
            .filter(|map| is_object(map))
            .filter_map(|map| map.metadata.name.clone())
            .filter(|name| !listed.contains(name))
            .collect();
        unneeded.extend(dead_reports(world));
        for name in self.due(unneeded, Instant::now()) {
            writer.delete(&ApiResource::erase::<ConfigMap>(&()), world.release(), &name, None).await?;
            self.unneeded.remove(&name);
        }
        Ok(())
    }

    fn due(&mut self, present: BTreeSet<String>, now: Instant) -> Vec<String> {
        self.unneeded.retain(|name, _| present.contains(name));
        for name in present {
            self.unneeded.entry(name).or_insert(now);
        }
        let old = self.unneeded.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= KEEP);
        old.map(|(name, _)| name.clone()).take(BATCH).collect()
    }
}

/// Reports of pods that are gone. Outside of a cluster no operator has a pod, and nothing is known of it.
fn dead_reports(world: &World) -> Vec<String> {
    let pods = world.pods.in_namespace(world.release());
    let alive: BTreeSet<String> = pods
        .iter()
        .filter(|pod| pod.label(ROLE_LABEL) == Some(Role::Operator.as_str()))
        .map(|pod| replica(&pod.name))
        .collect();
    if alive.is_empty() {
        return Vec::new();
    }
    let prefix = replica("");
    let maps = world.reports.in_namespace(world.release());
    let names = maps.iter().filter_map(|map| map.metadata.name.clone());
    names.filter(|name| name.starts_with(&prefix) && !alive.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_goes_only_after_it_was_unneeded_for_long() {
        let mut garbage = Garbage::default();
        let begun = Instant::now();
        let present = || BTreeSet::from(["a".to_owned()]);
        assert!(garbage.due(present(), begun).is_empty());
        assert!(garbage.due(present(), begun + KEEP / 2).is_empty());
        assert_eq!(garbage.due(present(), begun + KEEP), ["a"]);
        // Needed again in between: it starts anew.
        assert!(garbage.due(BTreeSet::new(), begun + KEEP).is_empty());
        assert!(garbage.due(present(), begun + KEEP).is_empty());
    }
}
