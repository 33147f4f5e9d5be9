//! Rules about categories, and what happens where nobody knows the category.

use clawlock_policy::category::{TOOLS, of_tool};
use clawlock_policy::document::{
    Category, Document, MatchDoc, OperationDoc, RuleDoc, TenantDoc, Tier, ToolCategoryDoc, UpstreamDoc,
};
use clawlock_policy::explain::Outcome;
use clawlock_policy::{Verdict, explain};

use crate::fixtures::*;

fn about(name: &str, category: Category, tier: Tier) -> RuleDoc {
    rule(name, MatchDoc::Category(category), tier)
}

/// An upstream with one operation that moves money, one without a category, and what it says of the rest.
fn bank(rest: Option<Category>) -> Document {
    let pay = OperationDoc { category: Some(Category::Money), ..operation("pay", "POST", "/pay", &[]) };
    Document::Upstream(UpstreamDoc {
        category: rest,
        operations: vec![pay, operation("list", "GET", "/list", &[])],
        ..upstream_doc("stripe", "api.stripe.com")
    })
}

fn seen(rest: Option<Category>, guardrails: Vec<RuleDoc>, rules: Vec<RuleDoc>) -> [String; 3] {
    let policy = build(vec![tenant(guardrails), bank(rest), enforce("acme/p", rules)]);
    [("POST", "/pay"), ("GET", "/list"), ("GET", "/other")]
        .map(|(method, path)| short(&request(method, path).decide(&policy)))
}

fn everything() -> RuleDoc {
    rule("everything", http(&["stripe"], &[], &[]), Tier::Auto)
}

#[test]
fn what_has_no_category_is_of_none_for_auto() {
    let reading = || vec![about("reading", Category::Read, Tier::Auto)];
    assert_eq!(seen(None, vec![], reading()), ["deny NoMatch", "deny NoMatch", "deny NoMatch"]);
    assert_eq!(seen(Some(Category::Read), vec![], reading()), ["deny NoMatch", "allow", "allow"]);
    let paying = vec![about("paying", Category::Money, Tier::Auto)];
    assert_eq!(seen(Some(Category::Read), vec![], paying), ["allow", "deny NoMatch", "deny NoMatch"]);
}

#[test]
fn what_has_no_category_does_not_slip_past_ask_and_block() {
    let money = |tier| vec![about("money", Category::Money, tier)];
    let unknown = "deny CategoryUnknown";
    assert_eq!(seen(None, money(Tier::Block), vec![everything()]), ["deny TierBlock", unknown, unknown]);
    assert_eq!(
        seen(Some(Category::Read), money(Tier::Block), vec![everything()]),
        ["deny TierBlock", "allow", "allow"]
    );
    let asked = ["ask ApprovalUnavailable", "ask CategoryUnknown", "ask CategoryUnknown"];
    assert_eq!(seen(None, money(Tier::Ask), vec![everything()]), asked);
    // In a policy the doubt adds its tier, and the rules behind it still count.
    let behind = vec![about("ask", Category::Money, Tier::Ask), rule("no", http(&["stripe"], &[], &[]), Tier::Block)];
    assert_eq!(seen(None, vec![], behind), ["ask ApprovalUnavailable", "deny TierBlock", "deny TierBlock"]);
    // Doubt alone never asks for what no rule mentions.
    let alone = vec![about("ask", Category::Money, Tier::Ask)];
    assert_eq!(seen(None, vec![], alone), ["ask ApprovalUnavailable", unknown, unknown]);
}

#[test]
fn tools_have_the_category_of_the_table_and_look_alikes_have_none() {
    for (category, names) in TOOLS {
        for name in names {
            assert_eq!(of_tool(name), Some(category), "{name}");
            let rules = vec![about("r", category, Tier::Auto)];
            assert_eq!(short(&call(&build(vec![tenant(vec![]), enforce("acme/p", rules)]), name, "{}")), "allow");
        }
    }
    let policy = build(vec![
        tenant(vec![about("money", Category::Money, Tier::Block)]),
        enforce("acme/p", vec![rule("all", tools(&["*"]), Tier::Auto), about("shell", Category::Shell, Tier::Auto)]),
    ]);
    assert_eq!(short(&call(&policy, "exec", "{}")), "allow");
    for name in ["Exec", "exec ", "\u{435}xec", "shop__exec", "apply_patch", "exec\u{200b}"] {
        assert_eq!(of_tool(name), None, "{name:?}");
        assert_eq!(short(&call(&policy, name, "{}")), "deny CategoryUnknown", "{name:?}");
    }
}

