//! What people and the operator are told of a round: on every change, and from time to time.

use std::net::IpAddr;
use std::time::Duration;

use clawlock_control::message::MAX_DETAIL;
use clawlock_control::{IsolationOutcome, IsolationTarget, ToServer};
use tokio::time::Instant;

use super::probe::{Round, Tried};

/// How often it is said again although nothing has changed: a new leader of the operator's learns it within a
/// minute.
const AGAIN: Duration = Duration::from_secs(60);

/// How soon another reason is told for what has not changed: errors of a network that fails may alternate.
const REASON: Duration = Duration::from_secs(10);

/// What was said last, and when.
#[derive(Debug)]
struct Said {
    outcome: IsolationOutcome,
    target: IsolationTarget,
    /// Why it could not be said more clearly; empty when it could.
    reason: String,
    at: Instant,
}

impl Said {
    /// Whether it is still to be heard.
    fn holds(&self, other: &Self) -> bool {
        let Self { outcome, target, reason, at } = other;
        let age = at.duration_since(self.at);
        (self.outcome, self.target) == (*outcome, *target) && age < if self.reason == *reason { AGAIN } else { REASON }
    }
}

/// Knows what was said last.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    said: Option<Said>,
    /// The pod's own node answered when it was tried last.
    own_node: bool,
}

/// A round as it is to be told.
pub(crate) struct Telling {
    /// For the operator.
    pub(crate) report: ToServer,
    /// For people.
    pub(crate) sentence: String,
}

impl Reporter {
    /// It is to be said again, to somebody who has not heard it.
    pub(crate) fn forget(&mut self) {
        self.said = None;
    }

    /// What is to be said of a round. `None` when it says nothing new.
    pub(crate) fn tell(&mut self, round: &Round, host: IpAddr, now: Instant) -> Option<Telling> {
        let Round { tripwire, node, own_node, checked_ms, .. } = round;
        if let Some(answered) = own_node {
            self.own_node = *answered;
        }
        let (first, second) = (text(tripwire), text(node));
        let (outcome, target) = worst(tripwire, node);
        let reason = match (outcome, target) {
            (IsolationOutcome::NotVouched, IsolationTarget::Tripwire) => first.to_owned(),
            (IsolationOutcome::NotVouched, IsolationTarget::Node) => second.to_owned(),
            // Of these only the addresses change, from round to round.
            (IsolationOutcome::Dropped | IsolationOutcome::Answered, _) => String::new(),
        };
        let saying = Said { outcome, target, reason, at: now };
        if self.said.as_ref().is_some_and(|said| said.holds(&saying)) {
            return None;
        }
        self.said = Some(saying);
        let mut sentence = if first == second { first.to_owned() } else { format!("{first}, {second}") };
        if let Some(ms) = checked_ms {
            sentence.push_str(&format!("; vouched at {}", utc(*ms)));
        }
        if self.own_node {
            sentence.push_str(&format!("; own node {host} answers, as it always may"));
        }
        let own_node = self.own_node.then_some(host);
        let report = ToServer::Isolation { outcome, target, own_node, detail: bounded(sentence.clone()) };
        Some(Telling { report, sentence })
    }
}

/// What a round comes to, and because of whom.
fn worst(tripwire: &Tried, node: &Tried) -> (IsolationOutcome, IsolationTarget) {
    match (tripwire, node) {
        (Tried::Answered(_), _) => (IsolationOutcome::Answered, IsolationTarget::Tripwire),
        (_, Tried::Answered(_)) => (IsolationOutcome::Answered, IsolationTarget::Node),
        (Tried::Unproven(_) | Tried::Absent(_), _) => (IsolationOutcome::NotVouched, IsolationTarget::Tripwire),
        (Tried::Dropped(_), Tried::Unproven(_)) => (IsolationOutcome::NotVouched, IsolationTarget::Node),
        (Tried::Dropped(_), Tried::Dropped(_) | Tried::Absent(_)) => {
            (IsolationOutcome::Dropped, IsolationTarget::Tripwire)
        }
    }
}

fn text(tried: &Tried) -> &str {
    match tried {
        Tried::Dropped(text) | Tried::Answered(text) | Tried::Unproven(text) | Tried::Absent(text) => text,
    }
}

