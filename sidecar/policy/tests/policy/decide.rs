//! What a decision is, promise by promise (DESIGN: "How a decision is made").

use clawlock_policy::document::{Document, HaltDoc, Mode, TenantDoc, Tier};
use clawlock_policy::{Code, Context, Facts, HostName, Verdict, decide, explain};

use crate::fixtures::*;

fn shell_policy() -> Vec<Document> {
    vec![
        tenant(vec![]),
        stripe(),
        enforce(
            "acme/support",
            vec![
                rule("shell", tools(&["exec"]), Tier::Block),
                rule("files", tools(&["read", "write*"]), Tier::Auto),
                when("large", operations(&["stripe.create_refund"]), "args.amount > 1000", Tier::Ask),
                rule("refund", operations(&["stripe.create_refund"]), Tier::Auto),
                rule("docs", http(&["stripe"], &["GET"], &["/docs/**"]), Tier::Auto),
            ],
        ),
    ]
}

#[test]
fn a_block_names_its_rule_and_says_what_to_do() {
    let policy = build(shell_policy());
    let Verdict::Deny(denial) = call(&policy, "exec", "{}") else { panic!("exec is blocked") };
    assert_eq!(denial.detail, "tool exec is blocked by rule shell of policy acme/support");
    assert_eq!(denial.code, Code::TierBlock);
    assert_eq!(denial.generation, 7);
    let reference = denial.rule.unwrap();
    assert_eq!((&*reference.policy, &*reference.rule), ("acme/support", "shell"));
    assert!(policy_digest(&shell_policy()[2]) == *reference.digest);
    assert!(!denial.hint.is_empty());
}

