//! Pauses between tries: longer each time, and never the same for two pods that failed together.

use std::time::Duration;

/// The first pause after a failure.
const FIRST: Duration = Duration::from_millis(500);

/// The longest one: short enough that a cluster is whole soon after its operator is back, and long enough that the
/// return of ten thousand pods is no flood.
const LAST: Duration = Duration::from_secs(10);

/// The next pause.
pub(super) struct Pause(Duration);

impl Pause {
    /// Before the first failure.
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    /// How long to wait now: something up to the bound of this time, which doubles.
    pub(super) fn next(&mut self) -> Duration {
        let bound = self.0;
        self.0 = (bound * 2).min(LAST);
        // Not nothing, so that no fault becomes a loop without a pause.
        (bound * random(1024) / 1024).max(FIRST / 10)
    }
}

/// A duration with up to a tenth more.
pub(super) fn jittered(duration: Duration) -> Duration {
    duration + duration * random(1024) / 10_240
}

/// A number below a bound of at most 2^16.
fn random(bound: u32) -> u32 {
    let mut bytes = [0; 2];
    // Randomness spreads load here; without it the pods merely come together.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return bound / 2;
    }
    u32::from(u16::from_ne_bytes(bytes)) * bound / 65_536
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let mut pause = Pause::new();
        let pauses: Vec<Duration> = (0..200).map(|_| pause.next()).collect();
        assert!(pauses[0] <= FIRST && pauses.iter().all(|pause| *pause >= FIRST / 10 && *pause <= LAST));
        assert!(pauses.iter().any(|pause| *pause > LAST / 2), "{pauses:?}");
        let distinct: std::collections::BTreeSet<_> = pauses[10..].iter().collect();
        assert!(distinct.len() > 100);
    }

    #[test]
    fn jitter_only_adds() {
        let second = Duration::from_secs(1);
        assert!((0..100).map(|_| jittered(second)).all(|some| some >= second && some <= second * 11 / 10));
    }
}
