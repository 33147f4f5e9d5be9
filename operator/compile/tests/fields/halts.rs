//! The fields of halts, and of rules that halt; and whom a halt stops.

use serde_json::json;

use crate::Probe::{self, Tool};
use crate::common::{compiled, find, observe, pod, pod_in, world};
use crate::{EXEC, Field, HALTED, NO_POLICY, field};

pub(crate) fn fields() -> Vec<Field> {
    let halted = |pointer, value, after| Field {
        app: "halted",
        ..field("AgentHalt inc-42", pointer, value, EXEC, HALTED, after)
    };
    let allowed = "Allow by acme/halted#everything";
    vec![
        halted("/spec/agentSelector/matchLabels/app", json!("other"), allowed),
        halted("/spec/agentSelector/matchExpressions/0/key", json!("tier"), allowed),
        halted("/spec/agentSelector/matchExpressions/0/operator", json!("NotIn"), allowed),
        halted("/spec/agentSelector/matchExpressions/0/values", json!(["other"]), allowed),
        halted("/spec/reason", json!("INC-43: a drill"), HALTED),
    ]
}

/// A rule that halts, with the pods of the app `careful`, and what a gate made of it for the one of `tripped`.
pub(crate) fn on_deny_fields() -> Vec<Field> {
    const RM: Probe = Tool("rm", "{}");
    const BY_RULE: &str = "Deny by acme/careful#no-rm: Halted (the agent is halted by acme/pod-1: tool rm is blocked by \
                           rule no-rm of policy acme/careful)";
    const BY_OTHER_POLICY: &str = "Deny by acme/other#no-rm: Halted (the agent is halted by acme/pod-1: tool rm is \
                                   blocked by rule no-rm of policy acme/careful)";
    const BY_OTHER_RULE: &str = "Deny by acme/careful#other: Halted (the agent is halted by acme/pod-1: tool rm is \
                                 blocked by rule no-rm of policy acme/careful)";
    let halts = "Deny by acme/careful#no-rm: TierBlock, halts";
    let blocks = "Deny by acme/careful#no-rm: TierBlock";
    let careful = field("AgentPolicy careful", "/spec/rules/0/onDeny", json!("Continue"), RM, halts, blocks);
    let tripped = |pointer, value, after| Field {
        app: "tripped",
        ..field("AgentHalt pod-1", pointer, value, EXEC, BY_RULE, after)
    };
    let other = json!("0b6f7a3e-6d0c-4f0e-9a4e-1f2a3b4c5d6f");
    vec![
        Field { app: "careful", ..careful },
        tripped("/spec/podUID", other, NO_POLICY),
        // It does not go with what the rest says, and holds without saying which rule it was.
        tripped("/spec/cause/type", json!("Disobedience"), HALTED),
        tripped("/spec/cause/denial/policy", json!("acme/other"), BY_OTHER_POLICY),
        tripped("/spec/cause/denial/rule", json!("other"), BY_OTHER_RULE),
    ]
}

#[test]
fn a_halt_of_one_pod_stops_no_other() {
    let halted = |pod: &clawlock_compile::Pod| observe(&compiled(&world()), pod, EXEC).contains("Halted");
    let tripped = pod("tripped");
    assert!(halted(&tripped));
    let beside = clawlock_compile::Pod { uid: pod("support").uid, ..tripped.clone() };
    assert!(!halted(&beside), "a sibling with the same labels");
    let again = clawlock_compile::Pod { labels: pod("support").labels, ..tripped };
    assert!(halted(&again), "other labels change nothing");
}

#[test]
fn a_halt_in_the_platform_namespace_holds_in_every_namespace_of_the_tenant() {
    let halt = |namespace: &str| {
        let mut objects = world();
        let index = find(&objects, "AgentHalt inc-42");
        objects[index]["metadata"]["namespace"] = json!(namespace);
        compiled(&objects)
    };
    let seen = |namespace: &str, pod_namespace: &str| {
        observe(&halt(namespace), &pod_in(pod_namespace, "halted"), EXEC).starts_with(HALTED)
    };
    assert!(seen("acme-gateway", "acme") && seen("acme-gateway", "acme-staging"));
    assert!(seen("acme", "acme") && !seen("acme", "acme-staging"));
    assert!(!seen("acme-staging", "acme") && seen("acme-staging", "acme-staging"));
    assert!(!seen("elsewhere", "acme") && !seen("elsewhere", "acme-staging"));
}
