//! Counters of a gate, in the OpenMetrics text format. Labels are closed enums: nothing that an agent
//! or a tenant chooses becomes a label, so the number of series is bounded.

use std::fmt;
use std::sync::atomic::AtomicI64;

use clawlock_audit::Gate;
use clawlock_policy::{Code, Verdict};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    gate: GateLabel,
    verdict: Kind,
    code: CodeLabel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct GateLabel(Gate);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants' names are the labels' values")]
enum Kind {
    allow,
    ask,
    deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct CodeLabel(Option<Code>);

impl EncodeLabelValue for GateLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        let name = match self.0 {
            Gate::Agent => "agent",
            Gate::Gateway => "gateway",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

impl EncodeLabelValue for CodeLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.0.map_or("", Code::as_str), encoder)
    }
}

/// All counters of one process.
pub struct Metrics {
    registry: Registry,
    decisions: Family<DecisionLabels, Counter>,
    decision_seconds: Histogram,
    /// Connections open now, of agents and of sidecars.
    pub(crate) connections: Gauge<i64, AtomicI64>,
    /// Streams that were closed because a new policy no longer allows them.
    pub(crate) revoked: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("clawlock");
        let decisions = Family::<DecisionLabels, Counter>::default();
        // 1 µs to 0.26 s: from a bare decision to one that waited its bound for the audit log.
        let decision_seconds = Histogram::new(exponential_buckets(1e-6, 4.0, 10));
        let connections = Gauge::default();
        let revoked = Counter::default();
        registry.register("decisions", "Decisions by gate, verdict and code", decisions.clone());
        registry.register_with_unit(
            "decision",
            "Time from a request's head to its decision",
            Unit::Seconds,
            decision_seconds.clone(),
        );
        registry.register("connections", "Connections of agents and sidecars open now", connections.clone());
        registry.register("revoked_streams", "Open streams closed by a change of policy", revoked.clone());
        Self { registry, decisions, decision_seconds, connections, revoked }
    }
}

impl Metrics {
    /// Counts a decision.
    pub(crate) fn decided(&self, gate: Gate, verdict: &Verdict, micros: u32) {
        let (kind, code) = match verdict {
            Verdict::Allow(_) => (Kind::allow, None),
            Verdict::Ask(denial) => (Kind::ask, Some(denial.code)),
            Verdict::Deny(denial) => (Kind::deny, Some(denial.code)),
        };
        let labels = DecisionLabels { gate: GateLabel(gate), verdict: kind, code: CodeLabel(code) };
        self.decisions.get_or_create(&labels).inc();
        self.decision_seconds.observe(f64::from(micros) / 1e6);
    }

    /// The text that a scrape answers.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String fails only when an encoder does, and those above cannot.
        encode(&mut text, &self.registry).expect("metrics encode into a String");
        text
    }
}
