//! The leader's second task: each tenant's Kubernetes objects and status.
//!
//! A reconcile is four steps, each in a file of its own: [`fetch`] what there is, [`validate`] what may be
//! done about it, [`build`] what should be there, [`apply`] the difference; then [`status`] says what came
//! of it, also when a step failed. Only what differs is written, so that looking again costs nothing.

mod apply;
mod build;
mod fetch;
mod finalizers;
mod foreign;
mod manifests;
mod sequel;
mod status;
mod validate;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawlock_compile::objects::{ObjectKey, Release};
use kube::runtime::events::Recorder;
use tokio::sync::watch;

use crate::accept::{Addresses, Departures, InForce};
use crate::admission::Admission;
use crate::clock::now_ms;
use crate::cluster::{WriteError, Writer};
use crate::metrics::Metrics;
use crate::pki::PkiError;
use crate::pki::anchor::Anchor;
use crate::pki::secrets::Secrets;
use crate::world::World;
use sequel::Sequel;

/// After the first sign of a change, this long is waited for more.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// Without any sign, everything is looked at this often: certificates, statuses and policies of other APIs.
const PERIOD: Duration = Duration::from_secs(15);
/// First wait after a failure of one tenant.
const BACKOFF: Duration = Duration::from_secs(1);
/// Longest wait after failures of one tenant.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Why a reconcile failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Something was not written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Something about keys.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// An object cannot be encoded.
    #[error("an object cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}

/// What reconciling needs.
pub(crate) struct Context {
    /// What there is.
    pub(crate) world: Arc<World>,
    /// Writes.
    pub(crate) writer: Writer,
    /// The release.
    pub(crate) release: Box<Release>,
    /// What pods pin.
    pub(crate) anchor: Arc<Anchor>,
    /// Secrets of the release.
    pub(crate) secrets: Secrets,
    /// Addresses of gateways, for the acceptor.
    pub(crate) addresses: Arc<Addresses>,
    /// Tenants on their way out, for the acceptor.
    pub(crate) departures: Arc<Departures>,
    /// Tells people.
    pub(crate) recorder: Recorder,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
}

/// Reconciles all tenants.
pub(crate) struct Controller {
    context: Context,
    in_force: watch::Receiver<Option<Arc<InForce>>>,
    admission: Admission,
    foreign: foreign::Foreign,
    statuses: status::Statuses,
    tenants: HashMap<String, Memory>,
}

/// What is remembered of a tenant between two reconciles.
#[derive(Default)]
struct Memory {
    /// The digest of each object as it was applied, and its version after that.
    applied: BTreeMap<ObjectKey, Applied>,
    /// When to try again after a failure.
    retry: Option<(Instant, Duration)>,
    /// Whether its agents' namespaces were seen to be closed.
    isolated: BTreeSet<String>,
    /// Pods that their manifests stop, by UID, with the reason that was told.
    stopped: BTreeMap<String, String>,
}

/// An object as it was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Applied {
    digest: String,
    version: String,
}

impl Controller {
    /// Reconciles nothing yet.
    pub(crate) fn new(context: Context, in_force: watch::Receiver<Option<Arc<InForce>>>) -> Self {
        let admission = Admission::new(context.world.clone());
        Self {
            context,
            in_force,
            admission,
            foreign: foreign::Foreign::default(),
            statuses: status::Statuses::default(),
            tenants: HashMap::new(),
        }
    }

    /// Runs until it is dropped. Only the leader may run it.
    pub(crate) async fn run(mut self) {
        let mut changed = self.context.world.tenant_bell.listen();
        loop {
            changed.mark_unchanged();
            let in_force = self.in_force.borrow_and_update().clone();
            let mut wait = PERIOD;
            if let Some(in_force) = in_force.filter(|_| self.context.world.is_synced()) {
                wait = wait.min(self.turn(&in_force).await);
            }
            let heard = tokio::select! {
                heard = changed.changed() => heard,
                heard = self.in_force.changed() => heard,
                () = tokio::time::sleep(wait) => Ok(()),
            };
            if heard.is_err() {
                return;
            }
            tokio::time::sleep(DEBOUNCE).await;
        }
    }

    /// Looks at everything once. Answers how long to wait at most before the next look.
    async fn turn(&mut self, in_force: &Arc<InForce>) -> Duration {
        let mut wait = PERIOD;
        if let Err(error) = finalizers::release(&self.context).await {
            tracing::warn!("finalizers of NetworkPolicies: {error}");
        }
        self.foreign.look(&self.context).await;
        let admission = self.admission.publish(&self.context, in_force).await;
        if let Err(error) = &admission {
            tracing::warn!("the parameters of the admission policies are not written: {error}");
        }
        let names = fetch::tenants(&self.context.world, in_force);
        self.tenants.retain(|name, _| names.contains(name));
        for name in names {
            wait = wait.min(self.tenant(&name, in_force).await);
        }
        match self.statuses.objects(&self.context, in_force).await {
            Ok(false) => wait,
            Ok(true) => Duration::ZERO,
            Err(error) => {
                tracing::warn!("statuses are not written: {error}");
                wait.min(BACKOFF)
            }
        }
    }

    /// Reconciles one tenant. Answers how long to wait at most before the next look.
    async fn tenant(&mut self, name: &str, in_force: &Arc<InForce>) -> Duration {
        let memory = self.tenants.entry(name.to_owned()).or_default();
        if let Some((at, _)) = memory.retry
            && let Some(left) = at.checked_duration_since(Instant::now())
        {
            return left;
        }
        let facts = fetch::fetch(&self.context.world, in_force, name);
        let plan = validate::validate(&facts, &self.context.release.namespace);
        let Sequel { done, look_again_ms, error } =
            sequel::run(&self.context, &facts, &plan, memory, &self.admission).await;
        let foreign = self.foreign.of(&facts);
        let told = self.statuses.tenant(&self.context, &facts, &plan, &done, foreign, error.as_ref()).await;
        let error = error.map(|error| error.to_string()).or_else(|| told.err().map(|error| error.to_string()));
        let memory = self.tenants.entry(name.to_owned()).or_default();
        manifests::tell(&self.context, &facts, &mut memory.stopped).await;
        let Some(error) = error else {
            memory.retry = None;
            let again = look_again_ms.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms())));
            return again.unwrap_or(PERIOD).max(DEBOUNCE);
        };
        self.context.metrics.reconcile_failed();
        let delay = memory.retry.map_or(BACKOFF, |(_, delay)| (delay * 2).min(MAX_BACKOFF));
        tracing::warn!(tenant = name, "the reconcile failed and is tried again in {} s: {error}", delay.as_secs());
        memory.retry = Some((Instant::now() + delay, delay));
        delay
    }
}
