//! The status of a tenant: a pure function of what was found and done.

use std::collections::{BTreeMap, BTreeSet};

use clawlock_control::message::{IsolationOutcome, PluginState};
use clawlock_crds::status::{
    ACCEPTED, CERTIFICATES_ISSUED, EGRESS_ISOLATED, GATEWAY_AVAILABLE, PLUGIN_REPORTING, PROGRAMMED, RESOLVED_REFS,
};
use clawlock_crds::{AgentCounts, PolicyStatus};
use serde_json::{Value, json};

use super::{Finding, Truth, conditions, ready};
use crate::replica::Sum;

/// Names of one kind that a message repeats.
const MAX_NAMED: usize = 5;

/// What a tenant's status depends on.
pub(crate) struct Facts<'a> {
    /// `Accepted` and `ResolvedRefs` by its problems.
    pub(crate) judged: [Finding; 2],
    /// It is being deleted.
    pub(crate) ending: bool,
    /// Namespaces on which both sides do not agree, and why.
    pub(crate) disagreed: &'a BTreeMap<String, String>,
    /// What went wrong in this reconcile.
    pub(crate) error: Option<&'a str>,
    /// There is a CA, or why there is none.
    pub(crate) certificates: Result<(), String>,
    /// Pods of the gateway: those that are ready, and those that should be.
    pub(crate) gateways: (usize, usize),
    /// What is known of the network.
    pub(crate) isolation: Isolation,
    /// The generation that is stored.
    pub(crate) generation: Option<u64>,
    /// UIDs of agents and gateway pods with their names: who should have the generation.
    pub(crate) pods: &'a BTreeMap<String, String>,
    /// What they acknowledged and found.
    pub(crate) sum: &'a Sum,
    /// How many pods there are.
    pub(crate) agents: AgentCounts,
    /// Namespaces that are closed.
    pub(crate) isolated: &'a BTreeSet<String>,
}

/// What is known of the network around a tenant's agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Isolation {
    /// Policies that are not there or are being deleted.
    pub(crate) missing: Vec<String>,
    /// Policies of others that widen.
    pub(crate) foreign: Vec<String>,
    /// Namespaces where pods without a sidecar still have a network.
    pub(crate) open: Vec<String>,
    /// What `agents.ingress` opens.
    pub(crate) ingress: Vec<String>,
}

/// The conditions of a tenant.
pub(crate) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let [accepted, resolved] = facts.judged.clone();
    let accepted = match facts.ending {
        true => {
            Finding::fails(ACCEPTED, "Deleting", "it is being deleted; its NetworkPolicies stay until no agent is left")
        }
        false => accepted,
    };
    let mut findings = vec![
        accepted,
        agreed(resolved, facts.disagreed),
        certificates(&facts.certificates),
        gateways(facts.gateways),
        isolated(facts),
        programmed(facts),
    ];
    if let Some(error) = facts.error {
        findings.push(Finding::fails("Reconciled", "Error", error));
    }
    let ready = ready(&findings);
    findings.retain(|finding| finding.kind != "Reconciled");
    findings.extend([plugins(facts.sum), ready]);
    findings
}

/// The whole status.
pub(crate) fn status(facts: &Facts<'_>, old: &Value, observed: Option<i64>, now_ms: u64) -> Value {
    let conditions = conditions(&findings(facts), &old["conditions"], observed, now_ms);
    let mut status = json!({
        "conditions": conditions,
        "agents": facts.agents,
        "isolatedNamespaces": facts.isolated,
    });
    if let Some(observed) = observed {
        status["observedGeneration"] = json!(observed);
    }
    if let Some(generation) = facts.generation {
        let programmed = facts.pods.keys().filter(|uid| has(facts, uid, generation)).count();
        let programmed = u32::try_from(programmed).unwrap_or(u32::MAX);
        status["policy"] = json!(PolicyStatus { generation, programmed });
    }
    status
}

