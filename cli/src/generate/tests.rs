//! What was seen is allowed, and nothing else: over random logs, through YAML, the compiler and the engine.

use std::collections::BTreeMap;
use std::path::Path;

use clawlock_audit::ActionRecord;
use clawlock_policy::{Policy, Verdict as Decided, decide};
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::action::Asked;
use crate::args::{AgentArgs, AgentName};
use crate::engine::Rules;
use crate::folder::{self, Folder};
use crate::log;

const TENANT: &str = "apiVersion: clawlock.dev/v1alpha1\nkind: TenantGateway\nmetadata: {name: acme, namespace: acme-gateway}\n\
    spec: {namespaces: [acme, other], trustDomain: acme.example}\n---\n\
    apiVersion: clawlock.dev/v1alpha1\nkind: Upstream\nmetadata: {name: pay, namespace: acme-gateway}\n\
    spec:\n  protocol: HTTP\n  scheme: https\n  hosts: [pay.example]\n  port: 443\n  operations:\n  \
    - {name: list, method: GET, path: /v1/charges}\n  - {name: refund, method: POST, path: \"/v1/charges/{charge}/refunds\"}\n---\n\
    apiVersion: clawlock.dev/v1alpha1\nkind: Upstream\nmetadata: {name: wiki, namespace: acme-gateway}\n\
    spec: {protocol: HTTP, scheme: https, hosts: [wiki.example, wiki2.example], port: 443}\n";

/// Names that look like another, like a pattern, or like another type in YAML.
const TOOLS: [&str; 18] = [
    "exec",
    "exec2",
    "Exec",
    "\u{435}xec",
    "*",
    "ex*",
    "e",
    "true",
    "~",
    "1e3",
    "null",
    "a: b",
    "a b",
    "- x",
    "#x",
    "server__tool",
    "server_tool",
    "{a}",
];
const PATHS: [&str; 14] = [
    "/",
    "/v1",
    "/v1/",
    "/v1/charges",
    "/v1/charges/",
    "/v1/charges/ch_1/refunds",
    "/v1/charges/ch_2/refunds",
    "/v1/charges/ch_1",
    "/v1/*",
    "/v1/%2A",
    "/v1/a%2Fb",
    "/v1/%7Bcharge%7D",
    "/V1/charges",
    "/v1/a%20b",
];
const AGENTS: [(&str, &str); 3] = [("acme", "default"), ("acme", "billing"), ("other", "default")];

/// Something that can be done, and what it counts as.
#[derive(Clone, Debug)]
struct Deed {
    agent: (&'static str, &'static str),
    action: ActionRecord,
    asked: (String, String),
    same_as: String,
}

/// Everything that any of the agents could do.
fn universe() -> Vec<Deed> {
    let mut deeds = Vec::new();
    for agent in AGENTS {
        for tool in TOOLS {
            let action = ActionRecord::Tool { tool: tool.to_owned(), call_id: None };
            deeds.push(Deed { agent, action, asked: (String::new(), tool.to_owned()), same_as: tool.to_owned() });
        }
        for (upstream, method, path) in ["pay", "wiki"]
            .into_iter()
            .flat_map(|upstream| ["GET", "POST", "DELETE"].map(|method| (upstream, method)))
            .flat_map(|(upstream, method)| PATHS.map(|path| (upstream, method, path)))
        {
            let operation = match (upstream, method, path) {
                ("pay", "GET", "/v1/charges") => Some("pay.list"),
                ("pay", "POST", "/v1/charges/ch_1/refunds" | "/v1/charges/ch_2/refunds") => Some("pay.refund"),
                _ => None,
            };
            let target = format!("https://{upstream}.example:443");
            let same_as = operation.map_or_else(|| format!("{method} {target}{path}"), str::to_owned);
            let action = ActionRecord::Http {
                upstream: Some(upstream.into()),
                operation: operation.map(Into::into),
                method: method.to_owned(),
                target: target.clone(),
                path: path.to_owned(),
            };
            deeds.push(Deed { agent, action, asked: (method.to_owned(), format!("{target}{path}")), same_as });
        }
    }
    deeds
}

