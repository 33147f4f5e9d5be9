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

use crate::llm::ledger::{Fits, Objection};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    gate: GateLabel,
    verdict: Kind,
    code: CodeLabel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShadowLabels {
    gate: GateLabel,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    reason: Refusal,
}

/// Why the gateway let a connection no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants' names are the labels' values")]
pub(crate) enum Refusal {
    /// Its address has too many, or comes too often.
    source,
    /// Its first message is none, or too large.
    hello,
    /// The handshake failed: no certificate, or not one of the tenant.
    handshake,
    /// The handshake took too long.
    timeout,
    /// The gateway has no certificate yet.
    no_certificate,
    /// Its certificate names nobody, or its identity has too many connections.
    identity,
    /// Its pod has ended.
    removed,
    /// Its address has too many connections to the control API, or comes too often.
    splice_source,
    /// The control API could not be reached.
    splice_onward,
    /// A connection to the control API was silent or there for too long.
    splice_time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToolResultLabels {
    judged: Judged,
}

/// What was found about a tool's result in a request to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants' names are the labels' values")]
enum Judged {
    allowed,
    denial,
    notice,
    inherited,
    unknown,
    disobeyed,
}

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
    shadowed: Family<ShadowLabels, Counter>,
    decision_seconds: Histogram,
    /// Connections open now, of agents and of sidecars.
    pub(crate) connections: Gauge<i64, AtomicI64>,
    /// Streams that were closed because a new policy no longer allows them.
    pub(crate) revoked: Counter,
    refused: Family<RefusalLabels, Counter>,
    tool_results: Family<ToolResultLabels, Counter>,
    /// Connections to the control API that are passed on now.
    pub(crate) spliced: Gauge<i64, AtomicI64>,
    /// Bytes that were passed on to and from the control API.
    pub(crate) spliced_bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::with(|_| {})
    }
}

impl Metrics {
    /// Those of the gates, and what the program that they are part of adds.
    #[must_use]
    pub fn with(add: impl FnOnce(&mut Registry)) -> Self {
        let mut registry = Registry::with_prefix("clawlock");
        add(&mut registry);
        let decisions = Family::<DecisionLabels, Counter>::default();
        let shadowed = Family::<ShadowLabels, Counter>::default();
        // 1 µs to 0.26 s: from a bare decision to one that waited its bound for the audit log.
        let decision_seconds = Histogram::new(exponential_buckets(1e-6, 4.0, 10));
        let connections = Gauge::default();
        let revoked = Counter::default();
        let refused = Family::<RefusalLabels, Counter>::default();
        let tool_results = Family::<ToolResultLabels, Counter>::default();
        let (spliced, spliced_bytes) = (Gauge::default(), Counter::default());
        registry.register("decisions", "Decisions by gate, verdict and code", decisions.clone());
        registry.register(
            "shadow_denials",
            "Decisions that only audit mode let pass, or that an audited policy would refuse, by gate and code",
            shadowed.clone(),
        );
        registry.register_with_unit(
            "decision",
            "Time from a request's head to its decision",
            Unit::Seconds,
            decision_seconds.clone(),
        );
        registry.register("connections", "Connections of agents and sidecars open now", connections.clone());
        registry.register("revoked_streams", "Open streams closed by a change of policy", revoked.clone());
        registry.register("refused_connections", "Connections that the gateway refused, by reason", refused.clone());
        registry.register("tool_results", "Results of tools in requests to models", tool_results.clone());
        registry.register("spliced_connections", "Connections to the control API open now", spliced.clone());
        registry.register_with_unit(
            "spliced",
            "Bytes passed on to and from the control API",
            Unit::Bytes,
            spliced_bytes.clone(),
        );
        Self {
            registry,
            decisions,
            shadowed,
            decision_seconds,
            connections,
            revoked,
            refused,
            tool_results,
            spliced,
            spliced_bytes,
        }
    }

    /// Counts a connection that was refused.
    pub(crate) fn refused(&self, reason: Refusal) {
        self.refused.get_or_create(&RefusalLabels { reason }).inc();
    }

    /// Counts a tool's result in a request to a model.
    pub(crate) fn tool_result(&self, judged: Result<Fits, &Objection>) {
        let judged = match judged {
            Ok(Fits::Allowed) => Judged::allowed,
            Ok(Fits::Denial) => Judged::denial,
            Ok(Fits::Notice) => Judged::notice,
            Ok(Fits::Inherited) => Judged::inherited,
            Err(Objection::Unknown(_)) => Judged::unknown,
            Err(Objection::Disobeyed(_)) => Judged::disobeyed,
        };
        self.tool_results.get_or_create(&ToolResultLabels { judged }).inc();
    }

    /// Counts a decision.
    pub(crate) fn decided(&self, gate: Gate, verdict: &Verdict, micros: u32) {
        let (kind, code) = match verdict {
            Verdict::Allow(_) => (Kind::allow, None),
            Verdict::Ask(denial) => (Kind::ask, Some(denial.code)),
            Verdict::Deny(denial) => (Kind::deny, Some(denial.code)),
        };
        let labels = DecisionLabels { gate: GateLabel(gate), verdict: kind, code: CodeLabel(code) };
        self.decisions.get_or_create(&labels).inc();
        if let Verdict::Allow(permit) = verdict
            && permit.shadow().is_some()
        {
            let labels = ShadowLabels { gate: GateLabel(gate), code: CodeLabel(permit.shadow()) };
            self.shadowed.get_or_create(&labels).inc();
        }
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