fn agreed(resolved: Finding, disagreed: &BTreeMap<String, String>) -> Finding {
    if disagreed.is_empty() {
        return resolved;
    }
    let mut message = named(disagreed.iter().map(|(namespace, why)| format!("namespace {namespace} {why}")));
    if resolved.status != Truth::True {
        message = format!("{message}; {}", resolved.message);
    }
    Finding::fails(RESOLVED_REFS, "NamespaceNotAgreed", message)
}

fn certificates(result: &Result<(), String>) -> Finding {
    match result {
        Ok(()) => Finding::holds(CERTIFICATES_ISSUED, "Issued", "the tenant has its CA"),
        Err(error) => Finding::fails(CERTIFICATES_ISSUED, "NoAuthority", error.clone()),
    }
}

fn gateways((ready, wanted): (usize, usize)) -> Finding {
    let message = format!("{ready} of {wanted} pods of the gateway are ready");
    if ready > 0 {
        Finding::holds(GATEWAY_AVAILABLE, if ready < wanted { "Degraded" } else { "Available" }, message)
    } else {
        Finding::fails(GATEWAY_AVAILABLE, "Unavailable", format!("{message}: agents are denied everything"))
    }
}

fn isolated(facts: &Facts<'_>) -> Finding {
    let Isolation { missing, foreign, open, ingress } = &facts.isolation;
    let found = |outcome: IsolationOutcome| {
        let all = facts.sum.findings.values().filter(move |finding| finding.outcome == outcome);
        let told: Vec<String> = all.map(|one| format!("{} ({:?} {})", one.pod, one.target, one.detail)).collect();
        told
    };
    let answered = found(IsolationOutcome::Answered);
    if !answered.is_empty() {
        let message = format!(
            "canaries answered, so that the network does not enforce, and these pods are closed: {}; look at the CNI",
            named(answered.into_iter())
        );
        return Finding::fails(EGRESS_ISOLATED, "CanaryAnswered", message);
    }
    if !foreign.is_empty() {
        let message = format!("policies of others open the agents: {}; remove them", named(foreign.iter().cloned()));
        return Finding::fails(EGRESS_ISOLATED, "ForeignPolicy", message);
    }
    if !missing.is_empty() {
        let message = format!("not in force: {}", named(missing.iter().cloned()));
        return Finding::fails(EGRESS_ISOLATED, "PolicyMissing", message);
    }
    if !open.is_empty() {
        let message = format!(
            "pods without a sidecar keep their network in {}; create them anew, or set spec.onboarding to Enforce",
            named(open.iter().cloned())
        );
        return Finding::fails(EGRESS_ISOLATED, "NamespaceOpen", message);
    }
    let unvouched = found(IsolationOutcome::NotVouched);
    if !unvouched.is_empty() {
        let message = format!("no gateway vouched for the tripwire: {}", named(unvouched.into_iter()));
        return Finding::unknown(EGRESS_ISOLATED, "NotVouched", message);
    }
    let opened = match ingress.is_empty() {
        true => String::new(),
        false => format!("; spec.agents.ingress lets in: {}", named(ingress.iter().cloned())),
    };
    let own = match facts.sum.own_nodes.is_empty() {
        true => String::new(),
        false => format!(
            " and their own node, which NetworkPolicy always allows: {}",
            named(facts.sum.own_nodes.iter().map(ToString::to_string))
        ),
    };
    Finding::holds(EGRESS_ISOLATED, "Isolated", format!("agents reach nothing but their gateway{own}{opened}"))
}