fn seen(deeds: &[Deed]) -> Seen {
    let mut seen = Seen::default();
    for deed in deeds {
        let (namespace, account) = deed.agent;
        let mut record = log::tests::record(deed.action.clone());
        record.workload = format!("spiffe://acme.example/ns/{namespace}/sa/{account}/pod/1").into();
        let line = serde_json::to_vec(&record).unwrap();
        let Line::Record(record) = log::parse(&line) else { panic!("no record") };
        seen.add(Agent::of(&record).unwrap(), record.action).unwrap();
    }
    seen
}

fn policy(rules: &Rules, (namespace, account): (&str, &str)) -> Policy {
    let agent = AgentName { namespace: namespace.to_owned(), service_account: account.to_owned() };
    rules.policy_of(&AgentArgs { agent: Some(agent), labels: Vec::new() }, 1).unwrap()
}

fn allowed(policy: &Policy, deed: &Deed) -> bool {
    let (method, what) = &deed.asked;
    let asked = match method.as_str() {
        "" => Asked::tool(what, "{}"),
        method => Asked::http(method, what, "", Vec::new()),
    };
    let Ok(asked) = asked else { return false };
    let Ok(routed) = asked.route(policy) else { return false };
    asked.with_facts(policy, &routed, 1, |facts| matches!(decide(policy, facts), Decided::Allow(_)))
}

/// Whether a rule can name it alone.
fn nameable(deed: &Deed) -> bool {
    let what = &deed.asked.1;
    !what.contains('*')
        && !what.contains("%2A")
        && !what.contains("%2F")
        && !["a: b", "a b", "- x"].contains(&what.as_str())
}

/// Some hundred random logs; all that the agents could do, some 300 deeds, is asked after each.
fn cases() -> u32 {
    std::env::var("CLAWLOCK_CASES").ok().and_then(|cases| cases.parse::<u32>().ok()).map_or(350, |cases| cases / 300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn what_was_seen_is_allowed_and_nothing_else(done in subsequence(universe(), 0..24)) {
        let generated = render::generate(&seen(&done), &BTreeMap::new()).unwrap();
        let yaml = generated.text().unwrap();
        let files = vec![folder::parse("tenant.yaml".into(), TENANT), folder::parse("generated.yaml".into(), &yaml)];
        let rules = Rules::of(&Folder { files, problems: Vec::new() }, Path::new(".")).unwrap();
        prop_assert_eq!(generated.is_whole(), done.iter().all(nameable), "{}", yaml);
        for agent in AGENTS {
            let policy = policy(&rules, agent);
            for deed in universe().iter().filter(|deed| deed.agent == agent) {
                let same = |done: &&Deed| done.agent == agent && done.same_as == deed.same_as && nameable(done);
                let was_seen = done.iter().any(|done| same(&done));
                prop_assert_eq!(allowed(&policy, deed), was_seen, "{:?}\n{}", deed, yaml);
            }
        }
    }
}

#[test]
fn what_is_left_out_is_told_in_one_harmless_line() {
    let mut deed = universe().remove(0);
    deed.action = ActionRecord::Tool { tool: "*\n\u{1b}[31m---\nkind: Evil".to_owned(), call_id: None };
    let generated = render::generate(&seen(&[deed]), &BTreeMap::new()).unwrap();
    let text = generated.text().unwrap();
    assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
    assert!(text.contains("would stand for more than itself"), "{text}");
    assert!(!generated.is_whole());
}

#[test]
fn long_lists_become_several_rules_and_policies() {
    let agent = Agent { namespace: "acme".to_owned(), service_account: "default".to_owned() };
    let mut seen = Seen::default();
    for number in 0..30_000 {
        let path = format!("/p/{}", number / 1_001);
        let (upstream, method) = (Some(format!("up-{}", number % 1_001)), "GET".to_owned());
        let target = "https://up.example:443".to_owned();
        seen.add(agent.clone(), log::LoggedAction::Http { upstream, operation: None, method, target, path }).unwrap();
    }
    let text = render::generate(&seen, &BTreeMap::from([("app".to_owned(), "a".to_owned())])).unwrap().text().unwrap();
    assert_eq!(text.matches("kind: AgentPolicy").count(), 2);
    assert!(text.contains("generated-default-2") && text.contains("matchLabels") && text.contains("and 29800 more"));
}
