//! What halts a pod: rules with `onDeny: Halt`, and what a gate made of their refusals.

use clawlock_policy::document::{CauseDoc, Document, HaltDoc, Mode, OnDeny, RuleDoc, Tier};
use clawlock_policy::{Code, Denial, Verdict};

use crate::fixtures::*;

fn halting(rule: RuleDoc) -> RuleDoc {
    RuleDoc { on_deny: OnDeny::Halt, ..rule }
}

fn refused(documents: Vec<Document>, tool: &str, args: &str) -> Denial {
    let verdict = call(&build(documents), tool, args);
    verdict.denial().unwrap_or_else(|| panic!("{verdict:?}")).clone()
}

fn is_halted(rules: Vec<RuleDoc>) -> bool {
    refused(vec![tenant(vec![]), enforce("acme/p", rules)], "t", r#"{"x":1}"#).halts
}

#[test]
fn on_deny_says_whether_a_refusal_halts() {
    for tier in [Tier::Ask, Tier::Block] {
        let one = || rule("r", tools(&["t"]), tier);
        assert!(!is_halted(vec![one()]), "{tier:?}");
        assert!(is_halted(vec![halting(one())]), "{tier:?}");
        let fails = when("r", tools(&["t"]), "args.missing == 1", tier);
        assert!(is_halted(vec![halting(fails)]), "a condition that cannot be evaluated is a refusal of its rule");
        let closed = when("closed", tools(&["t"]), "args.x == 2", tier);
        assert!(!is_halted(vec![halting(closed), one()]), "its condition is false: another rule refused");
    }
    assert!(!is_halted(vec![halting(rule("other", tools(&["u"]), Tier::Block))]), "no rule refused it");
    let documents = vec![tenant(vec![]), enforce("acme/p", vec![halting(rule("r", tools(&["t"]), Tier::Block))])];
    let denial = refused(documents, "t", "{}");
    assert_eq!(denial.hint, "stop; the agent is halted until a person resumes it");
    assert_eq!(denial.code, Code::TierBlock);
}

#[test]
fn of_two_that_are_as_strict_the_one_that_halts_is_heard() {
    let block = |name: &str| rule(name, tools(&["t"]), Tier::Block);
    for (first, second) in [("acme/a", "acme/b"), ("acme/b", "acme/a")] {
        let halts = enforce(first, vec![halting(block("halts"))]);
        let documents = vec![tenant(vec![block("guardrail")]), halts, enforce(second, vec![block("blocks")])];
        let denial = refused(documents, "t", "{}");
        assert!(denial.halts);
        assert_eq!(&*denial.rule.unwrap().rule, "halts");
    }
    // A stricter one decides: nobody was asked.
    let ask = enforce("acme/a", vec![halting(rule("ask", tools(&["t"]), Tier::Ask))]);
    assert!(!refused(vec![tenant(vec![]), ask, enforce("acme/b", vec![block("blocks")])], "t", "{}").halts);
}

#[test]
fn a_body_is_read_where_it_says_whether_the_pod_is_halted() {
    let refunds = || operations(&["stripe.create_refund"]);
    let large = || halting(when("large", refunds(), "args.amount > 5", Tier::Block));
    let documents = |large: RuleDoc| {
        let first = enforce("acme/a", vec![rule("all", refunds(), Tier::Block)]);
        vec![tenant(vec![]), stripe(), first, enforce("acme/b", vec![large])]
    };
    let policy = build(documents(large()));
    let post = |amount: u8| request("POST", "/v1/refunds").json(&format!(r#"{{"amount":{amount}}}"#));
    assert!(policy.needs_body(&post(1).body(Sent::Unread).facts(policy.caller())));
    assert!(!post(1).decide(&policy).denial().unwrap().halts);
    assert!(post(9).decide(&policy).denial().unwrap().halts);
    let quiet = build(documents(RuleDoc { on_deny: OnDeny::Continue, ..large() }));
    assert!(!quiet.needs_body(&post(1).body(Sent::Unread).facts(quiet.caller())), "it is blocked whatever it says");
}

#[test]
fn nothing_halts_in_audit_mode() {
    let rules = vec![halting(rule("r", tools(&["t"]), Tier::Block))];
    let policy = build(vec![auditing_tenant(vec![]), policy("acme/p", Mode::Audit, rules)]);
    let Verdict::Allow(permit) = call(&policy, "t", "{}") else { panic!("audit mode lets it pass") };
    assert_eq!(permit.shadow(), Some(Code::TierBlock));
    assert_eq!(&*permit.shadow_rule().unwrap().rule, "r");
}

#[test]
fn a_rule_that_refuses_nothing_cannot_halt() {
    let rules = vec![halting(rule("r", tools(&["t"]), Tier::Auto))];
    let error = try_build(vec![tenant(vec![]), enforce("acme/p", rules)]).unwrap_err();
    assert!(error.to_string().contains("an Auto rule refuses nothing"), "{error}");
}

#[test]
fn a_halt_that_a_gate_asked_for_names_the_rule_that_refused() {
    let denial = CauseDoc::Denial { policy: "acme/p".into(), rule: "no-rm".into() };
    let halted = |cause: Option<CauseDoc>| {
        let halt = HaltDoc { name: "acme/pod-1".into(), reason: "tool exec is blocked".into(), cause };
        let is_disobedience = matches!(halt.cause, Some(CauseDoc::Disobedience {}));
        let policy = build(vec![tenant(vec![]), Document::Halt(halt)]);
        let disobeyed = matches!(policy.disobeyed(), Some("tool exec is blocked"));
        assert_eq!(disobeyed, is_disobedience);
        (call(&policy, "t", "{}").denial().unwrap().clone(), policy.is_halted_by_gate())
    };
    let (by_person, gate) = halted(None);
    assert_eq!((by_person.code, by_person.rule, by_person.halts, gate), (Code::Halted, None, false, false));
    let (by_rule, gate) = halted(Some(denial));
    assert!(gate && !by_rule.halts, "it is halted already");
    let rule = by_rule.rule.unwrap();
    assert_eq!([&*rule.policy, &*rule.rule], ["acme/p", "no-rm"]);
    assert_eq!(by_rule.detail, "the agent is halted by acme/pod-1: tool exec is blocked");
    assert!(by_rule.hint.contains("a person must"), "{}", by_rule.hint);
    let (disobeyed, gate) = halted(Some(CauseDoc::Disobedience {}));
    assert_eq!((disobeyed.code, disobeyed.rule, gate), (Code::Disobeyed, None, true));
}
