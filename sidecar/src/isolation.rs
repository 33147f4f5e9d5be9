//! Proves, again and again, that nothing gets out of the pod but to the gateway, and keeps the gate closed while
//! that is not proven.
//!
//! [`state`] has the rules, [`plan`] says what is tried, [`probe`] tries it, [`report`] tells of it. This module
//! is the loop around them and the only one that opens or closes the gate.

pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod report;
pub(crate) mod state;

use std::sync::Arc;
use std::time::Duration;

use clawlock_control::ToServer;
use clawlock_policy::Code;
use clawlock_proxy::denial;
use clawlock_proxy::policies::PolicyTable;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::receiver::Known;
use probe::{Here, Round, Vouch};
use report::{Reporter, Telling};
use state::{GRACE, Phase, State};

/// Rounds from one try of the pod's own node to the next: it is only told of, and each try leaves a line in the
/// log of its kubelet.
const OWN_NODE_EVERY: usize = 40;

/// How long after the beginning of a round the next one begins, unless the round itself takes longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// While nothing is proven, and an agent may be waiting for its start.
    pub(crate) unproven: Duration,
    /// While the pod is isolated.
    pub(crate) isolated: Duration,
    /// After an answer.
    pub(crate) breached: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { unproven: Duration::from_secs(1), isolated: Duration::from_secs(15), breached: Duration::from_secs(5) }
    }
}

/// What the loop works with.
pub(crate) struct Isolation<V> {
    /// The gateway.
    pub(crate) gateway: V,
    /// Where the pod is.
    pub(crate) here: Here,
    /// How often.
    pub(crate) pace: Pace,
    /// What the control stream has said.
    pub(crate) known: watch::Receiver<Known>,
    /// The gate's table, which is closed here and opened here.
    pub(crate) table: Arc<PolicyTable>,
    /// The rest of the program learns the phase here.
    pub(crate) phase: watch::Sender<Phase>,
    /// To the operator.
    pub(crate) reports: mpsc::Sender<ToServer>,
}

/// Closes the gate, as it is to be from the beginning: before anything is served.
pub(crate) fn close(table: &PolicyTable, phase: Phase) {
    // For the agent: it learns what holds, not which addresses were tried.
    let detail = match phase {
        Phase::Breached => "packets from this pod get out past its gateway",
        Phase::Unproven | Phase::Isolated => "it is not proven that nothing gets out of this pod past its gateway",
    };
    table.close(denial::of(Code::NotIsolated, detail.to_owned()));
}

impl<V: Vouch> Isolation<V> {
    /// Runs until it is dropped. The gate must be closed when it begins.
    pub(crate) async fn run(mut self) {
        let mut state = State::new();
        let mut reporter = Reporter::default();
        let mut heard = 0;
        for turn in 0_usize.. {
            if self.known.wait_for(|known| known.certified).await.is_err() {
                return;
            }
            let Known { canaries, synced, .. } = self.known.borrow_and_update().clone();
            if std::mem::replace(&mut heard, synced) != synced {
                reporter.forget();
            }
            let began = Instant::now();
            let own_node = turn.is_multiple_of(OWN_NODE_EVERY);
            let round = tokio::select! {
                round = probe::round(&self.gateway, &canaries, self.here, turn, own_node) => Some(round),
                () = at(state.lapses()) => None,
            };
            let now = Instant::now();
            let phase = match &round {
                Some(round) => state.observe(round.finding(), now.into_std()),
                None => state.elapse(now.into_std()),
            };
            let before = self.enter(phase);
            match round {
                Some(round) => self.tell(&mut reporter, &round, before, phase, now),
                None => tracing::warn!("isolation is no longer proven: no voucher for {} s; closed", GRACE.as_secs()),
            }
            self.pause(phase, began, state.lapses()).await;
        }
    }

    /// Opens or closes the gate; answers the phase before.
    fn enter(&self, phase: Phase) -> Phase {
        let before = *self.phase.borrow();
        if before != phase {
            match phase {
                Phase::Isolated => self.table.open(),
                Phase::Unproven | Phase::Breached => close(&self.table, phase),
            }
            self.phase.send_replace(phase);
        }
        before
    }

    fn tell(&self, reporter: &mut Reporter, round: &Round, before: Phase, phase: Phase, now: Instant) {
        if before != phase {
            reporter.forget();
        }
        let Some(Telling { report, sentence }) = reporter.tell(round, self.here.host, now) else { return };
        match (phase, round.finding()) {
            (Phase::Isolated, state::Finding::Dropped { .. }) if before != phase => {
                tracing::info!("isolation proven: {sentence}");
            }
            (Phase::Isolated, state::Finding::Dropped { .. }) => tracing::debug!("isolation proven: {sentence}"),
            (Phase::Isolated, _) => {
                tracing::warn!("isolation not proven again, open for at most {} s more: {sentence}", GRACE.as_secs());
            }
            (Phase::Breached, state::Finding::Answered) => tracing::error!("not isolated, closed: {sentence}"),
            (Phase::Breached, _) => tracing::warn!("not isolated a moment ago, still closed: {sentence}"),
            (Phase::Unproven, _) => tracing::warn!("isolation not proven, closed: {sentence}"),
        }
        // Full when the stream is away: the next one begins with the report that is true by then.
        drop(self.reports.try_send(report));
    }

    /// Waits for the next round. News of the stream end the wait of a pod that is not open.
    async fn pause(&mut self, phase: Phase, began: Instant, lapses: Option<std::time::Instant>) {
        let pause = match phase {
            Phase::Unproven => self.pace.unproven,
            Phase::Isolated => self.pace.isolated,
            Phase::Breached => self.pace.breached,
        };
        tokio::select! {
            () = tokio::time::sleep_until(began + pause) => {}
            () = at(lapses) => {}
            Ok(()) = self.known.changed(), if phase == Phase::Unproven => {}
        }
    }
}

/// Completes at a time; never, when there is none.
async fn at(time: Option<std::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
