//! Is the pod isolated? The rules alone, without a clock and without sockets.
//!
//! A proof is a round in which everything that the gateway had just vouched for kept silent. What follows from
//! it ends with its grace; one answer ends it at once, and it then takes more than one clean round to believe
//! again.

use std::time::{Duration, Instant};

/// How long a proof counts in a pod that runs: a gateway may restart, or be moved to another node, without every
/// agent losing its proxy. A pod that starts has no proof, and waits.
pub(crate) const GRACE: Duration = Duration::from_secs(5 * 60);

/// Clean rounds in a row that reopen after an answer: a network that enforces only now and then does not enforce.
pub(crate) const CLEAN_ROUNDS: u32 = 2;

pub(crate) use clawlock_proxy::voucher::FRESH;

/// What a round of tries has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nobody answered of those for whom the gateway had vouched.
    Dropped {
        /// When it was asked to vouch.
        vouched: Instant,
    },
    /// Somebody answered: packets get out past the gateway.
    Answered,
    /// It cannot be said: the gateway did not vouch, or the question could not be put.
    NotVouched,
}

/// Whether the proxy may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Nothing is proven, or no longer: closed. One clean round opens.
    Unproven,
    /// Proven: open.
    Isolated,
    /// Somebody has answered: closed. [`CLEAN_ROUNDS`] open.
    Breached,
}

/// What was found so far.
#[derive(Debug)]
pub(crate) struct State {
    phase: Phase,
    /// When the gateway vouched for the latest proof.
    proven: Option<Instant>,
    /// Clean rounds since the last one that was not.
    clean: u32,
}

impl State {
    /// Nothing was found yet.
    pub(crate) const fn new() -> Self {
        Self { phase: Phase::Unproven, proven: None, clean: 0 }
    }

    /// Takes note of a round that has just ended.
    pub(crate) fn observe(&mut self, finding: Finding, now: Instant) -> Phase {
        match finding {
            Finding::Dropped { vouched } if is_fresh(vouched, now) => {
                self.clean = self.clean.saturating_add(1);
                if self.phase != Phase::Breached || self.clean >= CLEAN_ROUNDS {
                    self.phase = Phase::Isolated;
                    self.proven = Some(vouched);
                }
            }
            Finding::Dropped { .. } | Finding::NotVouched => self.clean = 0,
            Finding::Answered => *self = Self { phase: Phase::Breached, ..Self::new() },
        }
        self.elapse(now)
    }

    /// Takes note of the time.
    pub(crate) fn elapse(&mut self, now: Instant) -> Phase {
        if self.lapses().is_some_and(|end| now >= end) {
            *self = Self::new();
        }
        self.phase
    }

    /// When the proof ends, unless there is another one by then.
    pub(crate) fn lapses(&self) -> Option<Instant> {
        (self.phase == Phase::Isolated).then(|| self.proven.map(|proven| proven + GRACE)).flatten()
    }
}

