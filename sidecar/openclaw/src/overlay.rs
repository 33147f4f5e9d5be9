//! The author's configuration with what must hold put over it. The author's stays in force where it does not weaken
//! the guard; what it said otherwise is told.
//!
//! The plugin is loaded from our folder, first, enabled, and may see runs; tools that change OpenClaw itself are denied;
//! every model runs in OpenClaw's own runtime, since the hooks do not see the tools of others (Codex, the CLIs, ACP).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::PLUGIN_ID;
use crate::read::{ConfigError, read};

/// Tools with which an agent changes OpenClaw itself: its configuration and plugins, other machines, runs of later.
pub const DENIED_TOOLS: [&str; 6] = ["automations", "cron", "gateway", "nodes", "openclaw", "plugins"];

/// The runtime in which OpenClaw's hooks see every tool.
const RUNTIME: &str = "openclaw";

/// Providers for which OpenClaw picks another runtime by itself, also when no configuration names them.
const PROVIDERS: [&str; 4] = ["anthropic", "github-copilot", "google", "openai"];

/// Where the guard is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The folder with the plugin's files, an absolute path.
    pub folder: String,
    /// The Unix socket of the agent gate's API, an absolute path.
    pub socket: String,
    /// How long an answer of the gate may take before a call is blocked, in milliseconds: 10 to 10000.
    pub timeout_ms: u16,
}

/// A configuration for OpenClaw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The text of the file, in JSON. It holds the author's secrets.
    pub config: String,
    /// What the author wrote otherwise.
    pub overrides: Vec<Override>,
}

/// Something that the author wrote and that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Override {
    /// Where, as `plugins.enabled`.
    pub path: String,
    /// What holds instead, and why. No value of the author's is repeated: it may be a secret.
    pub message: &'static str,
}

/// Puts what must hold over an author's configuration (JSON5; empty: none).
///
/// # Errors
/// When it cannot be read in one way.
pub fn merge(author: &str, guard: &Guard) -> Result<Merged, ConfigError> {
    let mut merge = Merge { root: read(author)?, overrides: BTreeSet::new() };
    merge.plugin(guard);
    merge.tools();
    merge.runtimes();
    let acp = merge.object(&["acp"]);
    let was_on = acp.insert("enabled".to_owned(), json!(false)).is_some_and(|was| was != json!(false));
    merge.told(was_on, "acp.enabled", "false: the tools of an ACP harness are not seen by OpenClaw's hooks");
    let Merge { root, overrides } = merge;
    let mut config = serde_json::to_string_pretty(&Value::Object(root)).expect("a value has string keys");
    config.push('\n');
    Ok(Merged { config, overrides: overrides.into_iter().collect() })
}

struct Merge {
    root: Map<String, Value>,
    overrides: BTreeSet<Override>,
}

impl Merge {
    fn told(&mut self, overridden: bool, path: impl Into<String>, message: &'static str) {
        if overridden {
            self.overrides.insert(Override { path: path.into(), message });
        }
    }

    /// The object at a path; whatever else stands there is replaced.
    fn object(&mut self, path: &[&str]) -> &mut Map<String, Value> {
        let mut replaced = None;
        let mut node = &mut self.root;
        for (depth, key) in path.iter().enumerate() {
            let child = node.entry((*key).to_owned()).or_insert_with(|| json!({}));
            if !child.is_object() {
                *child = json!({});
                replaced = replaced.or(Some(depth));
            }
            node = match child {
                Value::Object(members) => members,
                _ => unreachable!("it was made an object above"),
            };
        }
        if let Some(path) = replaced.and_then(|depth| path.get(..=depth)) {
            self.overrides.insert(Override { path: path.join("."), message: "an object: it was none" });
        }
        node
    }

    fn plugin(&mut self, guard: &Guard) {
        let Guard { folder, socket, timeout_ms } = guard;
        let plugins = self.object(&["plugins"]);
        let off = plugins.insert("enabled".to_owned(), json!(true)).is_some_and(|was| was != json!(true));
        let allow = list(plugins.get("allow"));
        if let Some(mut allow) = allow {
            add(&mut allow, PLUGIN_ID);
            plugins.insert("allow".to_owned(), allow.into());
        }
        let mut denied = false;
        if let Some(mut deny) = list(plugins.get("deny")) {
            let before = deny.len();
            deny.retain(|id| !is_ours(id));
            denied = deny.len() != before;
            plugins.insert("deny".to_owned(), deny.into());
        }
        self.told(off, "plugins.enabled", "true: the guard is a plugin");
        self.told(denied, "plugins.deny", "without the guard, which is needed");

        let load = self.object(&["plugins", "load"]);
        let mut paths = list(load.get("paths")).unwrap_or_default();
        paths.retain(|path| path != folder);
        paths.insert(0, json!(folder));
        load.insert("paths".to_owned(), paths.into());

        let entries = self.object(&["plugins", "entries"]);
        let entry = json!({
            "enabled": true,
            // Without it OpenClaw drops before_agent_run, with a line in its log.
            "hooks": {"allowConversationAccess": true},
            "config": {"socket": socket, "timeoutMs": timeout_ms},
        });
        let was = entries.insert(PLUGIN_ID.to_owned(), entry.clone());
        let other = was.is_some_and(|was| was != entry);
        self.told(other, format!("plugins.entries.{PLUGIN_ID}"), "the guard's own settings");
    }

