//! What is to be stored of a tenant, as a pure function of what is in force and what is stored.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use clawlock_compile::state::{Accepted, TenantState};

use crate::store::{Memory, Seen, StoredTenant};

/// What is known of a tenant.
pub(super) struct Facts<'a> {
    /// Its name.
    pub(super) tenant: &'a str,
    /// What is stored of it.
    pub(super) stored: Option<&'a StoredTenant>,
    /// What is in force, by digest.
    pub(super) accepted: Vec<(String, Accepted)>,
    /// The digest of the labels of each agent, by UID.
    pub(super) pods: &'a BTreeMap<String, String>,
    /// The same as it was at the last look, of agents of all tenants.
    pub(super) labels: &'a HashMap<String, String>,
    /// The address of its gateway's Service, when it was found.
    pub(super) address: Option<IpAddr>,
    /// The largest generation that anybody has seen.
    pub(super) floor: u64,
    /// This leader has not looked at the tenant before.
    pub(super) first: bool,
    /// What was stored is not there any more.
    pub(super) missing: bool,
    /// It is time to write down which pods were seen.
    pub(super) note: bool,
}

/// What is to be stored.
#[derive(Debug, PartialEq)]
pub(super) struct Change {
    /// The tenant's state and memory.
    pub(super) stored: StoredTenant,
    /// The objects that it lists, by digest.
    pub(super) accepted: Vec<(String, Accepted)>,
    /// What was stored of it was lost.
    pub(super) lost: bool,
}

/// What is to be done about a tenant.
#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    /// Nothing.
    Nothing,
    /// Pods came or went, which is to be noted later.
    NoteLater,
    /// This is to be stored.
    Store(Box<Change>),
}

/// Says what is to be stored.
pub(super) fn plan(facts: Facts<'_>) -> Plan {
    let Facts { tenant, stored, mut accepted, pods, labels, address, floor, first, missing, note } = facts;
    accepted.sort_by(|(one, _), (two, _)| one.cmp(two));
    accepted.dedup_by(|(one, _), (two, _)| one == two);
    let objects: Vec<String> = accepted.iter().map(|(digest, _)| digest.clone()).collect();
    let seen = Seen::of(pods);
    let Some(old) = stored else {
        let state = TenantState { tenant: tenant.to_owned(), generation: floor.saturating_add(1), objects };
        let memory = Memory { tenant: tenant.to_owned(), cluster_ip: address, relabelled: BTreeMap::new(), seen };
        let stored = StoredTenant { state, memory, version: None };
        return Plan::Store(Box::new(Change { stored, accepted, lost: false }));
    };
    let mut memory = old.memory.clone();
    let relabelled = relabel(&mut memory, pods, labels, first);
    if address.is_some() {
        memory.cluster_ip = address;
    }
    let moved = memory.cluster_ip != old.memory.cluster_ip;
    let changed = relabelled || objects != old.state.objects;
    let came_or_went = seen != old.memory.seen;
    let store = changed || moved || missing || (came_or_went && note);
    if !store {
        return if came_or_went { Plan::NoteLater } else { Plan::Nothing };
    }
    memory.seen = seen;
    let generation = if changed { old.state.generation.max(floor).saturating_add(1) } else { old.state.generation };
    let state = TenantState { tenant: tenant.to_owned(), generation, objects };
    let stored = StoredTenant { state, memory, version: old.version.clone() };
    Plan::Store(Box::new(Change { stored, accepted, lost: missing }))
}

