//! The leader's first task: from what people wrote to what is in force, signed and stored.
//!
//! It is driven by events: a change is judged within milliseconds, because a person who halts an agent is
//! waiting. What is in force is decided by `clawlock_compile::state::settle`; this module gives it what the
//! API server says and what was good before, and stores what comes of it. A leader that was deposed cannot
//! store: every state is replaced at the version that was read.

mod current;
mod digests;
mod garbage;
mod plan;
mod storage;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clawlock_compile::state::{self, Settled, settle_with};
use clawlock_compile::{Compiler, ObjectRef, Resources};
use tokio::sync::watch;

use crate::cluster::{WriteError, Writer};
use crate::metrics::Metrics;
use crate::pki::signing::Signer;
use crate::store::StoredTenant;
use crate::world::World;
use current::Current;
use digests::Digests;
use garbage::Garbage;
use plan::{Facts, Plan, plan};
use storage::{MISSING, Missing, Storage};

/// After the first sign of a change, this long is waited for more: `kubectl apply` of a folder is one change.
const DEBOUNCE: Duration = Duration::from_millis(8);
/// After a failed write, this long is waited.
const RETRY: Duration = Duration::from_millis(500);
/// Between two notes of which pods there are: many come and go at once.
const NOTE: Duration = Duration::from_secs(10);
/// How often what is stored is compared with what should be, without any sign of a change.
const AUDIT: Duration = Duration::from_secs(30);

/// What is in force now, for whoever reconciles tenants and writes status.
pub(crate) struct InForce {
    /// What came of the objects.
    pub(crate) settled: Settled,
    /// What is stored of each tenant.
    pub(crate) tenants: BTreeMap<String, StoredTenant>,
    /// The `metadata.generation` of each object as it was judged.
    pub(crate) judged: HashMap<ObjectRef, Option<i64>>,
}

/// Addresses of gateways' Services, as they were found: the state remembers them.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<BTreeMap<String, IpAddr>>);

impl Addresses {
    /// A gateway has this address.
    pub(crate) fn found(&self, tenant: &str, address: IpAddr) -> bool {
        self.lock().insert(tenant.to_owned(), address) != Some(address)
    }

    fn of(&self, tenant: &str) -> Option<IpAddr> {
        self.lock().get(tenant).copied()
    }

