//! The CEL rules of the definitions, evaluated: each accepts what is right and refuses what is wrong.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

#[path = "common/samples.rs"]
mod common;

use std::collections::BTreeMap;

use cel::{Context, Program, Value as CelValue};
use clawlock_crds::definitions;
use common::{root_schema, spec_schema};
use serde_json::{Value, json};

/// All rules of all kinds, by their message.
fn rules() -> BTreeMap<String, String> {
    fn collect(schema: &Value, found: &mut BTreeMap<String, String>) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let text = |key: &str| rule[key].as_str().unwrap().to_owned();
            found.insert(text("message"), text("rule"));
        }
        for child in schema["properties"].as_object().into_iter().flatten().map(|(_, child)| child) {
            collect(child, found);
        }
        if schema["items"].is_object() {
            collect(&schema["items"], found);
        }
    }
    let mut found = BTreeMap::new();
    for definition in definitions() {
        let mut root = root_schema(&definition);
        root["properties"] = Value::Null;
        collect(&root, &mut found);
        collect(&spec_schema(&definition), &mut found);
    }
    found
}

fn holds(rule: &str, this: &Value, old: Option<&Value>) -> bool {
    let program = Program::compile(rule).unwrap();
    let mut context = Context::default();
    context.add_variable("self", this).unwrap();
    if let Some(old) = old {
        context.add_variable("oldSelf", old).unwrap();
    }
    match program.execute(&context) {
        Ok(CelValue::Bool(value)) => value,
        other => panic!("{rule}: {other:?}"),
    }
}

