//! What a gateway as a program counts beside the gates: without labels, so that nothing makes more series.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The program's own figures.
#[derive(Clone, Default)]
pub(crate) struct Figures {
    /// End of the certificate in force, in seconds since the Unix epoch.
    pub(crate) certificate_end: Gauge<i64, AtomicI64>,
    /// Assignments that were refused.
    pub(crate) refused_assignments: Counter,
    /// Breaks of the watch over Secrets.
    pub(crate) watch_failures: Counter,
    /// Secrets whose values are known.
    pub(crate) secrets: Gauge<i64, AtomicI64>,
}

impl Figures {
    /// Adds them to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Self { certificate_end, refused_assignments, watch_failures, secrets } = self;
        registry.register_with_unit(
            "certificate_end",
            "End of the certificate in force, since the Unix epoch",
            Unit::Seconds,
            certificate_end.clone(),
        );
        registry.register("refused_assignments", "Assignments that were not valid", refused_assignments.clone());
        registry.register("secret_watch_failures", "Breaks of the watch over Secrets", watch_failures.clone());
        registry.register("secrets", "Secrets whose values are known", secrets.clone());
    }
}