/// Remembers pods whose labels changed. Answers whether a new generation is needed for them.
fn relabel(
    memory: &mut Memory,
    pods: &BTreeMap<String, String>,
    labels: &HashMap<String, String>,
    first: bool,
) -> bool {
    memory.relabelled.retain(|uid, _| pods.contains_key(uid));
    let mut needed = false;
    for (uid, now) in pods {
        let before = memory.relabelled.get(uid).or_else(|| labels.get(uid));
        match before {
            Some(before) if before != now => {
                memory.relabelled.insert(uid.clone(), now.clone());
                needed = true;
            }
            Some(_) => {}
            // It may have had other labels under the leader before, and nobody was told.
            None => needed |= first && !memory.seen.has(uid, now),
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawlock_crds::{AgentHalt, AgentHaltSpec, AgentSelector};

    fn halt(name: &str) -> Accepted {
        let spec = AgentHaltSpec {
            agent_selector: AgentSelector::default(),
            reason: "stop".to_owned(),
            pod_uid: None,
            cause: None,
        };
        let mut halt = AgentHalt::new(name, spec);
        halt.metadata.namespace = Some("acme".to_owned());
        Accepted::AgentHalt(Box::new(halt))
    }

    struct World {
        stored: Option<StoredTenant>,
        names: Vec<&'static str>,
        pods: BTreeMap<String, String>,
        labels: HashMap<String, String>,
        address: Option<IpAddr>,
        floor: u64,
    }

    impl World {
        fn new() -> Self {
            let pods = BTreeMap::from([("uid".to_owned(), "l1".to_owned())]);
            let labels = pods.clone().into_iter().collect();
            let mut world = Self { stored: None, names: vec!["a"], pods, labels, address: None, floor: 0 };
            world.go(|_| {});
            world
        }

        fn plan(&self, change: impl FnOnce(&mut Facts<'_>)) -> Plan {
            let mut facts = Facts {
                tenant: "acme",
                stored: self.stored.as_ref(),
                accepted: self.names.iter().map(|name| (halt(name).digest(), halt(name))).collect(),
                pods: &self.pods,
                labels: &self.labels,
                address: self.address,
                floor: self.floor,
                first: false,
                missing: false,
                note: false,
            };
            change(&mut facts);
            plan(facts)
        }

        /// What is stored, if anything.
        fn go(&mut self, change: impl FnOnce(&mut Facts<'_>)) -> Option<Change> {
            let plan = self.plan(change);
            self.labels = self.pods.clone().into_iter().collect();
            let Plan::Store(change) = plan else { return None };
            self.stored = Some(change.stored.clone());
            Some(*change)
        }

        fn generation(&self) -> u64 {
            self.stored.as_ref().unwrap().state.generation
        }
    }

    #[test]
    fn nothing_new_is_not_stored_again() {
        let mut world = World::new();
        assert_eq!(world.generation(), 1);
        assert_eq!(world.go(|_| {}), None);
    }

    #[test]
    fn a_change_gets_a_new_generation() {
        let mut world = World::new();
        world.names.push("b");
        assert_eq!(world.go(|_| {}).unwrap().accepted.len(), 2);
        assert_eq!(world.generation(), 2);
        world.names.remove(0);
        world.go(|_| {}).unwrap();
        assert_eq!(world.generation(), 3);
    }

    #[test]
    fn changed_labels_get_a_generation_and_are_remembered() {
        let mut world = World::new();
        world.pods.insert("uid".to_owned(), "l2".to_owned());
        world.go(|_| {}).unwrap();
        assert_eq!(world.generation(), 2);
        assert_eq!(world.stored.as_ref().unwrap().memory.relabelled["uid"], "l2");
        assert_eq!(world.go(|_| {}), None);
        // A leader that starts now knows of the change by the memory alone.
        world.labels.clear();
        assert_eq!(world.go(|_| {}), None);
        world.pods.insert("uid".to_owned(), "l1".to_owned());
        world.labels.clear();
        world.go(|_| {}).unwrap();
        assert_eq!(world.stored.as_ref().unwrap().memory.relabelled["uid"], "l1");
    }

    #[test]
    fn a_new_pod_needs_no_generation_and_one_that_is_gone_is_forgotten_later() {
        let mut world = World::new();
        world.pods.insert("other".to_owned(), "l9".to_owned());
        assert_eq!(world.go(|_| {}), None);
        world.labels = world.pods.clone().into_iter().collect();
        world.pods.insert("other".to_owned(), "l8".to_owned());
        world.go(|_| {}).unwrap();
        world.pods.remove("other");
        assert_eq!(world.go(|_| {}), None);
        world.names.push("b");
        assert!(world.go(|_| {}).unwrap().stored.memory.relabelled.is_empty());
    }

    #[test]
    fn an_address_is_remembered_without_a_new_generation_and_never_forgotten() {
        let mut world = World::new();
        world.address = Some("10.96.0.7".parse().unwrap());
        world.go(|_| {}).unwrap();
        assert_eq!(world.generation(), 1);
        world.address = None;
        world.names.push("b");
        world.go(|_| {}).unwrap();
        assert!(world.stored.as_ref().unwrap().memory.cluster_ip.is_some());
    }

    #[test]
    fn a_state_that_was_lost_never_goes_back() {
        let mut world = World::new();
        world.stored = None;
        world.floor = 41;
        world.go(|_| {}).unwrap();
        assert_eq!(world.generation(), 42);
        assert!(world.go(|facts| facts.missing = true).unwrap().lost);
        assert_eq!(world.generation(), 42, "what is written again says the same");
    }

    #[test]
    fn a_new_leader_starts_a_generation_only_for_pods_that_it_cannot_know() {
        let mut world = World::new();
        world.labels.clear();
        assert_eq!(world.plan(|facts| facts.first = true), Plan::Nothing);
        world.pods.insert("uid".to_owned(), "l2".to_owned());
        world.labels.clear();
        world.go(|facts| facts.first = true).unwrap();
        assert_eq!(world.generation(), 2);
        // The next one knows it.
        world.labels.clear();
        assert_eq!(world.plan(|facts| facts.first = true), Plan::Nothing);
    }

    #[test]
    fn which_pods_were_seen_is_noted_from_time_to_time() {
        let mut world = World::new();
        world.pods.insert("other".to_owned(), "l9".to_owned());
        assert_eq!(world.plan(|_| {}), Plan::NoteLater);
        let noted = world.go(|facts| facts.note = true).unwrap();
        assert_eq!((noted.stored.state.generation, noted.lost), (1, false));
        assert_eq!(world.plan(|facts| facts.note = true), Plan::Nothing);
    }
}