#[test]
fn each_rule_accepts_and_refuses() {
    let named = |name: &str| json!({"metadata": {"name": name}});
    let denial = json!({"policy": "acme/p", "rule": "r"});
    let cases: &[(&str, &[Value], &[Value])] = &[
        (
            "with podUID, agentSelector is {}",
            &[json!({"agentSelector": {}, "podUID": "u"}), json!({"agentSelector": {"matchLabels": {"a": "b"}}})],
            &[
                json!({"agentSelector": {"matchLabels": {"a": "b"}}, "podUID": "u"}),
                json!({"agentSelector": {"matchExpressions": []}, "podUID": "u"}),
            ],
        ),
        (
            "cause needs podUID",
            &[json!({}), json!({"podUID": "u"}), json!({"podUID": "u", "cause": {}})],
            &[json!({"cause": {}})],
        ),
        (
            "type Denial, and only it, needs denial",
            &[json!({"type": "Denial", "denial": denial}), json!({"type": "Disobedience"})],
            &[json!({"type": "Denial"}), json!({"type": "Disobedience", "denial": denial})],
        ),
        (
            "tier Auto refuses nothing, so that onDeny Halt does not go with it",
            &[
                json!({"tier": "Auto"}),
                json!({"tier": "Auto", "onDeny": "Continue"}),
                json!({"tier": "Ask", "onDeny": "Halt"}),
                json!({"tier": "Block", "onDeny": "Halt"}),
            ],
            &[json!({"tier": "Auto", "onDeny": "Halt"})],
        ),
        (
            "metadata.name is a DNS label: at most 63 characters and no dot",
            &[named("acme"), named("a-1"), named(&"a".repeat(63))],
            &[named("acme.example"), named(&"a".repeat(64))],
        ),
        (
            "set exactly one of tools, operations, http and category",
            &[
                json!({"tools": ["a"]}),
                json!({"operations": ["a.b"]}),
                json!({"http": {}}),
                json!({"category": "Money"}),
            ],
            &[
                json!({}),
                json!({"tools": ["a"], "category": "Money"}),
                json!({"tools": [], "http": {}}),
                json!({"tools": [], "operations": [], "http": {}}),
            ],
        ),
        (
            "a window that ends when it begins never opens; a whole day is from 00:00 to 24:00",
            &[json!({"from": "22:00", "to": "06:00"}), json!({"from": "00:00", "to": "24:00"})],
            &[json!({"from": "08:00", "to": "08:00"})],
        ),
        (
            "In and NotIn need values; Exists and DoesNotExist take none",
            &[
                json!({"operator": "In", "values": ["a"]}),
                json!({"operator": "NotIn", "values": ["a"]}),
                json!({"operator": "Exists"}),
                json!({"operator": "DoesNotExist", "values": []}),
            ],
            &[
                json!({"operator": "In"}),
                json!({"operator": "NotIn", "values": []}),
                json!({"operator": "Exists", "values": ["a"]}),
            ],
        ),
        ("a label's key has at most 317 characters", &[json!({"app": "a"})], &[json!({"a".repeat(318): "a"})]),
        (
            "mode Audit needs auditUntil, the day on which it ends",
            &[
                json!({}),
                json!({"allowedModes": ["Enforce"]}),
                json!({"allowedModes": ["Enforce"], "auditUntil": "2027-01-15"}),
                json!({"allowedModes": ["Audit"], "auditUntil": "2027-01-15"}),
            ],
            &[json!({"allowedModes": ["Enforce", "Audit"]})],
        ),
        (
            "an exemption needs labels to select by: without any it exempts every pod",
            &[
                json!({"podSelector": {"matchLabels": {"role": "batch"}}}),
                json!({"podSelector": {"matchExpressions": [{"key": "role", "operator": "Exists"}]}}),
            ],
            &[
                json!({"podSelector": {}}),
                json!({"podSelector": {"matchLabels": {}}}),
                json!({"podSelector": {"matchLabels": {}, "matchExpressions": []}}),
            ],
        ),
        (
            "an entry needs labels to select by: without any no agent needs the plugin",
            &[
                json!({"podSelector": {"matchLabels": {"framework": "langgraph"}}}),
                json!({"podSelector": {"matchExpressions": [{"key": "framework", "operator": "Exists"}]}}),
            ],
            &[
                json!({"podSelector": {}}),
                json!({"podSelector": {"matchLabels": {}}}),
                json!({"podSelector": {"matchLabels": {}, "matchExpressions": []}}),
            ],
        ),
        (
            "set namespaceSelector, podSelector or both",
            &[
                json!({"namespaceSelector": {}}),
                json!({"podSelector": {}}),
                json!({"namespaceSelector": {}, "podSelector": {}}),
            ],
            &[json!({})],
        ),
        (
            "a certificate lives for 60s to 24h",
            &[json!("60s"), json!("1m"), json!("24h"), json!("23h59m60s"), json!("86400s"), json!("60000ms")],
            &[json!("59s"), json!("59999ms"), json!("24h1ms"), json!("25h"), json!("0s"), json!("99999h")],
        ),
        (
            "the interval of a rate is 1s to 24h",
            &[json!("1s"), json!("24h"), json!("1m30s"), json!("1000ms")],
            &[json!("999ms"), json!("0s"), json!("24h1s")],
        ),
        (
            "a credential needs the scheme https",
            &[
                json!({"scheme": "https", "credential": {"type": "Bearer"}}),
                json!({"scheme": "http"}),
                json!({"scheme": "http", "credential": {"type": "None"}}),
            ],
            &[json!({"scheme": "http", "credential": {"type": "Basic"}})],
        ),
        (
            "an upstream with a credential has no wildcard host",
            &[
                json!({"hosts": ["a.example"], "credential": {"type": "Bearer"}}),
                json!({"hosts": ["*.example"]}),
                json!({"hosts": ["*.example"], "credential": {"type": "None"}}),
            ],
            &[json!({"hosts": ["a.example", "*.example"], "credential": {"type": "Bearer"}})],
        ),
        (
            "tls needs the scheme https",
            &[json!({"scheme": "https", "tls": {}}), json!({"scheme": "http"})],
            &[json!({"scheme": "http", "tls": {}})],
        ),
        (
            "type Bearer, and only it, needs bearer",
            &[json!({"type": "Bearer", "bearer": {}}), json!({"type": "None"})],
            &[json!({"type": "Bearer"}), json!({"type": "None", "bearer": {}})],
        ),
        (
            "type Header, and only it, needs header",
            &[json!({"type": "Header", "header": {}}), json!({"type": "None"})],
            &[json!({"type": "Header"}), json!({"type": "Bearer", "header": {}})],
        ),
        (
            "type Basic, and only it, needs basic",
            &[json!({"type": "Basic", "basic": {}}), json!({"type": "None"})],
            &[json!({"type": "Basic"}), json!({"type": "Bearer", "basic": {}})],
        ),
    ];
    let mut rules = rules();
    for (message, right, wrong) in cases {
        let rule = rules.remove(*message).unwrap_or_else(|| panic!("no rule says: {message}"));
        for value in *right {
            assert!(holds(&rule, value, None), "{message}: refuses {value}");
        }
        for value in *wrong {
            assert!(!holds(&rule, value, None), "{message}: accepts {value}");
        }
    }
    let rule = rules.remove("the trust domain is immutable: make a new TenantGateway instead").unwrap();
    assert!(holds(&rule, &json!("a.example"), Some(&json!("a.example"))));
    assert!(!holds(&rule, &json!("b.example"), Some(&json!("a.example"))));
    assert!(rules.is_empty(), "no case for {rules:?}");
}
