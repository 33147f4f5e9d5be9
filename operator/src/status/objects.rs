//! The status of policies, upstreams and halts: a pure function of what is in force and acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use clawlock_compile::{Compilation, ObjectRef, Problem};
use clawlock_crds::status::PROGRAMMED;
use serde_json::{Value, json};

use super::{Finding, Truth, conditions, judged, ready};

/// What an object's status depends on.
pub(crate) struct Facts<'a> {
    /// The object.
    pub(crate) object: &'a ObjectRef,
    /// What is wrong with it.
    pub(crate) problems: &'a [&'a Problem],
    /// Its last good version is in force.
    pub(crate) kept: bool,
    /// The generation of the object.
    pub(crate) generation: Option<i64>,
    /// Its status as it is.
    pub(crate) old: &'a Value,
    /// What is in force.
    pub(crate) compilation: &'a Compilation,
    /// Since which generation of its tenant's state it says what it says; `None` when it holds for nobody.
    pub(crate) since: Option<u64>,
    /// The pods that it is about, and the gateways of its tenant: the generation that each has.
    pub(crate) pods: &'a BTreeMap<String, Option<u64>>,
    /// How many of them are agents.
    pub(crate) agents: u32,
    /// Now, in milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
}

/// The status of a policy.
pub(crate) fn policy(facts: &Facts<'_>) -> Value {
    let instead = "until it is mended, the agents that it selects are stopped";
    let mut status = common(facts, instead, false);
    status["agents"] = json!(facts.agents);
    if let Some(mode) = facts.compilation.observed_mode(facts.object, facts.now_ms) {
        status["observedMode"] = json!(mode);
    }
    status
}

/// The status of an upstream.
pub(crate) fn upstream(facts: &Facts<'_>) -> Value {
    common(facts, "until it is mended, nobody can reach it", false)
}

/// The status of a halt.
pub(crate) fn halt(facts: &Facts<'_>) -> Value {
    let mut status = common(facts, "it holds nevertheless, for every agent that it could be about", true);
    status["agents"] = json!(facts.agents);
    status
}

fn common(facts: &Facts<'_>, instead: &str, holds_anyway: bool) -> Value {
    let [accepted, resolved] = judged(facts.problems, facts.kept, instead);
    let holds = accepted.status == Truth::True || facts.kept || holds_anyway;
    let programmed = programmed(facts, holds);
    let mut findings = vec![accepted, resolved, programmed];
    findings.push(ready(&findings));
    let conditions = conditions(&findings, &facts.old["conditions"], facts.generation, facts.now_ms);
    let mut status = json!({"conditions": conditions});
    if let Some(generation) = facts.generation {
        status["observedGeneration"] = json!(generation);
    }
    status
}

fn programmed(facts: &Facts<'_>, holds: bool) -> Finding {
    let Some(since) = facts.since else {
        return Finding::fails(PROGRAMMED, "NoTenant", "it holds for nobody: its namespace belongs to no valid tenant");
    };
    if !holds {
        return Finding::fails(PROGRAMMED, "NotAccepted", "what it says is not in force");
    }
    let behind: BTreeSet<&String> =
        facts.pods.iter().filter(|(_, has)| has.is_none_or(|has| has < since)).map(|(pod, _)| pod).collect();
    if behind.is_empty() {
        let message = format!("in force at all {} sidecars and gateways that need it", facts.pods.len());
        return Finding::holds(PROGRAMMED, "Programmed", message);
    }
    let some = behind.iter().take(3).map(|pod| pod.as_str()).collect::<Vec<_>>().join(", ");
    let message = format!("not yet in force at {} of {}: {some}", behind.len(), facts.pods.len());
    Finding::fails(PROGRAMMED, "Pending", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawlock_compile::{Kind, Resources, Severity, Topic, compile};

    struct World {
        object: ObjectRef,
        problem: Problem,
        pods: BTreeMap<String, Option<u64>>,
        compilation: Compilation,
    }

    impl World {
        fn new(kind: Kind) -> Self {
            let object = ObjectRef { kind, namespace: "acme".to_owned(), name: "x".to_owned() };
            let problem = Problem {
                object: object.clone(),
                path: "spec.rules[1].name".to_owned(),
                message: "twice".to_owned(),
                severity: Severity::Error,
                topic: Topic::Content,
            };
            let pods = BTreeMap::from([("acme/bot-0".to_owned(), Some(7)), ("acme/bot-1".to_owned(), None)]);
            Self { object, problem, pods, compilation: compile(&Resources::default()) }
        }

        fn status(&self, make: fn(&Facts<'_>) -> Value, wrong: bool, kept: bool, since: Option<u64>) -> Value {
            let problems = [&self.problem];
            make(&Facts {
                object: &self.object,
                problems: if wrong { &problems } else { &[] },
                kept,
                generation: Some(4),
                old: &Value::Null,
                compilation: &self.compilation,
                since,
                pods: &self.pods,
                agents: 2,
                now_ms: 1_800_000_000_000,
            })
        }
    }

    fn condition(status: &Value, kind: &str) -> (String, String) {
        let all = status["conditions"].as_array().unwrap();
        let found = all.iter().find(|condition| condition["type"] == kind).unwrap();
        let text = |key: &str| found[key].as_str().unwrap().to_owned();
        (text("status"), text("reason"))
    }

    fn is(status: &Value, kind: &str, wanted: (&str, &str)) {
        let (found, reason) = condition(status, kind);
        assert_eq!((found.as_str(), reason.as_str()), wanted, "{status}");
    }

    #[test]
    fn programmed_waits_for_every_pod_that_needs_the_object() {
        let mut world = World::new(Kind::AgentPolicy);
        is(&world.status(policy, false, false, Some(7)), "Programmed", ("False", "Pending"));
        world.pods.insert("acme/bot-1".to_owned(), Some(6));
        is(&world.status(policy, false, false, Some(7)), "Programmed", ("False", "Pending"));
        is(&world.status(policy, false, false, Some(6)), "Programmed", ("True", "Programmed"));
        is(&world.status(policy, false, false, Some(6)), "Ready", ("True", "Ready"));
        is(&world.status(policy, false, false, None), "Programmed", ("False", "NoTenant"));
    }

    #[test]
    fn an_invalid_object_says_what_holds_instead() {
        let mut world = World::new(Kind::AgentPolicy);
        world.pods.clear();
        let never_good = world.status(policy, true, false, Some(7));
        is(&never_good, "Accepted", ("False", "Invalid"));
        is(&never_good, "Programmed", ("False", "NotAccepted"));
        let kept = world.status(policy, true, true, Some(7));
        is(&kept, "Accepted", ("False", "Invalid"));
        is(&kept, "Programmed", ("True", "Programmed"));
        assert!(kept["conditions"][0]["message"].as_str().unwrap().ends_with("its last good version stays in force"));
        // A halt holds all the same.
        is(&world.status(halt, true, false, Some(7)), "Programmed", ("True", "Programmed"));
        assert_eq!(kept["observedGeneration"], 4);
    }
}