#[test]
fn a_tenant_says_what_other_tools_do_and_nothing_of_openclaws_own() {
    let entry = |tools: &[&str], category| ToolCategoryDoc { tools: strings(tools), category };
    let with = |tool_categories: Vec<ToolCategoryDoc>| {
        let Document::Tenant(doc) = tenant(vec![about("money", Category::Money, Tier::Block)]) else { panic!() };
        let rules = vec![about("reading", Category::Read, Tier::Auto), about("shell", Category::Shell, Tier::Auto)];
        build(vec![Document::Tenant(TenantDoc { tool_categories, ..doc }), enforce("acme/p", rules)])
    };
    let reads = || entry(&["shop__get_*"], Category::Read);
    let seen = |entries: Vec<ToolCategoryDoc>, tool| short(&call(&with(entries), tool, "{}"));
    assert_eq!(seen(vec![], "shop__get_item"), "deny CategoryUnknown");
    assert_eq!(seen(vec![reads()], "shop__get_item"), "allow");
    assert_eq!(seen(vec![reads()], "shop__pay"), "deny CategoryUnknown");
    assert_eq!(seen(vec![reads(), entry(&["shop__pay"], Category::Money)], "shop__pay"), "deny TierBlock");
    // Who disagrees says nothing.
    assert_eq!(seen(vec![reads(), entry(&["shop__*"], Category::Write)], "shop__get_item"), "deny CategoryUnknown");
    assert_eq!(seen(vec![reads(), entry(&["*item"], Category::Read)], "shop__get_item"), "allow");
    assert_eq!(seen(vec![entry(&["*"], Category::Money)], "exec"), "allow", "a shell stays one");
}

#[test]
fn a_refusal_says_that_the_category_is_missing() {
    let documents = vec![tenant(vec![about("money", Category::Money, Tier::Block)]), bank(None)];
    let policy =
        build([documents, vec![enforce("acme/p", vec![about("reading", Category::Read, Tier::Auto)])]].concat());
    let list = request("GET", "/list");
    let Verdict::Deny(denial) = list.decide(&policy) else { panic!() };
    assert_eq!(
        denial.detail,
        "operation stripe.list is refused: rule money of the guardrails of acme is about category Money, and this has none"
    );
    let explanation = explain(&policy, &list.facts(policy.caller()));
    let outcomes = explanation.policies.iter().flat_map(|policy| policy.rules.iter().map(|rule| rule.outcome.clone()));
    assert_eq!(outcomes.collect::<Vec<_>>(), [Outcome::CategoryUnknown, Outcome::CategoryUnknown]);
    let policy =
        build(vec![tenant(vec![]), bank(None), enforce("acme/p", vec![about("reading", Category::Read, Tier::Auto)])]);
    let Verdict::Deny(denial) = list.decide(&policy) else { panic!() };
    assert!(denial.detail.ends_with("rule reading of policy acme/p is about category Read, and this has none"));
}

#[test]
fn a_condition_that_is_false_settles_the_doubt() {
    let guardrail = |condition| vec![when("money", MatchDoc::Category(Category::Money), condition, Tier::Block)];
    assert_eq!(seen(None, guardrail("false"), vec![everything()]), ["allow", "allow", "allow"]);
    let unknown = "deny CategoryUnknown";
    assert_eq!(seen(None, guardrail("true"), vec![everything()]), ["deny TierBlock", unknown, unknown]);
    assert_eq!(seen(None, guardrail("args.no == 1"), vec![everything()]), ["deny ConditionError", unknown, unknown]);
}