    /// A tenant's Service is gone, and its address is whoever's gets it.
    fn forget(&self, tenant: &str) {
        self.lock().remove(tenant);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, IpAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tenants on their way out: nothing of theirs is in the cluster any more, and their state is to go.
#[derive(Debug, Default)]
pub(crate) struct Departures(Mutex<BTreeSet<String>>);

impl Departures {
    /// A tenant departs. Answers whether this is new.
    pub(crate) fn add(&self, tenant: &str) -> bool {
        self.lock().insert(tenant.to_owned())
    }

    fn all(&self) -> BTreeSet<String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts what people write.
pub(crate) struct Acceptor {
    world: Arc<World>,
    storage: Storage,
    metrics: Arc<Metrics>,
    addresses: Arc<Addresses>,
    departures: Arc<Departures>,
    in_force: watch::Sender<Option<Arc<InForce>>>,
    /// What was in force before.
    good: Resources,
    compiler: Compiler,
    digests: Digests,
    /// Labels of agents, by UID, as this leader saw and stored them.
    labels: HashMap<String, String>,
    /// Tenants that this leader has looked at.
    known: BTreeSet<String>,
    garbage: Garbage,
}

impl Acceptor {
    /// Accepts nothing yet.
    pub(crate) fn new(
        world: Arc<World>,
        writer: Writer,
        signer: Signer,
        metrics: Arc<Metrics>,
        addresses: Arc<Addresses>,
        departures: Arc<Departures>,
    ) -> Self {
        let storage = Storage::new(world.clone(), writer, signer);
        Self {
            world,
            storage,
            metrics,
            addresses,
            departures,
            in_force: watch::channel(None).0,
            good: Resources::default(),
            compiler: Compiler::default(),
            digests: Digests::default(),
            labels: HashMap::new(),
            known: BTreeSet::new(),
            garbage: Garbage::default(),
        }
    }

    /// What is in force; `None` before the first look.
    pub(crate) fn in_force(&self) -> watch::Receiver<Option<Arc<InForce>>> {
        self.in_force.subscribe()
    }

    /// Runs until it is dropped. Only the leader may run it.
    pub(crate) async fn run(mut self) {
        let mut changed = self.world.policy_bell.listen();
        let mut stored = self.world.stored_bell.listen();
        let mut managed = self.world.tenant_bell.listen();
        loop {
            match self.storage.load().await {
                Ok(good) => {
                    self.good = good;
                    break;
                }
                Err(error) => {
                    tracing::warn!("the stored state cannot be read; nothing is accepted until it can: {error}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        // The watches begin in any order, and any of them may be the last.
        while !self.world.is_synced() {
            if managed.changed().await.is_err() {
                return;
            }
        }
        loop {
            changed.mark_unchanged();
            stored.mark_unchanged();
            let wait = match self.turn().await {
                Ok(wait) => wait,
                Err(error) => {
                    tracing::warn!("what was accepted is not stored, what was stays in force: {error}");
                    RETRY
                }
            };
            let heard = tokio::select! {
                heard = changed.changed() => heard,
                heard = stored.changed() => heard,
                () = tokio::time::sleep(wait) => Ok(()),
            };
            if heard.is_err() {
                return;
            }
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    /// Judges everything, and stores what changed. What cannot be stored of one tenant does not keep the
    /// others waiting. Answers how long to wait at most before the next look.
    async fn turn(&mut self) -> Result<Duration, WriteError> {
        self.storage.writer().check()?;
        let begun = Instant::now();
        let departed = self.settle_departures().await?;
        let Current { resources, judged } =
            current::collect(&self.world, &self.good, self.storage.tenants(), &departed);
        let settled = settle_with(&mut self.compiler, &resources, &self.good);
        self.digests.turn();
        let mut failed = Ok(());
        let mut changed = false;
        let mut wait = AUDIT;
        let mut seen = BTreeSet::new();
        let tenants: Vec<String> = settled.compilation.tenants().map(|tenant| tenant.name().to_owned()).collect();
        for name in tenants {
            let missing = self.storage.missing(&name);
            if missing == Missing::Unsure {
                wait = MISSING;
            }
            let (plan, pods) = self.plan(&settled, &name, missing);
            let stored = match plan {
                Plan::Store(change) => {
                    changed = true;
                    self.storage.store(*change).await
                }
                Plan::NoteLater => {
                    wait = wait.min(NOTE);
                    Ok(())
                }
                Plan::Nothing => Ok(()),
            };
            seen.extend(pods.keys().cloned());
            match stored {
                Ok(()) => {
                    self.labels.extend(pods);
                    self.known.insert(name);
                }
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        self.labels.retain(|uid, _| seen.contains(uid));
        if failed.is_ok() {
            self.good = settled.resources.clone();
            self.storage.tidy();
        }
        if changed && failed.is_ok() {
            self.metrics.accepted(begun.elapsed());
        }
        let in_force = InForce { settled, tenants: self.storage.tenants().clone(), judged };
        self.in_force.send_replace(Some(Arc::new(in_force)));
        failed?;
        // Tidying up is for quiet times.
        if !changed {
            self.garbage.collect(&self.world, self.storage.tenants(), self.storage.writer()).await?;
        }
        Ok(wait)
    }

    /// Removes the states of tenants that have departed. Answers those.
    async fn settle_departures(&mut self) -> Result<BTreeSet<String>, WriteError> {
        let departed = self.departures.all();
        for tenant in &departed {
            self.storage.remove(tenant).await?;
            self.addresses.forget(tenant);
        }
        let gateways = self.world.gateways.all();
        let stands = |tenant: &String| {
            gateways.iter().any(|gateway| gateway.name() == tenant && gateway.metadata.deletion_timestamp.is_some())
        };
        self.departures.lock().retain(stands);
        Ok(departed)
    }

    /// What is to be stored of a tenant, and the labels of its agents.
    fn plan(&mut self, settled: &Settled, name: &str, missing: Missing) -> (Plan, BTreeMap<String, String>) {
        let Some(tenant) = settled.compilation.tenant(name) else { return (Plan::Nothing, BTreeMap::new()) };
        let pods = current::agents(&self.world, tenant);
        let accepted = state::of_tenant(&settled.resources, &settled.compilation, name).unwrap_or_default();
        let accepted = accepted.into_iter().map(|object| (self.digests.of(&object), object)).collect();
        let plan = plan(Facts {
            tenant: name,
            stored: self.storage.tenants().get(name),
            accepted,
            pods: &pods,
            labels: &self.labels,
            address: self.addresses.of(name),
            floor: current::floor(&self.world, name),
            first: !self.known.contains(name),
            missing: missing == Missing::Something,
            note: self.storage.age(name).is_none_or(|age| age >= NOTE),
        });
        (plan, pods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_that_is_made_again_does_not_get_the_address_of_before() {
        let addresses = Addresses::default();
        let address = IpAddr::from([10, 96, 0, 7]);
        assert!(addresses.found("acme", address));
        assert!(!addresses.found("acme", address), "it is known");
        addresses.forget("acme");
        assert_eq!(addresses.of("acme"), None);
        assert!(addresses.found("acme", address));
    }
}
