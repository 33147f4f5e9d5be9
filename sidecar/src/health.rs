//! What the kubelet and people are told: whether the sidecar has started, is ready, and its own metrics.

use std::sync::Arc;

use clawlock_policy::SpiffeId;
use clawlock_proxy::admin::Ready;
use clawlock_proxy::agent::AgentGate;
use clawlock_proxy::metrics::Metrics;
use clawlock_proxy::policies::PolicyTable;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use crate::isolation::state::Phase;
use crate::receiver::Known;

/// Answers probes.
pub(crate) struct Health {
    /// The pod.
    pub(crate) identity: SpiffeId,
    /// Its gate.
    pub(crate) gate: Arc<AgentGate>,
    /// The gate's table.
    pub(crate) table: Arc<PolicyTable>,
    /// What the control stream has said.
    pub(crate) known: watch::Receiver<Known>,
    /// Whether the pod is isolated.
    pub(crate) phase: watch::Receiver<Phase>,
}

impl Ready for Health {
    async fn why_not(&self) -> Option<&'static str> {
        match self.why_not_started().await {
            None => self.gate.why_not().await,
            why => why,
        }
    }

    async fn why_not_started(&self) -> Option<&'static str> {
        if !self.known.borrow().certified {
            return Some("no certificate yet: the control API has not been reached, or refuses this pod");
        }
        // Not whether it is in force: while the gate is closed nothing is.
        if !self.table.identities().contains(&self.identity) {
            return Some("no policy is assigned to this pod yet");
        }
        match *self.phase.borrow() {
            Phase::Isolated => None,
            Phase::Unproven => {
                Some("it is not proven that nothing gets out past the gateway; see this container's log")
            }
            Phase::Breached => Some("packets get out past the gateway: this pod's NetworkPolicies are not enforced"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: PhaseLabel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the variants' names are the labels' values")]
enum PhaseLabel {
    unproven,
    isolated,
    breached,
}

/// The sidecar's own metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges {
    isolation: Family<PhaseLabels, Gauge>,
}

impl Gauges {
    /// All metrics of the program, the gate's among them.
    pub(crate) fn with_gate(&self) -> Metrics {
        Metrics::with(|registry| {
            let help = "1 for what is known of the pod's isolation; its gate is open while it is isolated";
            registry.register("isolation", help, self.isolation.clone());
        })
    }

    /// Shows a phase.
    pub(crate) fn show(&self, phase: Phase) {
        let shown = match phase {
            Phase::Unproven => PhaseLabel::unproven,
            Phase::Isolated => PhaseLabel::isolated,
            Phase::Breached => PhaseLabel::breached,
        };
        for label in [PhaseLabel::unproven, PhaseLabel::isolated, PhaseLabel::breached] {
            self.isolation.get_or_create(&PhaseLabels { phase: label }).set(i64::from(label == shown));
        }
    }

    /// Shows every phase that comes. Runs until it is dropped.
    pub(crate) async fn follow(self, mut phase: watch::Receiver<Phase>) {
        loop {
            self.show(*phase.borrow_and_update());
            if phase.changed().await.is_err() {
                return;
            }
        }
    }
}
