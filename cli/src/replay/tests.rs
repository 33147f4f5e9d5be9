//! Whatever the arguments, query and labels were: what the replay says of a record is what the engine said of the action,
//! or the replay says that it does not know.

use std::path::Path;

use clawlock_audit::ActionRecord;
use clawlock_policy::Verdict as Decided;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::action::Asked;
use crate::args::{AgentArgs, AgentName};
use crate::folder::{self, Folder};
use crate::log::{self, Line};

const CONDITIONS: [Option<&str>; 10] = [
    None,
    Some("args.n == 1"),
    Some("args.n > 1"),
    Some("args.missing == 1"),
    Some("agent.serviceAccount == \"default\""),
    Some("agent.serviceAccount == \"other\""),
    Some("agent.labels.app == \"a\""),
    Some("time.now < timestamp(\"2026-01-01T00:00:00Z\")"),
    Some("time.now < timestamp(\"2030-01-01T00:00:00Z\") && args.n == 2"),
    Some("false"),
];

fn rules(tiers: &'static [&'static str]) -> impl Strategy<Value = Vec<(usize, &'static str, bool)>> {
    proptest::collection::vec((0..CONDITIONS.len(), proptest::sample::select(tiers), any::<bool>()), 0..5)
}

fn written(rules: &[(usize, &str, bool)]) -> Vec<serde_json::Value> {
    let rule = |(index, (condition, tier, tool)): (usize, &(usize, &str, bool))| {
        let matches = if *tool {
            json!({"tools": ["exec"]})
        } else {
            json!({"http": {"upstreams": ["pay"], "paths": ["/v1/*"]}})
        };
        let mut rule = json!({"name": format!("r{index}"), "match": matches, "tier": tier});
        if let Some(when) = CONDITIONS[*condition] {
            rule["when"] = json!(when);
        }
        rule
    };
    rules.iter().enumerate().map(rule).collect()
}

const AUTO: &[&str] = &["Auto", "Auto", "Ask", "Block"];
const GUARD: &[&str] = &["Ask", "Block"];

