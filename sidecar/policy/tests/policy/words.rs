//! What is said to people: each refusal names the action, the rule and the reason, on one line.

use clawlock_policy::document::{Document, HaltDoc, Tier};
use clawlock_policy::{Code, Denial, HostName, Policy, Verdict};

use crate::fixtures::*;

fn denial(verdict: Verdict) -> Denial {
    match verdict {
        Verdict::Ask(denial) | Verdict::Deny(denial) => denial,
        Verdict::Allow(_) => panic!("it was allowed"),
    }
}

fn policy(rules: Vec<clawlock_policy::document::RuleDoc>) -> Policy {
    build(vec![tenant(vec![]), stripe(), enforce("acme/p", rules)])
}

#[test]
fn a_refusal_names_the_action() {
    let none = policy(vec![rule("r", tools(&["x"]), Tier::Auto)]);
    let start = "no rule of any policy for this agent allows ";
    assert_eq!(denial(call(&none, "t", "{}")).detail, format!("{start}tool t"));
    let refund = request("POST", "/v1/refunds");
    assert_eq!(denial(refund.decide(&none)).detail, format!("{start}operation stripe.create_refund"));
    let docs = request("GET", "/docs/a");
    assert_eq!(denial(docs.decide(&none)).detail, format!("{start}GET api.stripe.com/docs/a (upstream stripe)"));
    let long = request("G T", &format!("/{}", "a".repeat(300)));
    let cut = "a".repeat(199);
    assert_eq!(denial(long.decide(&none)).detail, format!("{start}\"G T\" api.stripe.com/{cut} (upstream stripe)"));
    for verdict in [call(&none, "t", "{}"), docs.decide(&none)] {
        let denial = denial(verdict);
        assert_eq!((denial.code, denial.rule, denial.generation), (Code::NoMatch, None, 7));
        assert!(denial.hint.starts_with("add a rule of tier Auto"), "{}", denial.hint);
    }
}

#[test]
fn a_refusal_without_a_policy_or_upstream_says_so() {
    let alone = build(vec![tenant(vec![]), stripe()]);
    let refused = denial(call(&alone, "t", "{}"));
    assert_eq!(refused.detail, "no policy selects this agent, so tool t is denied");
    assert!(refused.hint.starts_with("create an AgentPolicy"), "{}", refused.hint);
    let evil = Request { host: HostName::parse("evil.example").unwrap(), port: 8443, ..request("GET", "/") };
    let refused = denial(evil.decide(&alone));
    assert_eq!(refused.detail, "evil.example:8443 is no upstream of tenant acme");
    assert!(refused.hint.starts_with("use a declared upstream"), "{}", refused.hint);
    assert_eq!((refused.rule, refused.generation), (None, 7));
}

#[test]
fn a_refusal_by_a_rule_names_it() {
    let rules = vec![
        rule("ask", tools(&["a"]), Tier::Ask),
        rule("block", tools(&["b"]), Tier::Block),
        when("fails", tools(&["c"]), "args.n > 1", Tier::Ask),
    ];
    let policy = policy(rules);
    let said = |tool: &str| denial(call(&policy, tool, "{}"));
    assert_eq!(said("a").detail, "tool a needs an approval by rule ask of policy acme/p, and nobody can be asked yet");
    assert_eq!(said("b").detail, "tool b is blocked by rule block of policy acme/p");
    assert_eq!(
        said("c").detail,
        "tool c is refused: the condition of rule fails of policy acme/p could not be evaluated: there is no \"n\""
    );
    let hints = ["a", "b", "c"].map(|tool| said(tool).hint);
    assert_eq!(
        hints.map(|hint| hint.split(';').next_back().unwrap().trim()),
        [
            "ask the rule's author for tier Auto if it is needed",
            "ask the rule's author if it is needed",
            "send what the condition reads, or mend the rule's condition",
        ]
    );
    assert_eq!(said("a").code.to_string(), "ApprovalUnavailable");
}