fn plugins(sum: &Sum) -> Finding {
    let of = |state: PluginState| -> Vec<String> {
        let all = sum.plugins.values().filter(move |plugin| plugin.state == state);
        all.map(|one| if one.detail.is_empty() { one.pod.clone() } else { format!("{} ({})", one.pod, one.detail) })
            .collect()
    };
    let (disobeyed, silent, awaited) = (of(PluginState::Disobeyed), of(PluginState::Silent), of(PluginState::Awaited));
    if !disobeyed.is_empty() {
        let message = format!(
            "agents acted on tool calls that were not decided, and are halted: {}; look at their logs, then delete the \
             pods",
            named(disobeyed.into_iter())
        );
        Finding::fails(PLUGIN_REPORTING, "Disobeyed", message)
    } else if !silent.is_empty() {
        let message = format!(
            "the guard plugin was there and is not heard any more, so that language models are out of reach: {}",
            named(silent.into_iter())
        );
        Finding::fails(PLUGIN_REPORTING, "Silent", message)
    } else if !awaited.is_empty() {
        let message = format!(
            "nothing was heard of a guard plugin yet: {}; an agent that is no OpenClaw belongs under \
             spec.agents.pluginOptional",
            named(awaited.into_iter())
        );
        Finding::unknown(PLUGIN_REPORTING, "Awaited", message)
    } else {
        Finding::holds(PLUGIN_REPORTING, "Reporting", "the guard plugin of every agent that needs one reports")
    }
}

fn has(facts: &Facts<'_>, uid: &str, generation: u64) -> bool {
    facts.sum.generations.get(uid).is_some_and(|known| *known >= generation)
}

fn programmed(facts: &Facts<'_>) -> Finding {
    let Some(generation) = facts.generation else {
        return Finding::fails(PROGRAMMED, "NoState", "nothing was ever in force");
    };
    let behind: Vec<String> =
        facts.pods.iter().filter(|(uid, _)| !has(facts, uid, generation)).map(|(_, name)| name.clone()).collect();
    if behind.is_empty() {
        let message = format!("generation {generation} is in force at all {} pods", facts.pods.len());
        return Finding::holds(PROGRAMMED, "Programmed", message);
    }
    let (count, all) = (behind.len(), facts.pods.len());
    let message =
        format!("generation {generation} is not yet in force at {count} of {all}: {}", named(behind.into_iter()));
    Finding::fails(PROGRAMMED, "Pending", message)
}

