//! What this replica serves: the compilation of the stored state, and each pod's signed assignment.
//!
//! Every replica makes it by itself out of what the leader stored, so that all of them serve the same. A
//! state that cannot be read changes nothing: what was served stays. An assignment is signed when something
//! changed, or renewed after a fresh read ([`fresh`]); a replica that is cut off signs nothing.

mod board;
pub(crate) mod fresh;
pub(crate) mod trust;

pub(crate) use board::{Assignments, Board, Gone, Issued};

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use clawlock_compile::objects::names::tenant_state;
use clawlock_compile::state::{self, Accepted};
use clawlock_compile::{Compilation, Compiler, compile};
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::pki::signing::Signer;
use crate::store::{Library, Memory, StoredTenant};
use crate::world::World;

/// Most nodes that clients are told: one that is not their own is enough, and a few may be down.
const MAX_NODES: usize = 16;
/// Most tripwires that clients are told.
const MAX_TRIPWIRES: usize = 8;

/// What must not be reachable from an agent's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Canaries {
    /// Addresses of the tripwires.
    pub(crate) tripwire: Vec<IpAddr>,
    /// Addresses of some nodes.
    pub(crate) nodes: Vec<IpAddr>,
}

/// What the stored state came to.
pub(crate) struct Served {
    /// What the objects come to, of all tenants.
    pub(crate) compilation: Compilation,
    /// Generation and memory of each tenant.
    pub(crate) tenants: BTreeMap<String, ServedTenant>,
}

/// One tenant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServedTenant {
    /// The generation of its assignments.
    pub(crate) generation: u64,
    /// What the leader remembers of it.
    pub(crate) memory: Memory,
}

impl Served {
    /// Nothing is stored.
    pub(crate) fn nothing() -> Self {
        Self { compilation: compile(&state::resources([])), tenants: BTreeMap::new() }
    }
}

/// Keeps what is served at what is stored.
pub(crate) struct Server {
    world: Arc<World>,
    signer: Signer,
    metrics: Arc<Metrics>,
    board: Arc<Board>,
    served: watch::Sender<Arc<Served>>,
    canaries: watch::Sender<Canaries>,
    ready: watch::Sender<bool>,
    library: Library,
    compiler: Compiler,
    lists: BTreeMap<String, List>,
    told: BTreeMap<String, String>,
}

/// What a tenant's state lists.
struct List {
    stored: StoredTenant,
    objects: Vec<Arc<Accepted>>,
}

impl Server {
    /// Serves nothing yet.
    pub(crate) fn new(world: Arc<World>, signer: Signer, metrics: Arc<Metrics>, board: Arc<Board>) -> Self {
        Self {
            world,
            signer,
            metrics,
            board,
            served: watch::channel(Arc::new(Served::nothing())).0,
            canaries: watch::channel(Canaries::default()).0,
            ready: watch::channel(false).0,
            library: Library::default(),
            compiler: Compiler::default(),
            lists: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// What is served.
    pub(crate) fn served(&self) -> watch::Receiver<Arc<Served>> {
        self.served.subscribe()
    }

    /// Becomes true when everything that was stored is served.
    pub(crate) fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// What must not be reachable.
    pub(crate) fn canaries(&self) -> watch::Receiver<Canaries> {
        self.canaries.subscribe()
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut stored = self.world.stored_bell.listen();
        let mut pods = self.world.pod_bell.listen();
        let mut secrets = self.world.secret_bell.listen();
        loop {
            // What rings while this turn runs is seen by the next one.
            stored.mark_unchanged();
            pods.mark_unchanged();
            secrets.mark_unchanged();
            if self.world.not_served().is_none() {
                self.turn();
                self.ready.send_replace(true);
            }
            let mut behind = true;
            while behind {
                behind = self.board.catch_up(&self.signer);
                let changed = tokio::select! {
                    biased;
                    changed = stored.changed() => changed,
                    changed = pods.changed() => changed,
                    changed = secrets.changed() => changed,
                    () = tokio::task::yield_now(), if behind => continue,
                };
                if changed.is_err() {
                    return;
                }
                // What is new goes before those who only lag behind.
                behind = false;
            }
        }
    }

    fn turn(&mut self) {
        if self.reload() {
            let begun = Instant::now();
            let served = self.compile();
            self.metrics.compiled(begun.elapsed());
            self.metrics.tenants.set(i64::try_from(served.tenants.len()).unwrap_or(i64::MAX));
            self.served.send_replace(Arc::new(served));
        }
        let served = self.served.borrow().clone();
        let agents = self.board.update(&served, &self.world, &self.signer);
        self.metrics.agents.set(i64::try_from(agents).unwrap_or(i64::MAX));
        let mut canaries = Canaries { tripwire: self.world.tripwires(), nodes: self.world.machines() };
        canaries.tripwire.truncate(MAX_TRIPWIRES);
        canaries.nodes.truncate(MAX_NODES);
        self.canaries.send_if_modified(|old| {
            let changed = *old != canaries;
            *old = canaries;
            changed
        });
    }

    /// Reads the lists again. Answers whether one of them changed.
    fn reload(&mut self) -> bool {
        let maps = self.world.stored.all();
        let mut present = HashSet::new();
        let mut changed = false;
        let mut problems = BTreeMap::new();
        for map in &maps {
            let name = map.metadata.name.clone().unwrap_or_default();
            let known = self.lists.values().find(|list| tenant_state(&list.stored.state.tenant) == name);
            if known.is_some_and(|list| list.stored.version == map.metadata.resource_version) {
                present.insert(name);
                continue;
            }
            let Some(stored) = StoredTenant::read(map, &self.signer) else { continue };
            present.insert(name.clone());
            let find = |name: &str| self.world.stored.get(self.world.release(), name);
            let list = stored.and_then(|stored| {
                let objects = self.library.objects(&stored.state.objects, find, &self.signer)?;
                Ok(List { stored, objects })
            });
            match list {
                Ok(list) => {
                    changed = true;
                    self.lists.insert(list.stored.state.tenant.clone(), list);
                }
                Err(error) => {
                    problems.insert(name, error);
                }
            }
        }
        let before = self.lists.len();
        let stays = self.standing();
        self.lists.retain(|tenant, _| present.contains(&tenant_state(tenant)) || stays.contains(tenant));
        changed |= self.lists.len() != before;
        for (name, error) in problems.iter().filter(|(name, error)| self.told.get(*name) != Some(error)) {
            tracing::warn!("the stored state {name} is not served, what was served before stays: {error}");
        }
        self.told = problems;
        changed
    }

    /// Tenants whose `TenantGateway` is there and stays. Their state is lost by accident only, and the leader
    /// writes it again; what was served stays meanwhile.
    fn standing(&self) -> HashSet<String> {
        let gateways = self.world.gateways.all();
        let stay = gateways.iter().filter(|gateway| gateway.metadata.deletion_timestamp.is_none());
        stay.map(|gateway| gateway.name().to_owned()).collect()
    }

    fn compile(&mut self) -> Served {
        let listed: HashSet<&str> =
            self.lists.values().flat_map(|list| list.stored.state.objects.iter().map(String::as_str)).collect();
        self.library.retain(|digest| listed.contains(digest));
        let all = self.lists.values().flat_map(|list| list.objects.iter().map(|object| Accepted::clone(object)));
        let compilation = self.compiler.compile(&state::resources(all));
        let tenants = self.lists.iter().map(|(name, list)| {
            let StoredTenant { state, memory, version: _ } = &list.stored;
            (name.clone(), ServedTenant { generation: state.generation, memory: memory.clone() })
        });
        Served { compilation, tenants: tenants.collect() }
    }
}
