//! Whether the gateway can do its work: only then do sidecars reach it through its Service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clawlock_proxy::admin::Ready;
use clawlock_proxy::policies::PolicyTable;

/// What is there already.
pub(crate) struct Readiness {
    /// Lends its trusted time.
    policies: Arc<PolicyTable>,
    identity_until_ms: AtomicU64,
    synced: AtomicBool,
    secrets: AtomicBool,
    ending: AtomicBool,
}

impl Readiness {
    /// Nothing yet.
    pub(crate) fn new(policies: Arc<PolicyTable>) -> Self {
        Self {
            policies,
            identity_until_ms: AtomicU64::new(0),
            synced: AtomicBool::new(false),
            secrets: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        }
    }

    /// A certificate is in force until then.
    pub(crate) fn identity_until(&self, end_ms: u64) {
        self.identity_until_ms.store(end_ms, Ordering::Relaxed);
    }

    /// Everything that the operator knew is in force. What is in force stays when the operator goes away, and so
    /// does this.
    pub(crate) fn synced(&self) {
        self.synced.store(true, Ordering::Relaxed);
    }

    /// All Secrets were read once. Their values stay when the API server goes away, and so does this.
    pub(crate) fn secrets(&self) {
        self.secrets.store(true, Ordering::Relaxed);
    }

    /// The end has begun.
    pub(crate) fn ending(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    fn missing(&self) -> Option<&'static str> {
        let until_ms = self.identity_until_ms.load(Ordering::Relaxed);
        if self.ending.load(Ordering::Relaxed) {
            Some("it is ending")
        } else if until_ms == 0 {
            Some("there is no certificate yet")
        } else if self.policies.now_ms() >= until_ms {
            Some("the certificate has ended and was not renewed")
        } else if !self.synced.load(Ordering::Relaxed) {
            Some("not all policy has been received")
        } else if !self.secrets.load(Ordering::Relaxed) {
            Some("the Secrets have not been read")
        } else {
            None
        }
    }
}

impl Ready for Readiness {
    async fn why_not(&self) -> Option<&'static str> {
        self.missing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawlock_policy::envelope::TrustedKeys;
    use clawlock_proxy::clock::SystemClock;

    #[test]
    fn each_part_is_needed() {
        let policies = Arc::new(PolicyTable::new(TrustedKeys::new([]), Arc::new(SystemClock)));
        let readiness = Readiness::new(policies.clone());
        assert_eq!(readiness.missing(), Some("there is no certificate yet"));
        readiness.identity_until(policies.now_ms());
        assert_eq!(readiness.missing(), Some("the certificate has ended and was not renewed"));
        readiness.identity_until(u64::MAX);
        assert_eq!(readiness.missing(), Some("not all policy has been received"));
        readiness.synced();
        assert_eq!(readiness.missing(), Some("the Secrets have not been read"));
        readiness.secrets();
        assert_eq!(readiness.missing(), None);
        readiness.ending();
        assert_eq!(readiness.missing(), Some("it is ending"));
    }
}
