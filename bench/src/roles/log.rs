//! The counterparts' log: the same record as a gate's, appended to a file where it happens.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use clawlock_audit::{ActionRecord, Gate, Latency, Outcome, Record};

use crate::pki::{IDENTITY, TENANT};

/// Appends records. Every counterpart answers `allow` by the same rule.
pub(super) struct Log {
    file: File,
    next: AtomicU64,
    gate: Gate,
    tenant: Arc<str>,
    workload: Arc<str>,
    outcome: Outcome,
}

impl Log {
    /// Appends to a file of the run's folder.
    pub(super) fn create(dir: &Path, name: &str, gate: Gate) -> Result<Self, String> {
        let path = dir.join(name);
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let outcome = Outcome {
            verdict: "allow",
            code: None,
            shadow: None,
            shadow_policy: None,
            shadow_rule: None,
            policy: Some("acme/bench".into()),
            rule: Some("allowed".into()),
            digest: Some(format!("sha256:{}", "0".repeat(64)).into()),
            generation: 1,
        };
        Ok(Self {
            file: file.map_err(|e| format!("cannot open {}: {e}", path.display()))?,
            next: AtomicU64::new(1),
            gate,
            tenant: TENANT.into(),
            workload: IDENTITY.into(),
            outcome,
        })
    }

    /// Appends one record of an action.
    pub(super) fn append(&self, request_id: Option<&str>, action: ActionRecord) -> Result<(), String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let own = || format!("{:016x}", self.next.fetch_add(1, Ordering::Relaxed));
        let record = Record {
            version: clawlock_audit::record::RECORD_VERSION,
            time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            request_id: request_id.map_or_else(|| own().into(), Into::into),
            gate: self.gate,
            tenant: self.tenant.clone(),
            workload: self.workload.clone(),
            action,
            outcome: self.outcome.clone(),
            latency_us: Latency::default(),
        };
        let mut line = serde_json::to_vec(&record).map_err(|e| e.to_string())?;
        line.push(b'\n');
        (&self.file).write_all(&line).map_err(|e| format!("cannot append: {e}"))
    }

    /// The record's form of an HTTP request.
    pub(super) fn http(method: &http::Method, target: String, path: &str) -> ActionRecord {
        ActionRecord::Http {
            upstream: Some("bench".into()),
            operation: Some("bench.get_item".into()),
            method: method.as_str().to_owned(),
            target,
            path: path.to_owned(),
        }
    }
}
