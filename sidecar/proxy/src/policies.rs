//! The assignments in force, by identity. The sidecar's table holds one, the gateway's one per pod.
//!
//! What comes in is a signed assignment with its signed documents; it replaces the older one as a
//! whole or not at all. Nothing is stored: after a restart only what a live source installs counts.
//! Every change moves the epoch, which open streams watch to be decided again.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use clawlock_policy::document::{Assignment, Document};
use clawlock_policy::envelope::{self, Envelope, EnvelopeError, TrustedKeys};
use clawlock_policy::ticket::TrustedTime;
use clawlock_policy::{BuildError, Cause, Code, Denial, Policy, SpiffeId, codec};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::denial;
use crate::latch::{Halt, Latches};
use crate::limits::ASSIGNMENTS;

/// How often the table looks for assignments that have ended, so that their open streams end too.
pub const EXPIRY_CHECK: Duration = Duration::from_secs(1);

/// Why an assignment was not installed. The one before it stays in force.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A signature or an envelope is not valid.
    #[error("envelope: {0}")]
    Envelope(#[from] EnvelopeError),
    /// A payload does not decode.
    #[error("payload: {0}")]
    Codec(#[from] codec::CodecError),
    /// The documents do not make a policy.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// It is older than the one in force: a replay.
    #[error("generation {offered} of {identity} is older than generation {installed}, which is in force")]
    Older {
        /// Whom it is for.
        identity: SpiffeId,
        /// Its generation.
        offered: u64,
        /// The generation in force.
        installed: u64,
    },
    /// It has the generation of the one in force, and says something else.
    #[error("generation {generation} of {identity} is in force with another content")]
    Differs {
        /// Whom it is for.
        identity: SpiffeId,
        /// The generation of both.
        generation: u64,
    },
    /// It was taken out: a replay.
    #[error("generation {generation} of {identity} was taken out")]
    Removed {
        /// Whom it is for.
        identity: SpiffeId,
        /// Its generation.
        generation: u64,
    },
    /// Its validity has already ended.
    #[error("generation {offered} of {identity} ended {ago_ms} ms ago")]
    Expired {
        /// Whom it is for.
        identity: SpiffeId,
        /// Its generation.
        offered: u64,
        /// How long ago it ended.
        ago_ms: u64,
    },
    /// It is of another tenant.
    #[error("{identity} is of tenant {tenant:?}, which this table is not for")]
    Tenant {
        /// Whom it is for.
        identity: SpiffeId,
        /// Its tenant.
        tenant: Arc<str>,
    },
    /// The table is full.
    #[error("the table holds {ASSIGNMENTS} assignments already")]
    Full,
}

type Table = HashMap<SpiffeId, Arc<Policy>>;

/// The latest assignment of an identity.
struct Seen {
    generation: u64,
    /// Digest of what it says beside its times.
    content: String,
    not_after_ms: u64,
    /// It was taken out.
    removed: bool,
}

/// The assignments in force.
pub struct PolicyTable {
    // The only tenant whose assignments are installed; `None`: whoever's are signed.
    tenant: Option<String>,
    keys: ArcSwap<TrustedKeys>,
    clock: Arc<dyn Clock>,
    time: TrustedTime,
    table: ArcSwap<Table>,
    // Serialises writers, and remembers the latest assignment of every identity, so that a removed one
    // does not come back as an older one.
    seen: Mutex<HashMap<SpiffeId, Seen>>,
    epoch: watch::Sender<u64>,
    // Set while the gate is closed: the answer to everything.
    closed: ArcSwapOption<Denial>,
    latches: Latches,
}

impl PolicyTable {
    /// An empty table: everything is denied.
    #[must_use]
    pub fn new(keys: TrustedKeys, clock: Arc<dyn Clock>) -> Self {
        Self {
            tenant: None,
            keys: ArcSwap::from_pointee(keys),
            clock,
            time: TrustedTime::new(),
            table: ArcSwap::default(),
            seen: Mutex::default(),
            epoch: watch::channel(0).0,
            closed: ArcSwapOption::empty(),
            latches: Latches::default(),
        }
    }

    /// Installs assignments of this tenant only: the keys that sign may be those of other tenants too.
    #[must_use]
    pub fn of_tenant(self, tenant: impl Into<String>) -> Self {
        Self { tenant: Some(tenant.into()), ..self }
    }

    /// Trusts other keys from now on. What was installed stays: it was verified when it came.
    pub fn trust(&self, keys: TrustedKeys) {
        self.keys.store(Arc::new(keys));
    }

    /// Closes the gate: whatever is asked is answered with this refusal, and open streams end.
    pub fn close(&self, denial: Denial) {
        self.closed.store(Some(Arc::new(denial)));
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// Opens the gate again: policies decide.
    pub fn open(&self) {
        self.closed.store(None);
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// Halts a pod: from now on whatever it asks for is refused with the reason, and its open streams end. The first
    /// reason stays. It ends only with an assignment that says that the pod is halted; then that says it.
    pub fn halt(&self, identity: &SpiffeId, halt: Halt) {
        // No assignment comes in between, which would say it and leave the latch to nobody.
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if self.table.load().get(identity).is_some_and(|policy| policy.is_halted_by_gate()) {
            return;
        }
        if self.latches.set(identity, halt, |identity| seen.contains_key(identity)) {
            drop(seen);
            self.epoch.send_modify(|epoch| *epoch += 1);
        }
    }

    /// Goes on with what a file says of the one pod of this gate: why it is halted, if it is. It is kept there from now
    /// on, so that it outlives this process. The agent must not reach the file.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn keep_halt(&self, file: PathBuf, identity: &SpiffeId) -> io::Result<()> {
        self.latches.keep(file, identity)
    }

    /// Why a pod is halted here, when it is and its assignment does not say so yet.
    pub(crate) fn halt_of(&self, identity: &SpiffeId) -> Option<Arc<Halt>> {
        self.latches.get(identity)
    }

    /// The pods that are halted here and not yet by their assignment: the operator must hear of them.
    #[must_use]
    pub fn halts(&self) -> Vec<(SpiffeId, Arc<Halt>)> {
        self.latches.all()
    }

    /// Moves with every change of [`PolicyTable::halts`].
    #[must_use]
    pub fn halts_changed(&self) -> watch::Receiver<u64> {
        self.latches.changed()
    }

    /// What an agent did that was never decided, or was blocked, when its pod is halted for that: here, or by now by its
    /// assignment.
    #[must_use]
    pub fn disobeyed(&self, identity: &SpiffeId) -> Option<String> {
        if let Some(halt) = self.latches.get(identity).filter(|halt| halt.cause == Cause::Disobedience) {
            return Some(halt.detail.clone());
        }
        self.table.load().get(identity)?.disobeyed().map(str::to_owned)
    }

    /// Verifies and installs an assignment with its documents. Answers its generation.
    ///
    /// # Errors
    /// When anything about it is not valid; then nothing changes.
    pub fn install(&self, assignment: &[u8], documents: &[Vec<u8>]) -> Result<u64, InstallError> {
        let envelope = Envelope::decode(assignment)?;
        let keys = self.keys.load_full();
        let assignment: Assignment = codec::decode_assignment(envelope.verify(envelope::ASSIGNMENT, &keys)?)?;
        let documents = documents.iter().map(|bytes| read(bytes, &keys)).collect::<Result<Vec<_>, _>>()?;
        let (generation, issued_at_ms, not_after_ms) =
            (assignment.generation, assignment.issued_at_ms, assignment.not_after_ms);
        let timeless = Assignment { issued_at_ms: 0, not_after_ms: 0, ..assignment.clone() };
        let content = codec::digest(&codec::encode_assignment(&timeless));
        let policy = Arc::new(Policy::build(assignment, documents)?);
        let identity = policy.caller().identity.clone();
        if self.tenant.as_ref().is_some_and(|tenant| **tenant != **policy.tenant()) {
            return Err(InstallError::Tenant { identity, tenant: policy.tenant().clone() });
        }

        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Seen { generation: installed, content: known, removed, .. }) = seen.get(&identity) {
            let installed = *installed;
            if generation < installed {
                return Err(InstallError::Older { identity, offered: generation, installed });
            }
            if generation == installed && *removed {
                return Err(InstallError::Removed { identity, generation });
            }
            // A generation names one content: answers are kept and acknowledged by it.
            if generation == installed && content != *known {
                return Err(InstallError::Differs { identity, generation });
            }
        }
        if seen.len() >= ASSIGNMENTS && !seen.contains_key(&identity) {
            // Assignments that have ended are refused as such, whatever their generation.
            let (table, now_ms) = (self.table.load(), self.now_ms());
            seen.retain(|identity, last| table.contains_key(identity) || now_ms < last.not_after_ms);
            if seen.len() >= ASSIGNMENTS {
                return Err(InstallError::Full);
            }
        }
        let reading = self.clock.read();
        self.time.install(issued_at_ms, reading);
        let now_ms = self.time.now_ms(reading);
        if now_ms >= not_after_ms {
            return Err(InstallError::Expired { identity, offered: generation, ago_ms: now_ms - not_after_ms });
        }
        let same = |last: &Seen| last.generation == generation && last.content == content;
        let renewed = seen.get(&identity).is_some_and(same) && self.table.load().contains_key(&identity);
        seen.insert(identity.clone(), Seen { generation, content, not_after_ms, removed: false });
        let halted = policy.is_halted_by_gate();
        self.replace(|table| {
            table.insert(identity.clone(), policy);
        });
        if halted {
            self.latches.release(&identity);
        }
        if !renewed {
            // Only its end has moved otherwise: there is nothing to decide again, for no stream.
            self.epoch.send_modify(|epoch| *epoch += 1);
        }
        Ok(generation)
    }

    /// Takes an identity out: its pod has ended. Its assignments up to this one stay refused.
    pub fn remove(&self, identity: &SpiffeId) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = seen.get_mut(identity) {
            last.removed = true;
        }
        self.latches.release(identity);
        self.change(|table| {
            table.remove(identity);
        });
    }

    /// Takes an identity out that its source no longer names. Other than after [`PolicyTable::remove`], the
    /// assignment that it had can come again: a source that has just started may not know every pod yet.
    pub fn withdraw(&self, identity: &SpiffeId) {
        let _seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.change(|table| {
            table.remove(identity);
        });
    }

    /// The identities that have an assignment, also one that has ended.
    #[must_use]
    pub fn identities(&self) -> Vec<SpiffeId> {
        self.table.load().keys().cloned().collect()
    }

    /// Completes once the assignment of an identity is taken out. One that has none yet is waited for.
    pub async fn gone(&self, identity: &SpiffeId) {
        let mut epoch = self.epoch.subscribe();
        let mut known = false;
        loop {
            epoch.mark_unchanged();
            let here = self.table.load().contains_key(identity);
            if known && !here {
                return;
            }
            known = here;
            if epoch.changed().await.is_err() {
                return;
            }
        }
    }

    fn change(&self, edit: impl FnOnce(&mut Table)) {
        self.replace(edit);
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    // Callers hold the lock on `seen`, so no change is lost.
    fn replace(&self, edit: impl FnOnce(&mut Table)) {
        let mut table = Table::clone(&self.table.load());
        edit(&mut table);
        self.table.store(Arc::new(table));
    }

    /// The policy in force for an identity, and the trusted time to decide by.
    ///
    /// # Errors
    /// [`Code::NoAssignment`] or [`Code::AssignmentExpired`].
    pub fn active(&self, identity: &SpiffeId) -> Result<(Arc<Policy>, u64), Denial> {
        let now_ms = self.now_ms();
        if let Some(denial) = &*self.closed.load() {
            return Err(Denial::clone(denial));
        }
        if let Some(halt) = self.latches.get(identity) {
            return Err(halt.denial());
        }
        let table = self.table.load();
        let Some(policy) = table.get(identity) else {
            return Err(denial::of(Code::NoAssignment, format!("no policy was assigned to {identity}")));
        };
        if now_ms >= policy.not_after_ms() {
            let mut expired =
                denial::of(Code::AssignmentExpired, "the policy's validity ended and was not renewed".to_owned());
            expired.generation = policy.generation();
            return Err(expired);
        }
        Ok((policy.clone(), now_ms))
    }

    /// The trusted time in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.time.now_ms(self.clock.read())
    }

    /// The time since boot in milliseconds, suspended time included: what ages are measured by.
    pub(crate) fn boot_ms(&self) -> u64 {
        self.clock.read().boot_ms
    }

    /// Lets every open stream be decided again, although no assignment has changed.
    pub(crate) fn decide_again(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// The tenant of an identity, also of one whose assignment has ended and empty when it has none, and the
    /// trusted time: what a record says of them.
    pub(crate) fn tenant_and_time(&self, identity: &SpiffeId) -> (Arc<str>, u64) {
        let tenant = self.table.load().get(identity).map(|policy| policy.tenant().clone());
        (tenant.unwrap_or_default(), self.now_ms())
    }

    /// Whether an identity has a policy in force now.
    #[must_use]
    pub fn has(&self, identity: &SpiffeId) -> bool {
        self.active(identity).is_ok()
    }

    /// Moves with every change of the table.
    #[must_use]
    pub fn epoch(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    /// Moves the epoch whenever an assignment, or the time in which audit mode counts, has ended, and whenever
    /// a rule's schedule opens or is closed, so that open streams end with it. Runs until it is dropped.
    pub async fn watch_expiry(&self) {
        let mut before: Option<u64> = None;
        loop {
            tokio::time::sleep(EXPIRY_CHECK).await;
            let now_ms = self.now_ms();
            let table = self.table.load();
            // Each policy is asked about both times, since it may have come between them. What was before the
            // first look nobody knows, so it counts as a change.
            let other = before.is_none_or(|last_ms| {
                let passed = |end: Option<u64>| end.is_some_and(|end| last_ms < end && now_ms >= end);
                table.values().any(|policy| {
                    passed(Some(policy.not_after_ms()))
                        || passed(policy.audit_until_ms())
                        || policy.open_schedules(last_ms) != policy.open_schedules(now_ms)
                })
            });
            if other {
                self.epoch.send_modify(|epoch| *epoch += 1);
            }
            before = Some(now_ms);
        }
    }
}

fn read(bytes: &[u8], keys: &TrustedKeys) -> Result<Document, InstallError> {
    let envelope = Envelope::decode(bytes)?;
    Ok(codec::decode(envelope.verify(envelope::DOCUMENT, keys)?)?)
}
