//! How much room limits have: the generic cell rate algorithm (ITU-T I.371, Annex A), in integers.
//!
//! A meter belongs to one gate and lives in its memory. Per limit and pod it keeps one number, the theoretical time
//! at which the next action would come if all came evenly; an action fits when that is at most a burst ahead. What
//! is counted is what a gate lets pass, before it happens: a permit that goes unused afterwards stays counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use clawlock_policy::{Code, Denial, Limit, SpiffeId};

use crate::denial;
use crate::limits::METERED;

/// A limit of a pod. A limit whose rate was edited is another one: the numbers of two rates have no common unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    identity: SpiffeId,
    policy: Arc<str>,
    limit: Arc<str>,
    requests: u32,
}

/// The counts of one gate.
#[derive(Debug)]
pub(crate) struct Meter {
    /// How many milliseconds early an action may come, beside what the limit's burst allows.
    slack_ms: u64,
    /// Theoretical arrival times in milliseconds times the limit's requests: exact, without rounding.
    arrivals: Mutex<HashMap<Key, u64>>,
}

/// One limit, as the algorithm needs it: all times are milliseconds times requests.
struct Cell {
    now: u64,
    step: u64,
    tolerance: u64,
}

impl Cell {
    fn new(limit: &Limit, now_ms: u64, slack_ms: u64) -> Self {
        let requests = u64::from(limit.requests);
        Self {
            now: now_ms.saturating_mul(requests),
            step: limit.interval_ms,
            tolerance: (u64::from(limit.burst) - 1) * limit.interval_ms + slack_ms * requests,
        }
    }

    /// The next theoretical arrival, or how much too early it is.
    fn next(&self, known: Option<u64>) -> Result<u64, u64> {
        let arrival = known.unwrap_or(0).max(self.now);
        match (arrival - self.now).checked_sub(self.tolerance) {
            None | Some(0) => Ok(arrival.saturating_add(self.step)),
            Some(early) => Err(early),
        }
    }
}

impl Meter {
    pub(crate) fn new(slack_ms: u64) -> Self {
        Self { slack_ms, arrivals: Mutex::default() }
    }

    /// Takes room from all limits, or from none of them.
    ///
    /// # Errors
    /// [`Code::RateLimited`] when one has none, with the time until all have; [`Code::Overloaded`] when the gate
    /// counts too much already.
    pub(crate) fn take(&self, identity: &SpiffeId, limits: &[&Limit], now_ms: u64) -> Result<(), Denial> {
        if limits.is_empty() {
            return Ok(());
        }
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::with_capacity(limits.len());
        let mut refused: Option<(u64, &Limit)> = None;
        for &limit in limits {
            let key = Key {
                identity: identity.clone(),
                policy: limit.reference.policy.clone(),
                limit: limit.reference.rule.clone(),
                requests: limit.requests,
            };
            let cell = Cell::new(limit, now_ms, self.slack_ms);
            match cell.next(arrivals.get(&key).copied()) {
                Ok(arrival) => taken.push((key, arrival)),
                Err(early) => {
                    let wait_ms = early.div_ceil(u64::from(limit.requests));
                    if refused.is_none_or(|(longest, _)| wait_ms > longest) {
                        refused = Some((wait_ms, limit));
                    }
                }
            }
        }
        if let Some((wait_ms, limit)) = refused {
            return Err(full(limit, wait_ms));
        }
        if arrivals.len() + taken.len() > METERED {
            // What has no action ahead of now is as good as never counted.
            arrivals.retain(|key, arrival| *arrival > now_ms.saturating_mul(u64::from(key.requests)));
            if arrivals.len() + taken.len() > METERED {
                return Err(denial::of(Code::Overloaded, "this gate counts as many limits as it can".to_owned()));
            }
        }
        arrivals.extend(taken);
        Ok(())
    }
}

