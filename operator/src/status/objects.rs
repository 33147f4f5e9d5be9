//! The status of policies, upstreams and halts: a pure function of what is in force and acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use clawlock_compile::{Compilation, ObjectRef, Problem};
use clawlock_crds::status::{ACCEPTED, PROGRAMMED};
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
    let mut status = common(facts, instead);
    status["agents"] = json!(facts.agents);
    if let Some(mode) = facts.compilation.observed_mode(facts.object, facts.now_ms) {
        status["observedMode"] = json!(mode);
    }
    status
}

/// The status of an upstream.
pub(crate) fn upstream(facts: &Facts<'_>) -> Value {
    common(facts, "until it is mended, nobody can reach it")
}

/// The status of a halt.
pub(crate) fn halt(facts: &Facts<'_>) -> Value {
    let mut status = common(facts, "it holds nevertheless, for every agent that it could be about");
    status["agents"] = json!(facts.agents);
    status
}

fn common(facts: &Facts<'_>, instead: &str) -> Value {
    let [accepted, resolved] = judged(facts.problems, facts.kept, instead);
    let programmed = programmed(facts, &accepted);
    let mut findings = vec![accepted, resolved, programmed];
    findings.push(ready(&findings));
    let conditions = conditions(&findings, &facts.old["conditions"], facts.generation, facts.now_ms);
    let mut status = json!({"conditions": conditions});
    if let Some(generation) = facts.generation {
        status["observedGeneration"] = json!(generation);
    }
    status
}

fn programmed(facts: &Facts<'_>, accepted: &Finding) -> Finding {
    debug_assert_eq!(accepted.kind, ACCEPTED);
    let Some(since) = facts.since else {
        return Finding::fails(PROGRAMMED, "NoTenant", "it holds for nobody: its namespace belongs to no valid tenant");
    };
    if accepted.status != Truth::True && !facts.kept {
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
