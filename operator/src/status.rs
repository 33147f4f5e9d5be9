//! Conditions: what is written into the status of our kinds.
//!
//! Pure. A condition's `lastTransitionTime` moves when its status changes, and only then. A status is
//! written when a condition changed, and otherwise at most every [`PERIOD`].

pub(crate) mod foreign;
pub(crate) mod objects;
pub(crate) mod tenant;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clawlock_compile::{Problem, Severity, Topic};
use clawlock_crds::Condition;
use clawlock_crds::status::{ACCEPTED, MAX_MESSAGE, READY, RESOLVED_REFS};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::clock::timestamp;

/// Between two writes of a status in which no condition changed.
pub(crate) const PERIOD: Duration = Duration::from_secs(30);
/// What was written is taken for what is there for this long, while the watch may lag.
const LAG: Duration = Duration::from_secs(3);
/// Most problems that one message repeats.
const MAX_TOLD: usize = 10;
/// Longest message, far below what the API server takes: people read it in a terminal.
const MESSAGE: usize = 2048;

const _: () = assert!(MESSAGE < MAX_MESSAGE);

/// Whether something holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// It does.
    True,
    /// It does not.
    False,
    /// That is not known.
    Unknown,
}

impl Truth {
    const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One condition without its times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What it is about.
    pub(crate) kind: &'static str,
    /// Whether it holds.
    pub(crate) status: Truth,
    /// Why, for programs.
    pub(crate) reason: &'static str,
    /// Why, for people.
    pub(crate) message: String,
}

impl Finding {
    /// It holds.
    pub(crate) fn holds(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: Truth::True, reason, message: message.into() }
    }

    /// It does not hold.
    pub(crate) fn fails(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: Truth::False, reason, message: message.into() }
    }

    /// It is not known.
    pub(crate) fn unknown(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: Truth::Unknown, reason, message: message.into() }
    }
}

/// `Ready`: all of the others hold. The first that does not says why.
pub(crate) fn ready(findings: &[Finding]) -> Finding {
    match findings.iter().find(|finding| finding.status != Truth::True) {
        None => Finding::holds(READY, "Ready", "everything is in force"),
        Some(Finding { kind, status, reason, message }) => {
            Finding { kind: READY, status: *status, reason, message: format!("{kind}: {message}") }
        }
    }
}

/// Conditions as they are to be written: with the times of those that are there, and with those of others.
pub(crate) fn conditions(findings: &[Finding], old: &Value, generation: Option<i64>, now_ms: u64) -> Vec<Condition> {
    let old: Vec<Condition> = old
        .as_array()
        .map(|all| all.iter().filter_map(|one| serde_json::from_value(one.clone()).ok()).collect())
        .unwrap_or_default();
    let mut all: Vec<Condition> = findings
        .iter()
        .map(|finding| {
            let Finding { kind, status, reason, message } = finding;
            let known = old.iter().find(|condition| condition.type_ == *kind && condition.status == status.as_str());
            Condition {
                type_: (*kind).to_owned(),
                status: status.as_str().to_owned(),
                reason: (*reason).to_owned(),
                message: cut(message),
                observed_generation: generation,
                last_transition_time: known
                    .map_or_else(|| Time(timestamp(now_ms)), |known| known.last_transition_time.clone()),
            }
        })
        .collect();
    all.extend(old.into_iter().filter(|condition| findings.iter().all(|finding| finding.kind != condition.type_)));
    all
}

fn cut(message: &str) -> String {
    match message.char_indices().nth(MESSAGE) {
        None => message.to_owned(),
        Some((at, _)) => format!("{} …", &message[..at]),
    }
}

/// `Accepted` and `ResolvedRefs` by what is wrong with an object. `kept` says that its last good version is
/// in force, `instead` what holds when there is none.
pub(crate) fn judged(problems: &[&Problem], kept: bool, instead: &str) -> [Finding; 2] {
    let errors = |topic: Topic| {
        problems.iter().copied().filter(move |problem| problem.topic == topic && problem.severity == Severity::Error)
    };
    let accepted = match told(errors(Topic::Content)) {
        None => Finding::holds(ACCEPTED, "Accepted", "the object is valid and in force"),
        Some(told) if kept => {
            Finding::fails(ACCEPTED, "Invalid", format!("{told}; its last good version stays in force"))
        }
        Some(told) => Finding::fails(ACCEPTED, "Invalid", format!("{told}; {instead}")),
    };
    let references = problems.iter().copied().filter(|problem| problem.topic == Topic::Reference);
    let resolved = match told(references) {
        None => Finding::holds(RESOLVED_REFS, "Resolved", "everything that the object names is there"),
        Some(told) => Finding::fails(RESOLVED_REFS, "NotFound", told),
    };
    [accepted, resolved]
}