fn full(limit: &Limit, wait_ms: u64) -> Denial {
    let Limit { reference, requests, interval_ms, .. } = limit;
    let detail = format!(
        "limit {} of {} has no room: it allows {requests} actions per {}",
        reference.rule,
        reference.policy,
        humane(*interval_ms)
    );
    let mut denial = denial::of(Code::RateLimited, detail);
    denial.rule = Some(reference.clone());
    denial.retry_after_ms = Some(wait_ms);
    denial
}

fn humane(ms: u64) -> String {
    if ms.is_multiple_of(1000) { format!("{} s", ms / 1000) } else { format!("{ms} ms") }
}

#[cfg(test)]
mod tests {
    use clawlock_policy::document::{
        Assignment, Document, LimitDoc, LimitScope, Mode, PodDoc, PolicyDoc, RuleDoc, TenantDoc,
    };
    use clawlock_policy::{Action, Claims, Context, Facts, Policy, ToolAction, codec};
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn limit(name: &str, requests: u32, interval_ms: u64, burst: u32) -> LimitDoc {
        LimitDoc { name: name.to_owned(), scope: LimitScope::Agent, matches: None, requests, interval_ms, burst }
    }

    /// A policy with limits: only the engine makes those.
    fn policy(limits: Vec<LimitDoc>) -> Policy {
        let documents = vec![
            Document::Tenant(TenantDoc {
                name: "acme".to_owned(),
                guardrails: Vec::<RuleDoc>::new(),
                limits: Vec::new(),
                tool_categories: vec![],
                audit_until_ms: None,
                allowed_modes: vec![Mode::Enforce],
            }),
            Document::Policy(PolicyDoc {
                name: "acme/p".to_owned(),
                mode: Mode::Enforce,
                rules: Vec::new(),
                residency: None,
                limits,
            }),
        ];
        let mut digests: Vec<String> = documents.iter().map(|doc| codec::digest(&codec::encode(doc))).collect();
        digests.sort();
        let pod = PodDoc {
            namespace: "acme".to_owned(),
            name: "a-0".to_owned(),
            uid: "u".to_owned(),
            service_account: "a".to_owned(),
            labels: std::collections::BTreeMap::new(),
        };
        let assignment = Assignment {
            tenant: "acme".to_owned(),
            identity: "spiffe://acme.example/ns/acme/sa/a/pod/u".to_owned(),
            pod,
            plugin_optional: None,
            digests,
            generation: 1,
            issued_at_ms: 1,
            not_after_ms: u64::MAX,
        };
        Policy::build(assignment, documents).unwrap()
    }

    fn limits(policy: &Policy) -> Vec<&Limit> {
        let action = Action::Tool(ToolAction { name: "exec", args: "{}", claims: Claims::default() });
        policy.limits(&Facts { caller: policy.caller(), action, context: Context { now_ms: NOW } })
    }

    fn take(meter: &Meter, policy: &Policy, now_ms: u64) -> Result<(), u64> {
        let taken = meter.take(&policy.caller().identity, &limits(policy), now_ms);
        taken.map_err(|denial| {
            assert_eq!(denial.code, Code::RateLimited);
            denial.retry_after_ms.unwrap()
        })
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let (meter, policy) = (Meter::new(0), policy(vec![limit("l", 2, 1000, 3)]));
        for _ in 0..3 {
            assert_eq!(take(&meter, &policy, NOW), Ok(()));
        }
        assert_eq!(take(&meter, &policy, NOW), Err(500));
        assert_eq!(take(&meter, &policy, NOW + 499), Err(1));
        assert_eq!(take(&meter, &policy, NOW + 500), Ok(()));
        assert_eq!(take(&meter, &policy, NOW + 500), Err(500));
        // After a rest there is a burst again, and no more than that.
        for _ in 0..3 {
            assert_eq!(take(&meter, &policy, NOW + 3_600_000), Ok(()));
        }
        assert_eq!(take(&meter, &policy, NOW + 3_600_000), Err(500));
        // A clock that goes back gives nothing.
        assert_eq!(take(&meter, &policy, NOW), Err(3_600_500));
    }

