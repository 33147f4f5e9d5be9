//! Residency, and which limits count an action.

use clawlock_policy::document::{
    Category, Document, LimitDoc, LimitScope, MatchDoc, Mode, PolicyDoc, TenantDoc, Tier, UpstreamDoc,
};
use clawlock_policy::explain::Outcome;
use clawlock_policy::{Verdict, explain};

use crate::fixtures::*;

fn resident(place: Option<&str>) -> Document {
    Document::Upstream(UpstreamDoc { residency: place.map(str::to_owned), ..upstream_doc("stripe", "api.stripe.com") })
}

fn all() -> Vec<clawlock_policy::document::RuleDoc> {
    vec![rule("web", http(&["stripe"], &[], &[]), Tier::Auto), rule("tools", tools(&["*"]), Tier::Auto)]
}

fn policy_of(name: &str, mode: Mode, allow: &[&str]) -> Document {
    let residency = if allow.is_empty() { None } else { Some(strings(allow)) };
    Document::Policy(PolicyDoc { name: name.into(), mode, rules: all(), residency, limits: vec![] })
}

fn seen(place: Option<&str>, policies: Vec<Document>) -> String {
    let policy = build([vec![auditing_tenant(vec![]), resident(place)], policies].concat());
    assert_eq!(short(&call(&policy, "read", "{}")), "allow", "tools keep their data in the pod");
    short(&request("GET", "/a").decide(&policy))
}

#[test]
fn residency_is_the_intersection_of_all_policies() {
    let one = |allow: &[&str]| vec![policy_of("acme/a", Mode::Enforce, allow)];
    let two =
        |a: &[&str], b: &[&str]| vec![policy_of("acme/a", Mode::Enforce, a), policy_of("acme/b", Mode::Enforce, b)];
    assert_eq!(seen(Some("eu"), one(&["eu"])), "allow");
    assert_eq!(seen(Some("us"), one(&["eu"])), "deny ResidencyRefused");
    assert_eq!(seen(Some("EU"), one(&["eu"])), "deny ResidencyRefused");
    assert_eq!(seen(None, one(&["eu"])), "deny ResidencyRefused", "who says nothing is nowhere");
    assert_eq!(seen(None, one(&[])), "allow");
    assert_eq!(seen(Some("eu"), two(&["eu", "us"], &["eu", "ch"])), "allow");
    assert_eq!(seen(Some("us"), two(&["eu", "us"], &["eu", "ch"])), "deny ResidencyRefused");
    assert_eq!(seen(Some("us"), two(&["us"], &[])), "allow");
    assert_eq!(seen(Some("us"), two(&["us"], &["eu"])), "deny ResidencyRefused", "the intersection is empty");
}

#[test]
fn residency_of_an_audited_policy_is_recorded() {
    let audited = policy_of("acme/b", Mode::Audit, &["eu"]);
    let both = vec![policy_of("acme/a", Mode::Enforce, &[]), audited.clone()];
    assert_eq!(seen(Some("us"), both), "allow, audited ResidencyRefused");
    assert_eq!(seen(Some("us"), vec![audited]), "allow without credential, audited ResidencyRefused");
}

#[test]
fn a_refusal_says_where_the_upstream_is() {
    let told = |place| {
        let policy = build(vec![tenant(vec![]), resident(place), policy_of("acme/a", Mode::Enforce, &["eu"])]);
        let request = request("GET", "/a");
        let Verdict::Deny(denial) = request.decide(&policy) else { panic!() };
        let explanation = explain(&policy, &request.facts(policy.caller()));
        let rules = &explanation.policies[0].rules;
        assert_eq!((&*rules[0].rule.rule, &rules[0].outcome), ("spec.residency", &Outcome::Matched));
        assert_eq!(rules[1].outcome, Outcome::NotReached);
        denial.detail
    };
    assert!(
        told(Some("us"))
            .ends_with("its upstream's residency, us is not where spec.residency of policy acme/a allows data to be")
    );
    assert!(told(None).contains("its upstream, which states no residency, is not where"));
}

