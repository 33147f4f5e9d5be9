//! What to do about a Lease, as a pure function of what was seen and for how long.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;

/// A record that names no duration, or one of none, holds for this long.
const LEAST_DURATION: Duration = Duration::from_secs(1);

/// The record that was seen last, and since when it has not changed.
#[derive(Debug, Default)]
pub(super) struct Observed {
    record: Option<LeaseSpec>,
    since: Duration,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Someone else holds it.
    Wait,
    /// Take it.
    Take {
        /// How often it has changed hands, this time included.
        transitions: i32,
    },
    /// It is held already; say so again.
    Renew,
}

/// Decides, and remembers the record.
pub(super) fn decide(observed: &mut Observed, spec: Option<&LeaseSpec>, me: &str, now: Duration) -> Step {
    let Some(spec) = spec else {
        return Step::Take { transitions: 0 };
    };
    if observed.record.as_ref() != Some(spec) {
        *observed = Observed { record: Some(spec.clone()), since: now };
    }
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder == me {
        return Step::Renew;
    }
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
    let duration = Duration::from_secs(seconds).max(LEAST_DURATION);
    if !holder.is_empty() && now.saturating_sub(observed.since) < duration {
        return Step::Wait;
    }
    Step::Take { transitions: spec.lease_transitions.unwrap_or_default().saturating_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_is_not_there_is_taken() {
        assert_eq!(decide(&mut Observed::default(), None, "a", at(0)), Step::Take { transitions: 0 });
    }

    #[test]
    fn another_holder_is_waited_for_by_our_own_clock() {
        let mut observed = Observed::default();
        let spec = held_by("b", 3);
        // Its renewTime may be years old: only what was seen here counts.
        assert_eq!(decide(&mut observed, Some(&spec), "a", at(100)), Step::Wait);
        assert_eq!(decide(&mut observed, Some(&spec), "a", at(114)), Step::Wait);
        assert_eq!(decide(&mut observed, Some(&spec), "a", at(115)), Step::Take { transitions: 4 });
    }

    #[test]
    fn a_renewal_by_the_holder_starts_the_wait_again() {
        let mut observed = Observed::default();
        let mut spec = held_by("b", 0);
        assert_eq!(decide(&mut observed, Some(&spec), "a", at(0)), Step::Wait);
        spec.renew_time =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(decide(&mut observed, Some(&spec), "a", at(14)), Step::Wait);
        assert_eq!(decide(&mut observed, Some(&spec), "a", at(28)), Step::Wait);
        assert_eq!(decide(&mut observed, Some(&spec), "a", at(29)), Step::Take { transitions: 1 });
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let spec = held_by("", 7);
        assert_eq!(decide(&mut Observed::default(), Some(&spec), "a", at(0)), Step::Take { transitions: 8 });
    }

    #[test]
    fn ones_own_lease_is_renewed() {
        assert_eq!(decide(&mut Observed::default(), Some(&held_by("a", 1)), "a", at(0)), Step::Renew);
    }

    #[test]
    fn a_duration_that_makes_no_sense_still_holds_for_a_moment() {
        let mut observed = Observed::default();
        let spec = LeaseSpec { lease_duration_seconds: Some(-5), ..held_by("b", 0) };
        assert_eq!(decide(&mut observed, Some(&spec), "a", at(0)), Step::Wait);
        assert_eq!(decide(&mut observed, Some(&spec), "a", at(1)), Step::Take { transitions: 1 });
    }
}
