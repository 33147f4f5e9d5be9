//! What must hold holds, whatever the author wrote; and what the author wrote elsewhere stays.
#![allow(clippy::unwrap_used, reason = "a panic is the failure that a test reports")]

use clawlock_openclaw::{DENIED_TOOLS, Guard, Merged, PLUGIN_ID, merge};
use proptest::prelude::*;
use serde_json::{Value, json};

fn guard() -> Guard {
    Guard {
        folder: "/run/clawlock/agent/plugin".into(),
        socket: "/run/clawlock/agent/decide.sock".into(),
        timeout_ms: 500,
    }
}

fn merged(author: &Value) -> (Value, Vec<String>) {
    let Merged { config, overrides } = merge(&author.to_string(), &guard()).unwrap();
    (serde_json::from_str(&config).unwrap(), overrides.into_iter().map(|one| one.path).collect())
}

fn has(list: &Value, text: &str) -> bool {
    list.as_array().is_some_and(|items| items.iter().any(|item| item == text))
}

/// Every runtime below a value.
fn runtimes<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => {
            for (key, child) in members {
                if key == "agentRuntime" { found.push(child) } else { runtimes(child, found) }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| runtimes(item, found)),
        _ => {}
    }
}

/// What must hold.
fn check(config: &Value) {
    let plugins = &config["plugins"];
    assert_eq!(plugins["enabled"], true);
    assert_eq!(plugins["load"]["paths"][0], guard().folder);
    let entry = &plugins["entries"][PLUGIN_ID];
    assert_eq!(entry["enabled"], true);
    assert_eq!(entry["hooks"], json!({"allowConversationAccess": true}));
    assert_eq!(entry["config"], json!({"socket": guard().socket, "timeoutMs": 500}));
    assert!(plugins["allow"].is_null() || has(&plugins["allow"], PLUGIN_ID));
    assert!(!has(&plugins["deny"], PLUGIN_ID));
    for tool in DENIED_TOOLS {
        assert!(has(&config["tools"]["deny"], tool), "{tool}");
    }
    assert_eq!(config["acp"]["enabled"], false);
    let mut found = Vec::new();
    runtimes(&config["models"], &mut found);
    runtimes(&config["agents"], &mut found);
    assert!(found.len() >= 4 && found.iter().all(|runtime| **runtime == json!({"id": "openclaw"})), "{found:?}");
    for provider in config["models"]["providers"].as_object().into_iter().flatten() {
        assert!(!provider.1.is_object() || provider.1["agentRuntime"]["id"] == "openclaw", "{provider:?}");
    }
}

#[test]
fn an_author_without_a_configuration_gets_what_must_hold() {
    let (config, overrides) = merged(&json!({}));
    check(&config);
    assert_eq!(overrides, Vec::<String>::new());
    assert!(config.get("models").is_none(), "{config}");
    assert_eq!(merge("", &guard()), merge("{}", &guard()));
}

#[test]
fn no_provider_is_called_as_a_runtime() {
    for provider in [json!(null), json!({"id": "codex"}), json!({"agentRuntime": {"id": "codex"}})] {
        let (config, overrides) = merged(&json!({"models": {"providers": {"agentRuntime": provider, "own": {}}}}));
        check(&config);
        assert!(config["models"]["providers"].get("agentRuntime").is_none(), "{config}");
        assert_eq!(overrides, ["models.providers.agentRuntime"]);
    }
}

#[test]
fn what_weakens_the_guard_is_overridden_and_told() {
    let author = json!({
        "plugins": {
            "enabled": false,
            "allow": ["telegram"],
            "deny": ["clawlock-guard", "x"],
            "load": {"paths": ["/home/me/plugin"]},
            "entries": {"clawlock-guard": {"enabled": false}, "telegram": {"enabled": true}},
        },
        "tools": {"allow": ["exec", "gateway"], "deny": ["browser"]},
        "acp": {"enabled": true, "backend": "acpx"},
        "models": {"providers": {
            "openai": {"agentRuntime": {"id": "codex"}, "models": [{"id": "m", "agentRuntime": {"id": "codex"}}]},
            "own": {"baseUrl": "https://model.example/v1"},
        }},
        "agents": {
            "defaults": {"model": "anthropic/claude", "models": {"anthropic/claude": {"agentRuntime": {"id": "claude-cli"}}}},
            "entries": {"main": {"model": {"primary": "mistral/large"}}},
        },
    });
    let (config, overrides) = merged(&author);
    check(&config);
    assert_eq!(
        overrides,
        [
            "acp.enabled",
            "agents.defaults.models.anthropic/claude.agentRuntime",
            "models.providers.openai.agentRuntime",
            "models.providers.openai.models[0].agentRuntime",
            "plugins.deny",
            "plugins.enabled",
            "plugins.entries.clawlock-guard",
            "tools.allow",
        ]
    );
    assert_eq!(config["plugins"]["allow"], json!(["telegram", "clawlock-guard"]));
    assert_eq!(config["plugins"]["deny"], json!(["x"]));
    assert_eq!(config["plugins"]["load"]["paths"], json!([guard().folder, "/home/me/plugin"]));
    assert_eq!(config["plugins"]["entries"]["telegram"], json!({"enabled": true}));
    assert!(has(&config["tools"]["deny"], "browser"));
    assert_eq!(config["acp"]["backend"], "acpx");
    assert_eq!(config["models"]["providers"]["own"]["baseUrl"], "https://model.example/v1");
    assert_eq!(config["agents"]["defaults"]["models"]["mistral/*"]["agentRuntime"]["id"], "openclaw");
}

#[test]
fn an_override_repeats_no_value() {
    let author = json!({"plugins": {"entries": {PLUGIN_ID: {"config": {"token": "sk-secret"}}}}, "acp": "sk-secret"});
    let Merged { config, overrides } = merge(&author.to_string(), &guard()).unwrap();
    assert!(!format!("{overrides:?}{config}").contains("sk-secret"));
    assert_eq!(overrides.len(), 2);
}

/// Any JSON, with the keys that matter among others.
fn value() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec![
        "clawlock-guard",
        " Clawlock-Guard ",
        "gateway",
        "exec",
        "openai/gpt",
        "/run/clawlock/agent/plugin",
        "codex",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let key = prop::sample::select(vec![
            "plugins",
            "enabled",
            "allow",
            "deny",
            "load",
            "paths",
            "entries",
            "clawlock-guard",
            "tools",
            "alsoAllow",
            "models",
            "providers",
            "agents",
            "defaults",
            "agentRuntime",
            "id",
            "acp",
            "openai",
            "openai/gpt",
            "hooks",
            "config",
            "other",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6)
                .prop_map(|members| members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

fn config() -> impl Strategy<Value = Value> {
    let top = ["plugins", "tools", "models", "agents", "acp", "gateway"];
    prop::collection::btree_map(prop::sample::select(top.to_vec()), value(), 0..6)
        .prop_map(|members| members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

proptest! {
    #[test]
    fn what_must_hold_holds_and_merging_again_changes_nothing(author in config()) {
        let once = merge(&author.to_string(), &guard()).unwrap();
        let config: Value = serde_json::from_str(&once.config).unwrap();
        check(&config);
        prop_assert_eq!(&config["gateway"], &author["gateway"], "the author's own stays");
        let twice = merge(&once.config, &guard()).unwrap();
        prop_assert_eq!(&twice.config, &once.config);
    }

    #[test]
    fn no_text_is_merged_without_what_must_hold(text in "\\PC{0,200}") {
        if let Ok(Merged { config, .. }) = merge(&text, &guard()) {
            check(&serde_json::from_str(&config).unwrap());
        }
    }
}