fn policy_digest(document: &Document) -> String {
    clawlock_policy::codec::digest(&clawlock_policy::codec::encode(document))
}

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = build(shell_policy());
    let refund = |amount: u32| request("POST", "/v1/refunds").json(&format!(r#"{{"amount":{amount}}}"#));
    assert_eq!(short(&refund(1001).decide(&policy)), "ask ApprovalUnavailable");
    assert_eq!(short(&refund(1000).decide(&policy)), "allow");
    assert_eq!(short(&call(&policy, "read", "{}")), "allow");
    assert_eq!(short(&call(&policy, "write_file", "{}")), "allow");
    assert_eq!(short(&request("GET", "/docs/a/b").decide(&policy)), "allow");
}

#[test]
fn no_match_no_policy_and_unmentioned_upstreams_are_denied() {
    let policy = build(shell_policy());
    assert_eq!(short(&call(&policy, "fetch", "{}")), "deny NoMatch");
    assert_eq!(short(&request("DELETE", "/v1/refunds").decide(&policy)), "deny NoMatch");
    let none = build(vec![tenant(vec![]), stripe()]);
    assert_eq!(short(&call(&none, "exec", "{}")), "deny NoPolicy");
    let silent = build(vec![tenant(vec![]), stripe(), enforce("acme/p", vec![rule("r", tools(&["*"]), Tier::Auto)])]);
    assert_eq!(short(&request("GET", "/v1/customers").decide(&silent)), "deny NoMatch");
}

#[test]
fn an_upstream_that_is_not_declared_or_not_there_is_unknown() {
    let all =
        vec![tenant(vec![]), stripe(), enforce("acme/p", vec![rule("r", http(&["stripe"], &[], &[]), Tier::Auto)])];
    let policy = build(all);
    assert_eq!(short(&request("GET", "/").decide(&policy)), "allow");
    let other = Request { upstream: "github".into(), ..request("GET", "/") };
    assert_eq!(short(&other.decide(&policy)), "deny UnknownUpstream");
    let host = Request { host: HostName::parse("evil.example").unwrap(), ..request("GET", "/") };
    assert_eq!(short(&host.decide(&policy)), "deny UnknownUpstream");
    let port = Request { port: 8443, ..request("GET", "/") };
    assert_eq!(short(&port.decide(&policy)), "deny UnknownUpstream");
}

#[test]
fn the_strictest_opinion_of_all_policies_and_guardrails_wins() {
    let tiers = [Tier::Auto, Tier::Ask, Tier::Block];
    for one in tiers {
        for two in tiers {
            for guardrail in [None, Some(Tier::Ask), Some(Tier::Block)] {
                let guardrails = guardrail.map(|tier| rule("g", tools(&["t"]), tier)).into_iter().collect();
                let policy = build(vec![
                    tenant(guardrails),
                    enforce("acme/a", vec![rule("a", tools(&["t"]), one)]),
                    enforce("acme/b", vec![rule("b", tools(&["t"]), two)]),
                ]);
                let strictest = one.max(two).max(guardrail.unwrap_or(Tier::Auto));
                let expected = match strictest {
                    Tier::Auto => "allow",
                    Tier::Ask => "ask ApprovalUnavailable",
                    Tier::Block => "deny TierBlock",
                };
                assert_eq!(short(&call(&policy, "t", "{}")), expected, "{one:?} {two:?} {guardrail:?}");
            }
        }
    }
}

#[test]
fn of_equally_strict_rules_the_first_by_policy_and_order_is_named() {
    let policy = build(vec![
        tenant(vec![rule("g", tools(&["t"]), Tier::Block)]),
        enforce("acme/b", vec![rule("b", tools(&["t"]), Tier::Block)]),
        enforce("acme/a", vec![rule("other", tools(&["x"]), Tier::Block), rule("a", tools(&["*"]), Tier::Block)]),
    ]);
    assert_eq!(&*call(&policy, "t", "{}").rule().unwrap().rule, "a");
    let only = build(vec![tenant(vec![rule("g", tools(&["t"]), Tier::Block)])]);
    let verdict = call(&only, "t", "{}");
    assert_eq!(&*verdict.rule().unwrap().policy, "tenantgateway/acme");
    let Verdict::Deny(denial) = verdict else { panic!("blocked") };
    assert_eq!(denial.detail, "tool t is blocked by rule g of the guardrails of acme");
}

#[test]
fn all_guardrails_are_weighed() {
    let guardrails = vec![rule("ask", tools(&["*"]), Tier::Ask), rule("block", tools(&["t"]), Tier::Block)];
    let policy = build(vec![tenant(guardrails), enforce("acme/p", vec![rule("r", tools(&["*"]), Tier::Auto)])]);
    assert_eq!(short(&call(&policy, "t", "{}")), "deny TierBlock");
    assert_eq!(short(&call(&policy, "u", "{}")), "ask ApprovalUnavailable");
}

#[test]
fn a_condition_that_fails_adds_its_own_tier_and_evaluation_goes_on() {
    let verdict = |tier: Tier, later: Tier| {
        let rules = vec![when("first", tools(&["t"]), "args.n > 1", tier), rule("second", tools(&["t"]), later)];
        short(&call(&build(vec![tenant(vec![]), enforce("acme/p", rules)]), "t", "{}"))
    };
    assert_eq!(verdict(Tier::Block, Tier::Auto), "deny ConditionError");
    assert_eq!(verdict(Tier::Ask, Tier::Auto), "ask ConditionError");
    assert_eq!(verdict(Tier::Ask, Tier::Ask), "ask ConditionError");
    assert_eq!(verdict(Tier::Ask, Tier::Block), "deny TierBlock");
    assert_eq!(verdict(Tier::Auto, Tier::Auto), "allow");
    assert_eq!(verdict(Tier::Auto, Tier::Block), "deny TierBlock");
}

#[test]
fn a_condition_that_fails_cannot_turn_a_denial_into_a_question() {
    let verdict = |condition: &str| {
        let rules = vec![when("ask", tools(&["t"]), condition, Tier::Ask)];
        short(&call(&build(vec![tenant(vec![]), enforce("acme/p", rules)]), "t", "{}"))
    };
    assert_eq!(verdict("true"), "ask ApprovalUnavailable");
    assert_eq!(verdict("false"), "deny NoMatch");
    assert_eq!(verdict("args.missing == 1"), "deny ConditionError");
}

#[test]
fn a_failed_auto_rule_is_named_when_nothing_else_allows() {
    let rules = vec![when("small", tools(&["t"]), "args.amount < 5", Tier::Auto)];
    let policy = build(vec![tenant(vec![]), enforce("acme/p", rules)]);
    let Verdict::Deny(denial) = call(&policy, "t", "{}") else { panic!("denied") };
    assert_eq!(denial.code, Code::NoMatch);
    let expected = "no rule of any policy for this agent allows tool t; the condition of rule small of policy acme/p \
                    could not be evaluated: there is no \"amount\"";
    assert_eq!(denial.detail, expected);
}

#[test]
fn data_that_is_not_there_fails_the_conditions_that_read_it_only() {
    let rules = vec![
        when("args", operations(&["stripe.create_refund"]), "args.amount > 5", Tier::Block),
        when("headers", operations(&["stripe.create_refund"]), r#"request.headers["x-a"] == "1""#, Tier::Ask),
        rule("rest", operations(&["stripe.create_refund"]), Tier::Auto),
    ];
    let policy = build(vec![tenant(vec![]), stripe(), enforce("acme/p", rules)]);
    let post = || request("POST", "/v1/refunds").json(r#"{"amount":1}"#).header("x-a", "2");
    assert_eq!(short(&post().decide(&policy)), "allow");
    assert_eq!(short(&post().body(Sent::Unread).decide(&policy)), "deny ConditionError");
    assert_eq!(short(&post().body(Sent::Unusable).decide(&policy)), "deny ConditionError");
    let no_headers = Request { headers: None, ..post() };
    assert_eq!(short(&no_headers.decide(&policy)), "ask ConditionError");
    assert!(policy.reads_headers());
    assert!(!build(shell_policy()).reads_headers());
}

#[test]
fn a_halt_denies_everything_and_gives_the_reason() {
    let mut documents = shell_policy();
    let halt = HaltDoc { name: "acme/inc-42".into(), reason: "INC-42: unusual\nrefunds".into(), cause: None };
    documents.push(Document::Halt(halt));
    let policy = build(documents);
    let Verdict::Deny(denial) = call(&policy, "read", "{}") else { panic!("halted") };
    assert_eq!(denial.code, Code::Halted);
    assert_eq!(denial.detail, "the agent is halted by acme/inc-42: INC-42: unusual refunds");
    let post = request("POST", "/v1/refunds").body(Sent::Unread);
    assert!(!policy.needs_body(&post.facts(policy.caller())));
}

fn audited(
    rules: Vec<clawlock_policy::document::RuleDoc>,
    guardrails: Vec<clawlock_policy::document::RuleDoc>,
) -> String {
    short(&call(&build(vec![auditing_tenant(guardrails), audit("acme/p", rules)]), "t", "{}"))
}

#[test]
fn audit_mode_records_and_takes_no_credential() {
    assert_eq!(audited(vec![rule("r", tools(&["t"]), Tier::Auto)], vec![]), "allow");
    assert_eq!(
        audited(vec![rule("r", tools(&["t"]), Tier::Block)], vec![]),
        "allow without credential, audited TierBlock"
    );
    assert_eq!(
        audited(vec![rule("r", tools(&["t"]), Tier::Ask)], vec![]),
        "allow without credential, audited ApprovalUnavailable"
    );
    assert_eq!(audited(vec![], vec![]), "allow without credential, audited NoMatch");
    let failing = when("r", tools(&["t"]), "args.x > 1", Tier::Block);
    assert_eq!(audited(vec![failing], vec![]), "allow without credential, audited ConditionError");
}

#[test]
fn guardrails_hold_under_audit_mode() {
    let auto = || vec![rule("r", tools(&["t"]), Tier::Auto)];
    assert_eq!(audited(auto(), vec![rule("g", tools(&["t"]), Tier::Block)]), "deny TierBlock");
    assert_eq!(audited(auto(), vec![rule("g", tools(&["t"]), Tier::Ask)]), "ask ApprovalUnavailable");
}

#[test]
fn a_pod_with_an_enforced_policy_is_enforced() {
    let verdict = |enforced: Tier, audited: Tier| {
        let documents = vec![
            auditing_tenant(vec![]),
            enforce("acme/e", vec![rule("e", tools(&["t"]), enforced)]),
            audit("acme/a", vec![rule("a", tools(&["t"]), audited)]),
        ];
        short(&call(&build(documents), "t", "{}"))
    };
    assert_eq!(verdict(Tier::Auto, Tier::Auto), "allow");
    assert_eq!(verdict(Tier::Auto, Tier::Block), "allow, audited TierBlock");
    assert_eq!(verdict(Tier::Block, Tier::Auto), "deny TierBlock");
    let failing = vec![
        auditing_tenant(vec![]),
        enforce("acme/e", vec![rule("e", tools(&["t"]), Tier::Auto)]),
        audit("acme/a", vec![when("a", tools(&["t"]), "args.missing == 1", Tier::Ask)]),
    ];
    assert_eq!(short(&call(&build(failing), "t", "{}")), "allow, audited ConditionError");
    let silent = vec![auditing_tenant(vec![]), enforce("acme/e", vec![]), audit("acme/a", vec![])];
    assert_eq!(short(&call(&build(silent), "t", "{}")), "deny NoMatch");
}

#[test]
fn audit_mode_counts_only_where_allowed_and_until_its_date() {
    let with = |until: Option<u64>, modes: Vec<Mode>| {
        let tenant = TenantDoc {
            name: "acme".into(),
            guardrails: vec![],
            limits: vec![],
            tool_categories: vec![],
            audit_until_ms: until,
            allowed_modes: modes,
        };
        let rules = vec![rule("r", tools(&["t"]), Tier::Block)];
        short(&call(&build(vec![Document::Tenant(tenant), audit("acme/p", rules)]), "t", "{}"))
    };
    let both = || vec![Mode::Enforce, Mode::Audit];
    assert_eq!(with(Some(NOW + 1), both()), "allow without credential, audited TierBlock");
    assert_eq!(with(Some(NOW), both()), "deny TierBlock");
    assert_eq!(with(None, both()), "deny TierBlock");
    assert_eq!(with(Some(NOW + 1), vec![Mode::Enforce]), "deny TierBlock");
    assert_eq!(with(Some(NOW + 1), vec![Mode::Audit]), "allow without credential, audited TierBlock");
}

#[test]
fn the_time_is_a_fact() {
    let rules = vec![when("day", tools(&["t"]), "time.now.getHours() >= 8 && time.now.getHours() < 18", Tier::Auto)];
    let policy = build(vec![tenant(vec![]), enforce("acme/p", rules)]);
    let at = |now_ms: u64| {
        let facts = Facts { context: Context { now_ms }, ..tool_facts(policy.caller(), "t", "{}") };
        short(&decide(&policy, &facts))
    };
    let noon = 1_800_014_400_000; // 2027-01-15T12:00:00Z
    assert_eq!(at(noon), "allow");
    assert_eq!(at(noon + 6 * 3_600_000), "deny NoMatch");
}

#[test]
fn a_body_is_read_only_when_a_rule_that_could_match_needs_it() {
    let needs = |rules: Vec<clawlock_policy::document::RuleDoc>,
                 guardrails: Vec<clawlock_policy::document::RuleDoc>| {
        let policy = build(vec![tenant(guardrails), stripe(), enforce("acme/p", rules)]);
        policy.needs_body(&request("POST", "/v1/refunds").body(Sent::Unread).facts(policy.caller()))
    };
    let refund = || operations(&["stripe.create_refund"]);
    let reads = |tier: Tier| when("reads", refund(), "args.amount > 5", tier);
    assert!(needs(vec![reads(Tier::Auto)], vec![]));
    assert!(!needs(vec![rule("all", refund(), Tier::Auto), reads(Tier::Block)], vec![]));
    assert!(!needs(
        vec![when("path", refund(), "request.path == \"/v1/refunds\"", Tier::Auto), reads(Tier::Block)],
        vec![]
    ));
    assert!(needs(vec![when("path", refund(), "request.path == \"/other\"", Tier::Auto), reads(Tier::Block)], vec![]));
    assert!(!needs(vec![when("other", operations(&["stripe.search"]), "args.x == 1", Tier::Block)], vec![]));
    assert!(!needs(vec![when("method", refund(), "request.method == \"POST\"", Tier::Ask)], vec![]));
    assert!(needs(vec![rule("all", refund(), Tier::Auto)], vec![reads(Tier::Block)]));
    assert!(!needs(vec![rule("no", refund(), Tier::Block)], vec![reads(Tier::Block)]));
    assert!(needs(vec![reads(Tier::Block)], vec![rule("no", refund(), Tier::Block)]));
    let policy = build(shell_policy());
    assert!(!policy.needs_body(&tool_facts(policy.caller(), "exec", "{}")));
}

#[test]
fn explain_tells_what_every_rule_said() {
    let policy = build(shell_policy());
    let post = request("POST", "/v1/refunds").json(r#"{"amount":5}"#);
    let facts = post.facts(policy.caller());
    let explanation = explain(&policy, &facts);
    assert_eq!(explanation.operation.as_deref(), Some("stripe.create_refund"));
    assert_eq!(explanation.verdict, decide(&policy, &facts));
    let support = &explanation.policies[0];
    let outcomes: Vec<String> =
        support.rules.iter().map(|rule| format!("{} {:?}", rule.rule.rule, rule.outcome)).collect();
    assert_eq!(outcomes, ["shell Other", "files Other", "large ConditionFalse", "refund Matched", "docs Other"]);
    assert_eq!(support.opinion, Some(Tier::Auto));
    assert_eq!(support.rules[2].when.as_deref(), Some("args.amount > 1000"));
    let unusable = request("POST", "/v1/refunds").json("{");
    let explanation = explain(&policy, &unusable.facts(policy.caller()));
    let explain::Outcome::ConditionError(error) = &explanation.policies[0].rules[2].outcome else {
        panic!("the condition fails")
    };
    assert!(error.contains("line 1 column 2"), "{error}");
    assert_eq!(explanation.policies[0].rules[3].outcome, explain::Outcome::Matched);
    assert_eq!(explanation.policies[0].opinion, Some(Tier::Ask));
}

#[test]
fn path_patterns_that_share_a_place_are_told_apart() {
    let about = |name: &str, path: &str, tier: Tier| rule(name, http(&["stripe"], &[], &[path]), tier);
    let rules = vec![
        about("a", "/a*/x", Tier::Ask),
        about("b", "/b*/x", Tier::Block),
        about("any", "/*/x", Tier::Auto),
        about("other", "/a*/y", Tier::Block),
    ];
    let policy = build(vec![tenant(vec![]), stripe(), enforce("acme/p", rules)]);
    for (path, expected) in [
        ("/ab/x", "ask ApprovalUnavailable"),
        ("/bb/x", "deny TierBlock"),
        ("/c/x", "allow"),
        ("/ab/y", "deny TierBlock"),
        ("/bb/y", "deny NoMatch"),
    ] {
        assert_eq!(short(&request("GET", path).decide(&policy)), expected, "{path}");
    }
}

#[test]
fn operations_are_found_by_method_and_path() {
    let policy = build(shell_policy());
    let name = |method: &str, path: &str| {
        let request = request(method, path);
        policy.operation(&request.action()).map(ToString::to_string)
    };
    assert_eq!(name("POST", "/v1/refunds").as_deref(), Some("stripe.create_refund"));
    assert_eq!(name("GET", "/v1/customers/cus_1").as_deref(), Some("stripe.get_customer"));
    assert_eq!(name("GET", "/v1/customers/search").as_deref(), Some("stripe.search"), "a literal beats a variable");
    assert_eq!(name("GET", "/v1/customers/s%65arch").as_deref(), Some("stripe.search"), "segments are decoded");
    assert_eq!(name("GET", "/v1/customers/a%2Fb"), None, "an encoded slash matches no template");
    assert_eq!(name("GET", "/v1/customers/"), None, "a variable is not empty");
    assert_eq!(name("post", "/v1/refunds"), None, "methods are case-sensitive");
    let unknown = Request { upstream: "x".into(), ..request("GET", "/v1/customers") };
    assert_eq!(policy.operation(&unknown.action()), None);
}

#[test]
fn a_tools_name_that_is_made_up_stays_one_line() {
    let policy = build(shell_policy());
    let Verdict::Deny(denial) = call(&policy, "x\nallow all\u{1b}[0m", "{}") else { panic!("denied") };
    assert!(!denial.detail.chars().any(char::is_control), "{}", denial.detail);
}

#[test]
fn a_permit_names_its_rule_and_generation() {
    let policy = build(shell_policy());
    let docs = request("GET", "/docs/");
    let facts = docs.facts(policy.caller());
    let Verdict::Allow(permit) = decide(&policy, &facts) else { panic!("allowed") };
    assert_eq!(permit.generation(), 7);
    assert!(permit.credential());
    assert_eq!(permit.shadow(), None);
    assert_eq!(&*permit.rule().unwrap().rule, "docs");
}