fn named(names: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = names.collect();
    let more = all.len().saturating_sub(MAX_NAMED);
    let mut text = all.into_iter().take(MAX_NAMED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica;
    use clawlock_control::message::IsolationTarget;
    use clawlock_crds::status::READY;

    struct World {
        disagreed: BTreeMap<String, String>,
        pods: BTreeMap<String, String>,
        sum: Sum,
        isolated: BTreeSet<String>,
    }

    impl World {
        fn new() -> Self {
            Self {
                disagreed: BTreeMap::new(),
                pods: [("uid".to_owned(), "acme/bot-0".to_owned())].into(),
                sum: Sum { generations: [("uid".to_owned(), 7)].into(), ..Sum::default() },
                isolated: BTreeSet::new(),
            }
        }

        fn facts(&self) -> Facts<'_> {
            Facts {
                judged: super::super::judged(&[], false, ""),
                ending: false,
                disagreed: &self.disagreed,
                error: None,
                certificates: Ok(()),
                gateways: (2, 2),
                isolation: Isolation::default(),
                generation: Some(7),
                pods: &self.pods,
                sum: &self.sum,
                agents: AgentCounts { total: 1, governed: 1, ungoverned: 0 },
                isolated: &self.isolated,
            }
        }
    }

    fn of(facts: &Facts<'_>, kind: &str) -> (Truth, &'static str) {
        let all = findings(facts);
        let found = all.iter().find(|finding| finding.kind == kind).unwrap();
        (found.status, found.reason)
    }

    #[test]
    fn everything_in_order_is_ready() {
        let world = World::new();
        for kind in
            [ACCEPTED, RESOLVED_REFS, CERTIFICATES_ISSUED, GATEWAY_AVAILABLE, EGRESS_ISOLATED, PROGRAMMED, READY]
        {
            assert_eq!(of(&world.facts(), kind).0, Truth::True, "{kind}");
        }
        let status = status(&world.facts(), &Value::Null, Some(3), 1_800_000_000_000);
        assert_eq!(status["policy"], json!({"generation": 7, "programmed": 1}));
        assert_eq!(status["observedGeneration"], 3);
    }

    #[test]
    fn each_part_that_is_missing_turns_its_condition_and_ready() {
        let mut world = World::new();
        world.disagreed.insert("acme".to_owned(), "has no label".to_owned());
        assert_eq!(of(&world.facts(), RESOLVED_REFS), (Truth::False, "NamespaceNotAgreed"));
        let world = World::new();
        let mut facts = world.facts();
        facts.certificates = Err("broken".to_owned());
        assert_eq!(of(&facts, CERTIFICATES_ISSUED), (Truth::False, "NoAuthority"));
        facts.certificates = Ok(());
        facts.gateways = (1, 2);
        assert_eq!(of(&facts, GATEWAY_AVAILABLE), (Truth::True, "Degraded"));
        facts.gateways = (0, 2);
        assert_eq!(of(&facts, READY), (Truth::False, "Unavailable"));
        facts.gateways = (2, 2);
        facts.generation = Some(8);
        assert_eq!(of(&facts, PROGRAMMED), (Truth::False, "Pending"));
        facts.generation = Some(7);
        facts.error = Some("apply Service: 403");
        assert_eq!(of(&facts, READY), (Truth::False, "Error"));
        facts.error = None;
        facts.ending = true;
        assert_eq!(of(&facts, ACCEPTED), (Truth::False, "Deleting"));
    }

    #[test]
    fn plugins_that_do_not_report_are_told_by_what_is_worst() {
        use crate::replica::Plugin;
        let mut world = World::new();
        assert_eq!(of(&world.facts(), PLUGIN_REPORTING), (Truth::True, "Reporting"));
        for (uid, state, wanted) in [
            ("a", PluginState::Awaited, (Truth::Unknown, "Awaited")),
            ("b", PluginState::Silent, (Truth::False, "Silent")),
            ("c", PluginState::Disobeyed, (Truth::False, "Disobeyed")),
        ] {
            world.sum.plugins.insert(uid.to_owned(), Plugin::new("acme/bot", state, "why"));
            assert_eq!(of(&world.facts(), PLUGIN_REPORTING), wanted);
        }
        // Agents that start must not make a tenant unready.
        assert_eq!(of(&world.facts(), READY).0, Truth::True);
    }

    #[test]
    fn egress_is_isolated_only_when_nothing_speaks_against_it() {
        let mut world = World::new();
        for (isolation, reason) in [
            (Isolation { foreign: vec!["acme/allow".to_owned()], ..Isolation::default() }, "ForeignPolicy"),
            (Isolation { missing: vec!["acme/x".to_owned()], ..Isolation::default() }, "PolicyMissing"),
            (Isolation { open: vec!["acme".to_owned()], ..Isolation::default() }, "NamespaceOpen"),
        ] {
            let mut facts = world.facts();
            facts.isolation = isolation;
            assert_eq!(of(&facts, EGRESS_ISOLATED), (Truth::False, reason));
        }
        let finding = |outcome| replica::Finding {
            pod: "acme/bot-0".to_owned(),
            outcome,
            target: IsolationTarget::Tripwire,
            detail: "10.0.0.1".to_owned(),
        };
        world.sum.own_nodes.insert("10.0.0.2".parse().unwrap());
        let told = isolated(&world.facts());
        assert_eq!(told.status, Truth::True);
        assert!(
            told.message.ends_with("their own node, which NetworkPolicy always allows: 10.0.0.2"),
            "{}",
            told.message
        );
        world.sum.findings.insert("uid".to_owned(), finding(IsolationOutcome::NotVouched));
        assert_eq!(of(&world.facts(), EGRESS_ISOLATED), (Truth::Unknown, "NotVouched"));
        world.sum.findings.insert("uid".to_owned(), finding(IsolationOutcome::Answered));
        assert_eq!(of(&world.facts(), EGRESS_ISOLATED), (Truth::False, "CanaryAnswered"));
    }
}