#[test]
fn a_residency_that_is_none_is_refused() {
    for (allow, place) in
        [(strings(&[]), "eu"), (strings(&["e u"]), "eu"), (strings(&["eu"; 1025]), "eu"), (strings(&["eu"]), "")]
    {
        let doc = PolicyDoc {
            name: "acme/a".into(),
            mode: Mode::Enforce,
            rules: all(),
            residency: Some(allow),
            limits: vec![],
        };
        assert!(try_build(vec![tenant(vec![]), resident(Some(place)), Document::Policy(doc)]).is_err());
    }
}

fn limit(name: &str, matches: Option<MatchDoc>) -> LimitDoc {
    LimitDoc { name: name.into(), scope: LimitScope::Agent, matches, requests: 2, interval_ms: 1000, burst: 3 }
}

fn limited(mode: Mode, limits: Vec<LimitDoc>) -> Document {
    Document::Policy(PolicyDoc { name: "acme/a".into(), mode, rules: all(), residency: None, limits })
}

#[test]
fn limits_count_what_they_match_and_what_nobody_knows_the_category_of() {
    let limits = vec![
        limit("all", None),
        limit("exec", Some(tools(&["ex*"]))),
        limit("gets", Some(http(&["stripe"], &["GET"], &["/a/**"]))),
        limit("refunds", Some(operations(&["stripe.create_refund"]))),
        limit("shell", Some(MatchDoc::Category(Category::Shell))),
    ];
    let guardrail = TenantDoc {
        name: "acme".into(),
        guardrails: vec![],
        limits: vec![limit("tenant", Some(tools(&["read"])))],
        tool_categories: vec![],
        audit_until_ms: Some(NOW + 1),
        allowed_modes: vec![Mode::Audit, Mode::Enforce],
    };
    let policy = |mode| build(vec![Document::Tenant(guardrail.clone()), stripe(), limited(mode, limits.clone())]);
    let counted = |mode, facts: &clawlock_policy::Facts<'_>| -> Vec<String> {
        policy(mode).limits(facts).iter().map(|limit| limit.reference.rule.to_string()).collect()
    };
    let built = policy(Mode::Enforce);
    let tool = |name| counted(Mode::Enforce, &tool_facts(built.caller(), name, "{}"));
    assert_eq!(tool("exec"), ["all", "exec", "shell"]);
    assert_eq!(tool("read"), ["all", "tenant"]);
    assert_eq!(tool("unknown"), ["all", "shell"]);
    let web = |method, path| counted(Mode::Enforce, &request(method, path).facts(built.caller()));
    assert_eq!(web("GET", "/a/b"), ["all", "gets", "shell"]);
    assert_eq!(web("POST", "/v1/refunds"), ["all", "refunds", "shell"]);
    // A policy that is audited restricts nobody; the tenant's own limits hold.
    assert_eq!(counted(Mode::Audit, &tool_facts(built.caller(), "read", "{}")), ["tenant"]);
}

#[test]
fn a_limit_that_is_none_is_refused() {
    let refused = |limits: Vec<LimitDoc>| {
        try_build(vec![tenant(vec![]), stripe(), limited(Mode::Enforce, limits)]).unwrap_err().to_string()
    };
    let fine = || limit("l", None);
    for wrong in [
        LimitDoc { requests: 0, ..fine() },
        LimitDoc { requests: 1_000_001, ..fine() },
        LimitDoc { burst: 0, ..fine() },
        LimitDoc { burst: 1_000_001, ..fine() },
        LimitDoc { interval_ms: 0, ..fine() },
        LimitDoc { interval_ms: 86_400_001, ..fine() },
    ] {
        assert!(refused(vec![wrong]).contains("an interval of at most 24h"));
    }
    assert!(refused(vec![fine(), fine()]).contains("two limits have one name"));
    assert!(refused((0..33).map(|n| limit(&format!("l{n}"), None)).collect()).contains("more than 32"));
    assert!(refused(vec![limit("l", Some(tools(&[])))]).contains("matches nothing"));
    assert!(refused(vec![limit("", None)]).contains("a name has"));
}