fn bounded(mut detail: String) -> String {
    let end = detail.floor_char_boundary(MAX_DETAIL);
    detail.truncate(end);
    detail
}

/// A time as RFC 3339 has it, to the second. Days become a date as in Howard Hinnant's `civil_from_days`.
fn utc(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, clock) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_rfc_3339_has_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_795_263_155_000, "2026-11-21T12:12:35Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
        assert!(!utc(u64::MAX).is_empty());
    }

    #[test]
    fn details_are_cut_between_characters() {
        assert_eq!(bounded("ü".repeat(MAX_DETAIL)).len(), MAX_DETAIL);
        assert_eq!(bounded(format!("x{}", "ü".repeat(MAX_DETAIL))).len(), MAX_DETAIL - 1);
    }

    fn dropped(what: &str) -> Tried {
        Tried::Dropped(format!("{what} dropped (tcp)"))
    }

    #[test]
    fn changes_are_told_at_once_and_the_rest_every_minute() {
        let host: IpAddr = "172.18.0.2".parse().unwrap();
        let (mut reporter, now) = (Reporter::default(), Instant::now());
        let clean = Round::example(dropped("tripwire 10.0.0.1"), dropped("node 172.18.0.3"));
        let Telling { report, sentence } = reporter.tell(&clean, host, now).unwrap();
        let expected =
            "tripwire 10.0.0.1 dropped (tcp), node 172.18.0.3 dropped (tcp); vouched at 1970-01-01T00:00:01Z";
        assert_eq!(sentence, expected);
        let (outcome, target) = (IsolationOutcome::Dropped, IsolationTarget::Tripwire);
        assert_eq!(report, ToServer::Isolation { outcome, target, own_node: None, detail: sentence });
        assert!(reporter.tell(&clean, host, now + AGAIN / 2).is_none(), "nothing new");
        let answered = Tried::Answered("node 172.18.0.3 answered (tcp)".into());
        let breached = Round::example(dropped("tripwire 10.0.0.1"), answered);
        let told = reporter.tell(&breached, host, now + AGAIN / 2).unwrap().report;
        let ToServer::Isolation { outcome, target, detail, .. } = told else { panic!("{told:?}") };
        assert_eq!((outcome, target), (IsolationOutcome::Answered, IsolationTarget::Node));
        assert!(detail.contains("node 172.18.0.3 answered (tcp)"), "{detail}");
        assert!(reporter.tell(&breached, host, now + AGAIN).is_none());
        assert!(reporter.tell(&breached, host, now + AGAIN / 2 + AGAIN).is_some(), "its minute is over");
        reporter.forget();
        assert!(reporter.tell(&breached, host, now + AGAIN / 2 + AGAIN).is_some(), "somebody new");
    }

    #[test]
    fn another_reason_is_told_but_not_each_one_of_many() {
        let host: IpAddr = "172.18.0.2".parse().unwrap();
        let (mut reporter, now) = (Reporter::default(), Instant::now());
        let mut tell = |why: &str, later| {
            let round = Round::example(Tried::Unproven(why.to_owned()), Tried::Unproven(why.to_owned()));
            reporter.tell(&round, host, now + later).map(|told| told.sentence)
        };
        assert!(tell("no gateway", Duration::ZERO).is_some_and(|told| told.starts_with("no gateway; vouched at")));
        assert_eq!(tell("no tripwire", REASON / 2), None);
        assert!(tell("no tripwire", REASON).is_some());
        assert_eq!(tell("no tripwire", 3 * REASON), None);
    }

    #[test]
    fn an_own_node_that_answers_is_named_until_it_no_longer_does() {
        let host: IpAddr = "172.18.0.2".parse().unwrap();
        let mut reporter = Reporter::default();
        let mut tell = |own_node| {
            let mut clean = Round::example(dropped("t"), Tried::Absent("n".into()));
            clean.own_node = own_node;
            reporter.forget();
            let Telling { report, sentence } = reporter.tell(&clean, host, Instant::now()).unwrap();
            let ToServer::Isolation { own_node, .. } = report else { panic!("{report:?}") };
            assert_eq!(own_node.is_some(), sentence.contains("own node 172.18.0.2 answers"), "{sentence}");
            own_node
        };
        assert_eq!([None, Some(true), None, Some(false)].map(&mut tell), [None, Some(host), Some(host), None]);
    }
}
