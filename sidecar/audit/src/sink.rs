//! The seam between a gate and whatever keeps its records.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::Record;

/// How long a request waits for its record to be written before it is denied. Group commit to a
/// healthy disk takes about a millisecond; a quarter of a second is a disk in trouble, and an agent
/// that waits longer has timed out anyway.
pub const COMMIT_TIMEOUT: Duration = Duration::from_millis(250);

/// Proof that a record was written. Only sinks of this crate make one.
#[derive(Debug)]
#[must_use = "what was recorded may now happen"]
pub struct Receipt(pub(crate) ());

/// Why a record was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// The queue is full.
    #[error("the audit queue is full ({0} records wait)")]
    Full(usize),
    /// The sink did not answer in time.
    #[error("the audit log did not confirm the record within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// Writing failed.
    #[error("the audit log cannot be written: {0}")]
    Failed(String),
}

/// Future of [`AuditSink::commit`].
pub type Commit<'a> = Pin<Box<dyn Future<Output = Result<Receipt, AuditError>> + Send + 'a>>;

/// Keeps records.
pub trait AuditSink: Send + Sync {
    /// Writes a record and answers once it is written, within a bounded time.
    fn commit(&self, record: Record) -> Commit<'_>;
}