    #[test]
    fn all_limits_must_have_room_and_a_refusal_takes_none() {
        let meter = Meter::new(0);
        let both = policy(vec![limit("large", 100, 1000, 100), limit("small", 1, 60_000, 1)]);
        assert_eq!(take(&meter, &both, NOW), Ok(()));
        for _ in 0..1000 {
            assert_eq!(take(&meter, &both, NOW), Err(60_000));
        }
        let large = policy(vec![limit("large", 100, 1000, 100)]);
        let passed = (0..1000).filter(|_| take(&meter, &large, NOW).is_ok()).count();
        assert_eq!(passed, 99, "the refused ones took nothing from the other limit");
    }

    #[test]
    fn pods_have_room_of_their_own_and_an_edit_of_the_rate_begins_anew() {
        let meter = Meter::new(0);
        let policy_one = policy(vec![limit("l", 1, 60_000, 1)]);
        assert_eq!(take(&meter, &policy_one, NOW), Ok(()));
        assert_eq!(take(&meter, &policy_one, NOW), Err(60_000));
        let other = SpiffeId::parse("spiffe://acme.example/ns/acme/sa/a/pod/v").unwrap();
        assert!(meter.take(&other, &limits(&policy_one), NOW).is_ok());
        assert_eq!(take(&meter, &policy(vec![limit("l", 2, 60_000, 1)]), NOW), Ok(()));
    }

    #[test]
    fn the_count_of_counts_is_bounded_and_what_is_over_makes_room() {
        let (meter, policy) = (Meter::new(0), policy(vec![limit("l", 1, 1000, 1)]));
        let pod = |n: usize| SpiffeId::parse(&format!("spiffe://acme.example/ns/acme/sa/a/pod/p{n}")).unwrap();
        let limits = limits(&policy);
        for n in 0..METERED {
            meter.take(&pod(n), &limits, NOW).unwrap();
        }
        assert_eq!(meter.take(&pod(METERED), &limits, NOW).unwrap_err().code, Code::Overloaded);
        assert!(meter.take(&pod(METERED), &limits, NOW + 1000).is_ok());
        assert_eq!(meter.arrivals.lock().unwrap().len(), 1);
    }

    #[test]
    fn slack_lets_actions_come_closer_but_not_more_often() {
        let (meter, policy) = (Meter::new(1000), policy(vec![limit("l", 1, 500, 1)]));
        let passed = |from: u64, to: u64| (from..to).filter(|ms| take(&meter, &policy, NOW + ms).is_ok()).count();
        assert_eq!(passed(0, 1), 1);
        assert_eq!(passed(1, 10_000), 21, "20 in ten seconds, and the slack's two, less the first");
    }

    proptest! {
        /// In no stretch of time do more pass than a burst and what the rate gives meanwhile.
        #[test]
        fn the_rate_is_never_exceeded(
            requests in 1_u32..50, interval_ms in 1_u64..5000, burst in 1_u32..20,
            gaps in prop::collection::vec(0_u64..700, 1..120),
        ) {
            let (meter, policy) = (Meter::new(0), policy(vec![limit("l", requests, interval_ms, burst)]));
            let mut now = NOW;
            let mut passed: Vec<u64> = Vec::new();
            for gap in gaps {
                now += gap;
                match take(&meter, &policy, now) {
                    Ok(()) => passed.push(now),
                    // Told to wait exactly as long as needed: not a millisecond less.
                    Err(wait) => {
                        prop_assert!(wait > 0);
                        prop_assert!(take(&meter, &policy, now + wait - 1).is_err());
                    }
                }
            }
            for (first, start) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let count = u64::try_from(last - first + 1).unwrap();
                    let earned = (end - start) * u64::from(requests) / interval_ms;
                    prop_assert!(count <= u64::from(burst) + earned, "{count} in {} ms", end - start);
                }
            }
        }
    }
}
