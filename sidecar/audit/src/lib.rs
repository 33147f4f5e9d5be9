//! Decision records and the sinks that write them.
//!
//! A gate that wants to let something happen commits a [`Record`] first and goes on only with the
//! [`Receipt`] that comes back. A sink may be slow or fail: the committer waits a bounded time
//! ([`COMMIT_TIMEOUT`]) and is then refused, and so is its request. Records hold no credential, no
//! body and no header.

pub mod record;
pub mod sink;
pub mod writer;

pub use record::{ActionRecord, Gate, Latency, Outcome, Record};
pub use sink::{AuditError, AuditSink, COMMIT_TIMEOUT, Receipt};
pub use writer::{JsonLines, Tap};
