//! Counters of the webhooks, in the OpenMetrics text format. Labels are closed enums: nothing that a person
//! or a tenant writes becomes a label.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Hook {
    /// Injection into pods.
    Pods,
    /// About an `AgentPolicy`.
    AgentPolicies,
    /// About a `TenantGateway`.
    TenantGateways,
    /// About an `Upstream`.
    Upstreams,
    /// About an `AgentHalt`.
    AgentHalts,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(super) enum Outcome {
    /// It may be done as it is.
    Allowed,
    /// It may be done with changes.
    Patched,
    /// It may not.
    Denied,
    /// It was no review, or too much.
    Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    hook: Hook,
    outcome: Outcome,
}

/// All counters of the process.
pub(super) struct Metrics {
    registry: Registry,
    reviews: Family<Labels, Counter>,
    seconds: Histogram,
    /// Open connections.
    pub(super) connections: Gauge<i64, AtomicI64>,
    /// Tenants into whose pods it can inject.
    pub(super) tenants: Gauge<i64, AtomicI64>,
    /// Watches that broke.
    pub(super) watch_errors: Counter,
    /// Certificates that were taken into use.
    pub(super) certificates: Counter,
}

impl Metrics {
    /// All at zero.
    pub(super) fn new() -> Self {
        let mut registry = Registry::with_prefix("clawlock_webhook");
        let reviews = Family::<Labels, Counter>::default();
        // 0.1 ms to 1.6 s: from a pod that is allowed as it is to the largest policy on a busy machine.
        let seconds = Histogram::new(exponential_buckets(1e-4, 2.0, 15));
        let (connections, tenants) = (Gauge::default(), Gauge::default());
        let (watch_errors, certificates) = (Counter::default(), Counter::default());
        registry.register("reviews", "Answers by webhook and outcome", reviews.clone());
        let help = "Time from a whole request to its answer";
        registry.register_with_unit("review", help, Unit::Seconds, seconds.clone());
        registry.register("connections", "Open connections", connections.clone());
        registry.register("tenants", "Tenants into whose pods it can inject", tenants.clone());
        registry.register("watch_errors", "Watches that broke and were started again", watch_errors.clone());
        registry.register("certificates", "Certificates that were taken into use", certificates.clone());
        Self { registry, reviews, seconds, connections, tenants, watch_errors, certificates }
    }

    /// A review was answered.
    pub(super) fn answered(&self, hook: Hook, outcome: Outcome, took: Duration) {
        self.reviews.get_or_create(&Labels { hook, outcome }).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// The OpenMetrics text.
    pub(super) fn text(&self) -> String {
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
    fn answers_are_counted() {
        let metrics = Metrics::new();
        metrics.answered(Hook::Pods, Outcome::Patched, Duration::from_millis(1));
        let text = metrics.text();
        assert!(text.contains("clawlock_webhook_reviews_total{hook=\"Pods\",outcome=\"Patched\"} 1"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
