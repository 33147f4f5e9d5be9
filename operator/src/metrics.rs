//! Counters of the operator, in the OpenMetrics text format. Labels are closed enums: no name of a tenant,
//! a pod or an object becomes a label, so the number of series is bounded.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What was written to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Written {
    /// By server-side apply.
    Apply,
    /// A new object.
    Create,
    /// A whole object.
    Replace,
    /// A part of an object.
    Patch,
    /// A status.
    Status,
    /// A deletion.
    Delete,
}

/// What a request for a certificate came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Enrolled {
    /// A certificate was issued.
    Issued,
    /// The token or the request was refused.
    Refused,
    /// Too many asked.
    Limited,
    /// The API server could not be asked.
    Unavailable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: Written,
    ok: Truth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Truth {
    /// It succeeded.
    Yes,
    /// It failed.
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EnrolLabels {
    result: Enrolled,
}

/// All counters of the process.
pub(crate) struct Metrics {
    registry: Registry,
    writes: Family<WriteLabels, Counter>,
    enrolments: Family<EnrolLabels, Counter>,
    compile_seconds: Histogram,
    accept_seconds: Histogram,
    reconcile_errors: Counter,
    watch_errors: Counter,
    /// `AgentHalt`s written for gates.
    pub(crate) halts: Counter,
    /// Open streams of the control API.
    pub(crate) streams: Gauge<i64, AtomicI64>,
    /// Open connections of the control API.
    pub(crate) connections: Gauge<i64, AtomicI64>,
    /// Tenants that this replica serves.
    pub(crate) tenants: Gauge<i64, AtomicI64>,
    /// Agents that this replica knows.
    pub(crate) agents: Gauge<i64, AtomicI64>,
    /// 1 on the leader.
    pub(crate) leading: Gauge<i64, AtomicI64>,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("clawlock_operator");
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let metrics = Self {
            writes: Family::default(),
            enrolments: Family::default(),
            compile_seconds: seconds(),
            accept_seconds: seconds(),
            reconcile_errors: Counter::default(),
            watch_errors: Counter::default(),
            halts: Counter::default(),
            streams: Gauge::default(),
            connections: Gauge::default(),
            tenants: Gauge::default(),
            agents: Gauge::default(),
            leading: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("writes", "Writes to the API server", metrics.writes.clone());
        registry.register("enrolments", "Requests for a certificate", metrics.enrolments.clone());
        let help = "Time to compile all objects into documents";
        registry.register_with_unit("compile", help, Unit::Seconds, metrics.compile_seconds.clone());
        let help = "Time from a change of an object to its signed state";
        registry.register_with_unit("accept", help, Unit::Seconds, metrics.accept_seconds.clone());
        let help = "Reconciles of a tenant that failed and are tried again";
        registry.register("reconcile_errors", help, metrics.reconcile_errors.clone());
        registry.register("watch_errors", "Watches that broke and were started again", metrics.watch_errors.clone());
        registry.register("halts", "AgentHalts written because a gate halted a pod", metrics.halts.clone());
        registry.register("streams", "Open streams of the control API", metrics.streams.clone());
        registry.register("connections", "Open connections of the control API", metrics.connections.clone());
        registry.register("tenants", "Tenants that are served", metrics.tenants.clone());
        registry.register("agents", "Agents that are known", metrics.agents.clone());
        registry.register("leading", "Whether this replica leads", metrics.leading.clone());
        Self { registry, ..metrics }
    }

    /// A write was tried.
    pub(crate) fn written(&self, kind: Written, ok: bool) {
        let ok = if ok { Truth::Yes } else { Truth::No };
        self.writes.get_or_create(&WriteLabels { kind, ok }).inc();
    }

    /// A certificate was asked for.
    pub(crate) fn enrolled(&self, result: Enrolled) {
        self.enrolments.get_or_create(&EnrolLabels { result }).inc();
    }

    /// Objects were compiled.
    pub(crate) fn compiled(&self, took: Duration) {
        self.compile_seconds.observe(took.as_secs_f64());
    }

    /// A change is in the signed state.
    pub(crate) fn accepted(&self, took: Duration) {
        self.accept_seconds.observe(took.as_secs_f64());
    }

    /// A reconcile failed.
    pub(crate) fn reconcile_failed(&self) {
        self.reconcile_errors.inc();
    }

    /// A watch broke.
    pub(crate) fn watch_failed(&self) {
        self.watch_errors.inc();
    }

    /// The OpenMetrics text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::warn!("the metrics could not be written");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_closed_enums() {
        let metrics = Metrics::new();
        metrics.written(Written::Apply, true);
        metrics.enrolled(Enrolled::Refused);
        metrics.compiled(Duration::from_millis(3));
        let text = metrics.text();
        assert!(text.contains("clawlock_operator_writes_total{kind=\"Apply\",ok=\"Yes\"} 1"), "{text}");
        assert!(text.contains("clawlock_operator_enrolments_total{result=\"Refused\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