fn is_fresh(vouched: Instant, now: Instant) -> bool {
    now.checked_duration_since(vouched).is_some_and(|age| age <= FRESH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dropped(now: Instant) -> Finding {
        Finding::Dropped { vouched: now }
    }

    #[test]
    fn one_clean_round_opens_a_pod_that_starts() {
        let now = Instant::now();
        let mut state = State::new();
        assert_eq!(state.observe(Finding::NotVouched, now), Phase::Unproven);
        assert_eq!(state.observe(dropped(now), now), Phase::Isolated);
    }

    #[test]
    fn an_old_voucher_proves_nothing_and_one_of_the_future_neither() {
        let now = Instant::now() + FRESH;
        let mut state = State::new();
        let old = now.checked_sub(FRESH + Duration::from_millis(1)).unwrap();
        assert_eq!(state.observe(dropped(old), now), Phase::Unproven);
        assert_eq!(state.observe(dropped(now + Duration::from_millis(1)), now), Phase::Unproven);
        assert_eq!(state.observe(dropped(now - FRESH), now), Phase::Isolated);
    }

    #[test]
    fn one_answer_closes_and_two_clean_rounds_in_a_row_reopen() {
        let now = Instant::now();
        let mut state = State::new();
        assert_eq!(state.observe(dropped(now), now), Phase::Isolated);
        assert_eq!(state.observe(Finding::Answered, now), Phase::Breached);
        assert_eq!(state.observe(dropped(now), now), Phase::Breached);
        assert_eq!(state.observe(Finding::NotVouched, now), Phase::Breached);
        assert_eq!(state.observe(dropped(now), now), Phase::Breached, "the round between was not clean");
        assert_eq!(state.observe(dropped(now), now), Phase::Isolated);
    }

    #[test]
    fn a_network_that_is_late_opens_after_two_rounds_too() {
        let now = Instant::now();
        let mut state = State::new();
        assert_eq!(state.observe(Finding::Answered, now), Phase::Breached);
        assert_eq!(state.observe(dropped(now), now), Phase::Breached);
        assert_eq!(state.observe(dropped(now), now), Phase::Isolated);
    }

    #[test]
    fn a_proof_ends_with_its_grace_and_one_clean_round_renews_it() {
        let start = Instant::now();
        let mut state = State::new();
        assert_eq!(state.observe(dropped(start), start), Phase::Isolated);
        assert_eq!(state.lapses(), Some(start + GRACE));
        let late = start + GRACE - Duration::from_millis(1);
        assert_eq!(state.observe(Finding::NotVouched, late), Phase::Isolated);
        assert_eq!(state.elapse(start + GRACE), Phase::Unproven);
        assert_eq!(state.lapses(), None);
        let later = start + GRACE + FRESH;
        assert_eq!(state.observe(dropped(later), later), Phase::Isolated);
    }

    #[derive(Clone, Copy, Debug)]
    enum Kind {
        Dropped { age_ms: u64 },
        Answered,
        NotVouched,
        Time,
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![
            6 => (0..40_000_u64).prop_map(|age_ms| Kind::Dropped { age_ms }),
            1 => Just(Kind::Answered),
            2 => Just(Kind::NotVouched),
            1 => Just(Kind::Time),
        ]
    }

    proptest! {
        /// What may be said of a pod that counts as isolated, told from the whole history instead of from the state.
        #[test]
        fn never_isolated_without_a_fresh_voucher_and_a_full_drop(
            steps in prop::collection::vec((0..120_000_u64, kinds()), 1..80)
        ) {
            let mut state = State::new();
            let mut now = Instant::now() + Duration::from_secs(60);
            let mut history: Vec<(Finding, Instant)> = Vec::new();
            for (later_ms, kind) in steps {
                now += Duration::from_millis(later_ms);
                let finding = match kind {
                    Kind::Dropped { age_ms } => {
                        Some(Finding::Dropped { vouched: now.checked_sub(Duration::from_millis(age_ms)).unwrap() })
                    }
                    Kind::Answered => Some(Finding::Answered),
                    Kind::NotVouched => Some(Finding::NotVouched),
                    Kind::Time => None,
                };
                let phase = match finding {
                    Some(finding) => {
                        history.push((finding, now));
                        state.observe(finding, now)
                    }
                    None => state.elapse(now),
                };
                let clean = |(finding, at): &(Finding, Instant)| match finding {
                    Finding::Dropped { vouched } if *at - *vouched <= FRESH => Some(*vouched),
                    _ => None,
                };
                let answered = history.iter().rposition(|(finding, _)| *finding == Finding::Answered);
                let since = &history[answered.map_or(0, |at| at + 1)..];
                if phase == Phase::Isolated {
                    let proof = since.iter().filter_map(clean).max();
                    prop_assert!(proof.is_some_and(|vouched| now - vouched < GRACE), "no proof: {history:?}");
                    if answered.is_some() {
                        let twice = since.windows(2).any(|pair| pair.iter().all(|round| clean(round).is_some()));
                        prop_assert!(twice, "reopened by one round: {history:?}");
                    }
                    prop_assert!(state.lapses().is_some_and(|end| end > now));
                }
                if history.last().is_some_and(|(finding, _)| *finding == Finding::Answered) {
                    prop_assert_eq!(phase, Phase::Breached);
                }
                // And it is no machine that is never open.
                let latest_two: Vec<bool> = history.iter().rev().take(2).map(|round| clean(round).is_some()).collect();
                if finding.is_some() && latest_two == [true, true] {
                    prop_assert_eq!(phase, Phase::Isolated);
                }
            }
        }
    }
}
