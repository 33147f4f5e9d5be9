//! Which replica leads: one Lease, taken and renewed with optimistic locking.
//!
//! Clocks of two machines are never compared: a replica takes the Lease only after it has looked at the
//! same record for the record's whole duration by its own clock. The leader gives up well before others
//! may take over, and a leader that could not renew in time ends the process: nothing of it can write
//! any more.

mod decide;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

use crate::clock::{millis, since_boot};
use crate::cluster::Brief;
use decide::{Observed, Step, decide};

/// Name of the Lease.
pub(crate) const NAME: &str = "clawlock-operator";
/// How long a Lease holds without being renewed: a dead leader is replaced within about this time.
pub(crate) const DURATION: Duration = Duration::from_secs(15);
/// After this time without a renewal a leader stops, well before others may take over.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often the Lease is looked at.
const PERIOD: Duration = Duration::from_secs(2);
/// One request must not eat up the deadline.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// Whether this replica leads, asked before every write.
#[derive(Debug, Default)]
pub(crate) struct Leadership {
    /// Until when, in milliseconds since boot; zero when it does not.
    until_ms: AtomicU64,
}

/// This replica does not lead, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica is not the leader; nothing was written")]
pub(crate) struct NotLeader;

impl Leadership {
    /// Whether this replica leads now.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn check(&self) -> Result<(), NotLeader> {
        if millis(since_boot()) < self.until_ms.load(Ordering::Acquire) { Ok(()) } else { Err(NotLeader) }
    }

    fn extend(&self, from: Duration) {
        self.until_ms.store(millis(from + DEADLINE), Ordering::Release);
    }

    fn end(&self) {
        self.until_ms.store(0, Ordering::Release);
    }
}

/// The election of one replica.
pub(crate) struct Election {
    api: Api<Lease>,
    holder: String,
    leadership: Arc<Leadership>,
    leading: watch::Sender<bool>,
}

/// What one look at the Lease came to.
enum Turn {
    /// This replica holds it.
    Held,
    /// Another one does.
    Other,
    /// It changed while it was looked at.
    Again,
}

/// The Lease was lost.
#[derive(Debug, thiserror::Error)]
#[error("the Lease {NAME} was lost ({0}); this process ends, and its next start is a follower")]
pub(crate) struct Lost(String);

impl Election {
    /// An election in which this replica is called `holder`.
    pub(crate) fn new(client: Client, namespace: &str, holder: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            holder: holder.to_owned(),
            leadership: Arc::default(),
            leading: watch::channel(false).0,
        }
    }

    /// What writers ask.
    pub(crate) fn leadership(&self) -> Arc<Leadership> {
        self.leadership.clone()
    }

    /// Becomes true when this replica leads; never false again.
    pub(crate) fn leading(&self) -> watch::Receiver<bool> {
        self.leading.subscribe()
    }

    /// Runs until the Lease is lost, or until `stop` resolves, when the Lease is given back.
    ///
    /// # Errors
    /// When the Lease was held and could not be kept.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Lost> {
        let mut stop = std::pin::pin!(stop);
        let mut observed = Observed::default();
        let mut renewed: Option<Duration> = None;
        loop {
            let asked = since_boot();
            match tokio::time::timeout(REQUEST_TIMEOUT, self.turn(&mut observed)).await {
                Ok(Ok(Turn::Held)) => {
                    self.leadership.extend(asked);
                    renewed = Some(asked);
                    self.leading.send_if_modified(|leading| !std::mem::replace(leading, true));
                }
                Ok(Ok(Turn::Other)) if renewed.is_some() => {
                    self.leadership.end();
                    return Err(Lost("another replica holds it".to_owned()));
                }
                Ok(Ok(Turn::Other | Turn::Again)) => {}
                Ok(Err(error)) => tracing::warn!("the Lease could not be read or written: {}", Brief(&error)),
                Err(_) => tracing::warn!("the API server did not answer about the Lease in time"),
            }
            if renewed.is_some_and(|renewed| since_boot().saturating_sub(renewed) >= DEADLINE) {
                self.leadership.end();
                return Err(Lost(format!("it could not be renewed for {} s", DEADLINE.as_secs())));
            }
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.as_mut() => {
                    self.give_back(renewed.is_some()).await;
                    return Ok(());
                }
            }
        }
    }

    /// One look at the Lease.
    async fn turn(&self, observed: &mut Observed) -> Result<Turn, kube::Error> {
        let lease = self.api.get_opt(NAME).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let step = decide(observed, spec, &self.holder, since_boot());
        let result = match (step, lease) {
            (Step::Wait, _) => return Ok(Turn::Other),
            (Step::Take { transitions }, None) => {
                let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(self.spec(transitions, None)) };
                self.api.create(&PostParams::default(), &lease).await
            }
            (Step::Take { transitions }, Some(mut lease)) => {
                lease.spec = Some(self.spec(transitions, None));
                self.api.replace(NAME, &PostParams::default(), &lease).await
            }
            (Step::Renew, Some(mut lease)) => {
                let old = lease.spec.unwrap_or_default();
                lease.spec = Some(self.spec(old.lease_transitions.unwrap_or_default(), old.acquire_time));
                self.api.replace(NAME, &PostParams::default(), &lease).await
            }
            (Step::Renew, None) => return Ok(Turn::Again),
        };
        match result {
            Ok(_) => Ok(Turn::Held),
            // Someone else wrote it in between; the next look says who.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Turn::Again),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, transitions: i32, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Gives the Lease back, so that the other replica need not wait for its end. Best effort.
    async fn give_back(&self, held: bool) {
        self.leadership.end();
        if !held {
            return;
        }
        let given = tokio::time::timeout(REQUEST_TIMEOUT, async {
            let mut lease = self.api.get(NAME).await?;
            let mine = |spec: &LeaseSpec| spec.holder_identity.as_deref() == Some(&self.holder);
            if let Some(spec) = lease.spec.as_mut().filter(|spec| mine(spec)) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.api.replace(NAME, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        });
        if !matches!(given.await, Ok(Ok(()))) {
            tracing::warn!("the Lease could not be given back; the other replica waits for its end");
        }
    }
}