#[test]
fn names_that_are_not_ordinary_are_quoted_and_shortened() {
    let policy = policy(vec![]);
    let said = |tool: &str| denial(call(&policy, tool, "{}")).detail.rsplit_once("allows tool ").unwrap().1.to_owned();
    for ordinary in ["t", "a-b_c.d/e:f9", &"n".repeat(128)] {
        assert_eq!(said(ordinary), ordinary);
    }
    assert_eq!(said(""), "\"\"");
    assert_eq!(said("a b"), "\"a b\"");
    assert_eq!(said("a\u{7f}"), "\"a\\u{7f}\"");
    assert_eq!(said("ä"), "\"ä\"");
    assert_eq!(said(&"n".repeat(129)), format!("\"{}…\"", "n".repeat(64)));
}

#[test]
fn the_reason_of_a_halt_is_one_line_of_bounded_length() {
    let said = |name: &str, reason: String| {
        let halt = Document::Halt(HaltDoc { name: name.into(), reason, cause: None });
        denial(call(&build(vec![tenant(vec![]), halt]), "t", "{}")).detail
    };
    assert_eq!(said("acme/h", "a\tb\r\nc".into()), "the agent is halted by acme/h: a b  c");
    let long = said("acme/h", "é".repeat(600));
    assert_eq!(long, format!("the agent is halted by acme/h: {}", "é".repeat(500)));
    assert_eq!(said("acme h", String::new()), "the agent is halted by \"acme h\": ");
}

#[test]
fn an_evaluation_that_fails_says_why_without_values() {
    let args = r#"{"s":"hunter2","max":9223372036854775807,"zero":0,"l":[1],"o":{"Name":1},"n":null}"#;
    for (condition, reason) in [
        ("args.missing == 1", "there is no \"missing\""),
        ("args.o[\"a b\"] == 1", "there is no \"a b\""),
        ("has(args.o.name)", "a name is there that differs from \"name\" only in case"),
        ("args.max + 1 > 0", "a number does not fit 64 bits"),
        ("1 / args.zero == 1", "division by zero"),
        ("1 % args.zero == 1", "division by zero"),
        ("args.l[1] == 1", "an index is out of bounds"),
        ("int(args.s) == 1", "int failed"),
        ("timestamp(args.s) == time.now", "timestamp failed"),
        ("args.l.matches(\"a\")", "matches does not apply to list"),
        ("args.s", "the result is not true or false"),
        ("args.s + 1 == 1", "add does not apply to its operands"),
        ("args.s.all(x, true)", "a value is not iterable"),
    ] {
        let error = outcome(condition, args).expect_err(condition);
        let said = error.rsplit_once("could not be evaluated: ").unwrap().1;
        assert_eq!(said, reason, "{condition}");
    }
    for (condition, types) in [
        ("args.s > 1", "string and int"),
        ("args.s && true", "string and bool"),
        ("!args.s", "string"),
        ("size(args.max) == 1", "int"),
    ] {
        let error = outcome(condition, args).expect_err(condition);
        assert!(error.ends_with(&format!(" does not apply to {types}")), "{condition}: {error}");
    }
}

#[test]
fn a_pattern_is_found_wherever_it_stands() {
    // What the engine puts in the place of `matches` says what it does not apply to in words of its own.
    for place in [
        "@",
        "!@",
        "@ || false",
        "@ ? true : true",
        "[@][0]",
        "{1: @}[1]",
        "{@: true}[true]",
        "{\"a\": @}.a",
        "[1].all(x, @)",
        "[@].all(x, x)",
        "has({\"a\": @}.a)",
        "size(string(@)) > 0",
    ] {
        for call in ["args.l.matches(\"a+\")", "matches(args.l, \"a+\")"] {
            let condition = place.replace('@', call);
            let error = outcome(&condition, r#"{"l":["a"]}"#).expect_err(&condition);
            assert!(error.ends_with(": matches does not apply to list"), "{condition}: {error}");
        }
        let text = place.replace('@', "args.t.matches(\"^[a-c]+$\")");
        assert!(outcome(&text, r#"{"t":"abc"}"#).is_ok(), "{text}");
    }
    let two = "args.t.matches(\"^a\") && !args.t.matches(\"^b\") && [\"b\", args.t].exists_one(x, x.matches(\"^b\"))";
    assert_eq!(outcome(two, r#"{"t":"abc"}"#), Ok(true), "each has its own pattern");
}