    fn tools(&mut self) {
        let tools = self.object(&["tools"]);
        let allowed: Vec<Value> =
            ["allow", "alsoAllow"].iter().filter_map(|key| list(tools.get(*key))).flatten().collect();
        let mut deny = list(tools.get("deny")).unwrap_or_default();
        DENIED_TOOLS.iter().for_each(|tool| add(&mut deny, tool));
        tools.insert("deny".to_owned(), deny.into());
        let named = allowed.iter().filter_map(Value::as_str).any(|tool| DENIED_TOOLS.contains(&tool));
        self.told(named, "tools.allow", "without the tools that change OpenClaw itself: they are denied");
    }

    fn runtimes(&mut self) {
        // A provider by this name would be a runtime to whoever looks for the key.
        let providers = self.root.get_mut("models").and_then(|models| models.get_mut("providers"));
        let removed = providers.and_then(Value::as_object_mut).and_then(|providers| providers.remove("agentRuntime"));
        self.told(removed.is_some(), "models.providers.agentRuntime", "not there: no provider is called so");
        let mut providers: BTreeSet<String> = PROVIDERS.map(str::to_owned).into();
        for top in ["models", "agents"] {
            if let Some(node) = self.root.get_mut(top) {
                pin(node, top, &mut self.overrides);
            }
        }
        if let Some(agents) = self.root.get("agents") {
            references(agents, &mut providers);
        }
        let configured = self.object(&["models", "providers"]);
        for (name, provider) in configured.iter_mut() {
            providers.insert(name.clone());
            if let Value::Object(provider) = provider {
                provider.insert("agentRuntime".to_owned(), json!({"id": RUNTIME}));
            }
        }
        if configured.is_empty() {
            // Nothing was configured: leave no trace.
            self.object(&["models"]).remove("providers");
        }
        if self.root.get("models").is_some_and(|models| models == &json!({})) {
            self.root.remove("models");
        }
        let models = self.object(&["agents", "defaults", "models"]);
        for provider in providers {
            let every = models.entry(format!("{provider}/*")).or_insert_with(|| json!({}));
            if !every.is_object() {
                *every = json!({});
            }
            every["agentRuntime"] = json!({"id": RUNTIME});
        }
    }
}

/// Sets every runtime that is named anywhere below to OpenClaw's own.
fn pin(node: &mut Value, path: &str, overrides: &mut BTreeSet<Override>) {
    match node {
        Value::Object(members) => {
            for (key, child) in members {
                let path = format!("{path}.{key}");
                if key == "agentRuntime" {
                    let wanted = json!({"id": RUNTIME});
                    if *child != wanted {
                        *child = wanted;
                        overrides.insert(Override { path, message: "openclaw: its hooks see every tool" });
                    }
                } else {
                    pin(child, &path, overrides);
                }
            }
        }
        Value::Array(items) => {
            items.iter_mut().enumerate().for_each(|(index, item)| pin(item, &format!("{path}[{index}]"), overrides));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Most providers that are pinned because a model of theirs is named somewhere.
const MAX_REFERENCES: usize = 256;

/// The providers of the models that are named below as `provider/model`, in values and in keys.
fn references(node: &Value, providers: &mut BTreeSet<String>) {
    let mut found = |text: &str| {
        if let Some((provider, model)) = text.split_once('/')
            && is_name(provider)
            && !model.is_empty()
            && providers.len() < MAX_REFERENCES
        {
            providers.insert(provider.to_owned());
        }
    };
    match node {
        Value::String(text) => found(text),
        Value::Array(items) => items.iter().for_each(|item| references(item, providers)),
        Value::Object(members) => {
            members.keys().for_each(|key| found(key));
            members.values().for_each(|child| references(child, providers));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A provider's name: no path, no URL, no placeholder.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A list as it stands; one value for a list of one; nothing for nothing.
fn list(value: Option<&Value>) -> Option<Vec<Value>> {
    match value? {
        Value::Array(items) => Some(items.clone()),
        Value::Null => None,
        other => Some(vec![other.clone()]),
    }
}

fn add(items: &mut Vec<Value>, text: &str) {
    if !items.iter().any(|item| item == text) {
        items.push(json!(text));
    }
}

/// Whether an entry names the guard, as OpenClaw compares ids: without blanks around them.
fn is_ours(id: &Value) -> bool {
    id.as_str().is_some_and(|id| id.trim().eq_ignore_ascii_case(PLUGIN_ID))
}