/// Two policies, of which one may be audited, and guardrails.
fn folder(
    one: &[(usize, &str, bool)],
    two: &[(usize, &str, bool)],
    guardrails: &[(usize, &str, bool)],
    audit: bool,
    select: bool,
) -> Folder {
    let object = |kind: &str, namespace: &str, name: &str, spec: serde_json::Value| {
        json!({"apiVersion": "clawlock.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}).to_string()
    };
    let constraints = json!({"allowedModes": ["Enforce", "Audit"], "auditUntil": "2028-01-01"});
    let mode = if audit { "Audit" } else { "Enforce" };
    let selector = if select { json!({"matchLabels": {"app": "a"}}) } else { json!({}) };
    let texts = [
        object(
            "TenantGateway",
            "acme-gateway",
            "acme",
            json!({
                "namespaces": ["acme"], "trustDomain": "acme.example", "guardrails": written(guardrails), "policyConstraints": constraints,
            }),
        ),
        object(
            "Upstream",
            "acme-gateway",
            "pay",
            json!({"protocol": "HTTP", "scheme": "https", "hosts": ["pay.example"], "port": 443}),
        ),
        object("AgentPolicy", "acme", "one", json!({"agentSelector": {}, "rules": written(one)})),
        object("AgentPolicy", "acme", "two", json!({"agentSelector": selector, "mode": mode, "rules": written(two)})),
    ];
    let files =
        texts.iter().enumerate().map(|(index, text)| folder::parse(format!("{index}.yaml").into(), text)).collect();
    Folder { files, problems: Vec::new() }
}

/// The policy of an agent with these labels.
fn policy(rules: &Rules, labels: &[Label]) -> Policy {
    let agent = AgentName { namespace: "acme".to_owned(), service_account: "default".to_owned() };
    rules.policy_of(&AgentArgs { agent: Some(agent), labels: labels.to_vec() }, 1).unwrap()
}

/// What the engine says with all facts.
fn truth(policy: &Policy, asked: &Asked, now_ms: u64) -> Verdict {
    let routed = asked.route(policy).unwrap();
    asked.with_facts(policy, &routed, now_ms, |facts| match decide(policy, facts) {
        Decided::Allow(_) => Verdict::Allow,
        Decided::Ask(_) => Verdict::Ask,
        Decided::Deny(_) => Verdict::Deny,
    })
}

fn record(tool: bool, now_ms: u64) -> Box<Logged> {
    let mut record = log::tests::record(match tool {
        true => ActionRecord::Tool { tool: "exec".to_owned(), call_id: None },
        false => ActionRecord::Http {
            upstream: Some("pay".into()),
            operation: None,
            method: "POST".to_owned(),
            target: "https://pay.example:443".to_owned(),
            path: "/v1/x".to_owned(),
        },
    });
    record.time_ms = now_ms;
    let Line::Record(logged) = log::parse(&serde_json::to_vec(&record).unwrap()) else { panic!("no record") };
    logged
}

/// Each case asks about 24 actions.
fn cases() -> u32 {
    std::env::var("CLAWLOCK_CASES").ok().and_then(|cases| cases.parse::<u32>().ok()).map_or(4_200, |cases| cases / 24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_replay_is_right_or_does_not_know(
        one in rules(AUTO), two in rules(AUTO), guardrails in rules(GUARD), audit in any::<bool>(), select in any::<bool>(),
        say_labels in any::<bool>(),
    ) {
        let files = folder(&one, &two, &guardrails, audit, select);
        let rules = Rules::of(&files, Path::new(".")).unwrap();
        let app = Label { key: "app".to_owned(), value: "a".to_owned() };
        let told = if say_labels { vec![app.clone()] } else { Vec::new() };
        let mut replay = Replay::new(&rules, &told).unwrap();
        let agent = Agent { namespace: "acme".to_owned(), service_account: "default".to_owned() };
        let mut real = vec![policy(&rules, std::slice::from_ref(&app))];
        if !say_labels {
            real.push(policy(&rules, &[]));
        }
        for tool in [true, false] {
            for now_ms in [1_700_000_000_000, 1_795_000_000_000, 1_900_000_000_000] {
                let said = replay.ask(&agent, &record(tool, now_ms)).unwrap();
                for args in [r#"{"n":1}"#, r#"{"n":2}"#, r#"{}"#, r#"{"n":"x"}"#] {
                    let asked = match tool {
                        true => Asked::tool("exec", args),
                        false => Asked::http("POST", "https://pay.example/v1/x", args, Vec::new()),
                    };
                    for policy in &real {
                        let truth = truth(policy, asked.as_ref().unwrap(), now_ms);
                        let right = match &said {
                            Said::Allow(_) => truth == Verdict::Allow,
                            Said::Refuse(Refusal { verdict: Some(verdict), .. }) => truth == *verdict,
                            Said::Refuse(Refusal { verdict: None, .. }) => truth != Verdict::Allow,
                            Said::Unknown(_) => true,
                        };
                        prop_assert!(right, "{said:?}, but {truth:?} for {args} at {now_ms}: {one:?} {two:?} {guardrails:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_certain_is_known() {
    let agent = Agent { namespace: "acme".to_owned(), service_account: "default".to_owned() };
    for (one, said) in [
        (&[(0, "Auto", true)][..], Verdict::Allow),
        (&[(0, "Block", true), (1, "Auto", true)], Verdict::Deny),
        (&[(4, "Auto", true)], Verdict::Allow),
        (&[(5, "Auto", true)], Verdict::Deny),
        (&[(0, "Ask", true)], Verdict::Ask),
    ] {
        let rules = Rules::of(&folder(one, &[], &[], false, false), Path::new(".")).unwrap();
        let answer = Replay::new(&rules, &[]).unwrap().ask(&agent, &record(true, 1)).unwrap();
        let right = match &answer {
            Said::Allow(rule) => said == Verdict::Allow && rule.is_some(),
            Said::Refuse(Refusal { verdict, .. }) => verdict.is_none_or(|verdict| verdict == said),
            Said::Unknown(_) => false,
        };
        assert!(right, "{one:?}: {answer:?}");
    }
    let elsewhere = Agent { namespace: "nowhere".to_owned(), service_account: "default".to_owned() };
    let rules = Rules::of(&folder(&[(0, "Auto", true)], &[], &[], false, false), Path::new(".")).unwrap();
    let answer = Replay::new(&rules, &[]).unwrap().ask(&elsewhere, &record(true, 1)).unwrap();
    assert_eq!(answer, Said::Refuse(Refusal { verdict: Some(Verdict::Deny), rule: None, halts: false }));
    let labelled = Rules::of(&folder(&[], &[], &[], false, true), Path::new(".")).unwrap();
    assert_eq!(Replay::new(&labelled, &[]).unwrap().ask(&agent, &record(true, 1)).unwrap(), Said::Unknown(Why::Labels));
}

#[test]
fn a_field_that_was_cut_is_not_guessed() {
    let rules = Rules::of(&folder(&[(0, "Auto", true)], &[], &[], false, false), Path::new(".")).unwrap();
    let agent = Agent { namespace: "acme".to_owned(), service_account: "default".to_owned() };
    let mut cut = record(true, 1);
    cut.action = LoggedAction::Tool { tool: "x".repeat(clawlock_audit::record::MAX_FIELD) };
    assert_eq!(Replay::new(&rules, &[]).unwrap().ask(&agent, &cut).unwrap(), Said::Unknown(Why::Action));
    cut.action = LoggedAction::Other;
    assert_eq!(Replay::new(&rules, &[]).unwrap().ask(&agent, &cut).unwrap(), Said::Unknown(Why::Action));
}
