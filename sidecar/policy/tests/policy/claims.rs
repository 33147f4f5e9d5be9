//! What an agent says of itself can tighten, and nothing else.

use clawlock_policy::condition::{Condition, Target};
use clawlock_policy::document::{RuleDoc, Tier};
use clawlock_policy::{Action, ToolAction};
use clawlock_policy::{Claims, Facts, Policy, Verdict, decide};

use crate::fixtures::*;

fn seen(policy: &Policy, requester: Option<&str>) -> Verdict {
    let claims = Claims { requester, run: Some("run-1"), model: Some("gpt"), role: None };
    let action = Action::Tool(ToolAction { name: "exec", args: "{}", claims });
    decide(policy, &Facts { action, ..tool_facts(policy.caller(), "exec", "{}") })
}

fn with(rules: Vec<RuleDoc>) -> Policy {
    build(vec![tenant(vec![]), enforce("acme/p", rules)])
}

fn guests(tier: Tier) -> RuleDoc {
    when("guests", tools(&["exec"]), "requester.id == \"guest\"", tier)
}

#[test]
fn a_rule_that_listens_adds_its_tier() {
    let policy = with(vec![guests(Tier::Block), rule("all", tools(&["*"]), Tier::Auto)]);
    assert_eq!(short(&seen(&policy, Some("guest"))), "deny TierBlock");
    assert_eq!(short(&seen(&policy, Some("boss"))), "allow");
    assert_eq!(short(&seen(&policy, None)), "deny ConditionError", "who says nothing is not believed either");
    let Verdict::Deny(denial) = seen(&policy, None) else { panic!() };
    assert!(denial.detail.ends_with("the agent did not state its requester"), "{}", denial.detail);
}

#[test]
fn a_rule_that_listens_hides_none_behind_it_and_alone_asks_for_nothing() {
    let before_a_block = with(vec![guests(Tier::Ask), rule("no", tools(&["*"]), Tier::Block)]);
    assert_eq!(short(&seen(&before_a_block, Some("guest"))), "deny TierBlock");
    let before_an_auto = with(vec![guests(Tier::Ask), rule("all", tools(&["*"]), Tier::Auto)]);
    assert_eq!(short(&seen(&before_an_auto, Some("guest"))), "ask ApprovalUnavailable");
    assert_eq!(short(&seen(&with(vec![guests(Tier::Ask)]), Some("guest"))), "deny ApprovalUnavailable");
}

#[test]
fn an_auto_rule_must_not_listen() {
    for condition in ["requester.id == \"boss\"", "args.x == 1 || run.id == \"r\"", "!(model.name == \"m\")"] {
        let auto = when("r", tools(&["exec"]), condition, Tier::Auto);
        let error = try_build(vec![tenant(vec![]), enforce("acme/p", vec![auto])]).unwrap_err().to_string();
        assert!(error.contains("an Auto rule does not depend on requester, run or model"), "{error}");
        for tier in [Tier::Ask, Tier::Block] {
            assert!(
                try_build(vec![tenant(vec![]), enforce("acme/p", vec![when("r", tools(&["exec"]), condition, tier)])])
                    .is_ok()
            );
        }
    }
}

#[test]
fn claims_are_known_in_rules_about_tools_by_their_names_only() {
    let refusal = |text: &str, target: &Target| Condition::parse(text, target).unwrap_err().reason;
    for target in [Target::http(), Target::category(), Target::operations([])] {
        assert!(refusal("requester.id == \"a\"", &target).contains("in rules about tools only"));
    }
    assert!(refusal("requester.name == \"a\"", &Target::tools()).contains("requester has no \"name\""));
    assert!(refusal("model.id == \"a\"", &Target::tools()).contains("model has no \"id\""));
    assert!(refusal("requester == \"a\"", &Target::tools()).contains("write requester.id"));
    assert!(refusal("model == \"a\"", &Target::tools()).contains("write model.name"));
    assert!(refusal("run.id == 1", &Target::tools()).contains("does not apply"));
    let policy = with(vec![
        when("m", tools(&["*"]), "model.name.startsWith(\"gpt\") && run.id == \"run-1\"", Tier::Block),
        rule("all", tools(&["*"]), Tier::Auto),
    ]);
    assert_eq!(short(&seen(&policy, None)), "deny TierBlock");
}