fn told<'a>(problems: impl Iterator<Item = &'a Problem>) -> Option<String> {
    let all: Vec<String> = problems.map(|problem| format!("{}: {}", problem.path, problem.message)).collect();
    let more = all.len().saturating_sub(MAX_TOLD);
    let mut told = all.into_iter().take(MAX_TOLD).collect::<Vec<_>>().join("; ");
    if more > 0 {
        told.push_str(&format!("; and {more} more"));
    }
    (!told.is_empty()).then_some(told)
}

/// Whether a status is to be written: it differs, and a condition changed or it was not written lately.
pub(crate) fn is_due(old: &Value, new: &Value, written: Option<Instant>, now: Instant) -> bool {
    if old == new {
        return false;
    }
    let essence = |status: &Value| -> Vec<(Value, Value, Value, Value)> {
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let part = |condition: &Value, key: &str| condition[key].clone();
        conditions
            .iter()
            .map(|one| (part(one, "type"), part(one, "status"), part(one, "reason"), part(one, "observedGeneration")))
            .collect()
    };
    let changed = essence(old) != essence(new) || old["observedGeneration"] != new["observedGeneration"];
    changed || written.is_none_or(|written| now.saturating_duration_since(written) >= PERIOD)
}

/// What each object's status was when it was written last, and when.
#[derive(Default)]
pub(crate) struct Written(HashMap<String, (Instant, Value)>);

impl Written {
    /// When the status of an object was written.
    pub(crate) fn of(&self, object: &str) -> Option<Instant> {
        self.0.get(object).map(|(at, _)| *at)
    }

    /// The status of an object as it is: what was just written, which the watch need not show yet, or what
    /// the watch shows.
    pub(crate) fn old(&self, object: &str, seen: &Value) -> Value {
        let written = self.0.get(object).filter(|(at, _)| at.elapsed() < LAG);
        written.map_or_else(|| seen.clone(), |(_, status)| status.clone())
    }

    /// The status of an object was written.
    pub(crate) fn now(&mut self, object: String, status: Value) {
        self.0.insert(object, (Instant::now(), status));
    }

    /// Keeps only objects that are there.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|object, _| is_there(object));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000_000;

    fn written(findings: &[Finding], old: &Value, generation: i64, now_ms: u64) -> Value {
        serde_json::to_value(conditions(findings, old, Some(generation), now_ms)).unwrap()
    }

    #[test]
    fn a_transition_time_moves_with_the_status_only() {
        let first = written(&[Finding::fails(READY, "A", "a")], &Value::Null, 1, NOW);
        let again = written(&[Finding::fails(READY, "B", "b")], &first, 2, NOW + 5000);
        assert_eq!(again[0]["lastTransitionTime"], first[0]["lastTransitionTime"]);
        assert_eq!((&again[0]["reason"], &again[0]["observedGeneration"]), (&json!("B"), &json!(2)));
        let turned = written(&[Finding::holds(READY, "B", "b")], &again, 2, NOW + 9000);
        assert_ne!(turned[0]["lastTransitionTime"], first[0]["lastTransitionTime"]);
    }

    #[test]
    fn conditions_of_others_stay() {
        let theirs = json!([{"type": "Theirs", "status": "True", "reason": "R", "message": "",
                             "lastTransitionTime": "2027-01-15T08:00:00Z"}]);
        let all = written(&[Finding::holds(READY, "R", "")], &theirs, 1, NOW);
        assert_eq!(all[1]["type"], "Theirs");
    }

    #[test]
    fn ready_names_the_first_that_does_not_hold() {
        let good = Finding::holds(ACCEPTED, "Accepted", "");
        let bad = Finding::fails(RESOLVED_REFS, "NotFound", "no such thing");
        assert_eq!(ready(std::slice::from_ref(&good)).status, Truth::True);
        let ready = ready(&[good, bad]);
        assert_eq!((ready.status, ready.reason), (Truth::False, "NotFound"));
        assert_eq!(ready.message, "ResolvedRefs: no such thing");
    }

    #[test]
    fn a_status_is_written_at_once_when_a_condition_changed_and_otherwise_rarely() {
        let now = Instant::now();
        let status = |reason: &str, agents: u32| {
            json!({"observedGeneration": 1, "agents": agents,
                   "conditions": [{"type": "Ready", "status": "True", "reason": reason, "message": "m"}]})
        };
        let old = status("A", 1);
        assert!(!is_due(&old, &old, None, now));
        assert!(is_due(&old, &status("B", 1), Some(now), now));
        assert!(!is_due(&old, &status("A", 2), Some(now), now));
        assert!(is_due(&old, &status("A", 2), Some(now), now + PERIOD));
        assert!(is_due(&old, &status("A", 2), None, now));
    }

    #[test]
    fn long_messages_are_cut() {
        let message = "ä".repeat(MESSAGE * 2);
        assert_eq!(cut(&message).chars().count(), MESSAGE + 2);
        assert_eq!(cut("short"), "short");
    }
}
