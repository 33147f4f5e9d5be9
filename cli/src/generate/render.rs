//! From what was seen to policies, as YAML with comments or as JSON.

use std::collections::BTreeMap;

use clawlock_compile::check_policy;
use clawlock_crds::bounds::{MAX_PATTERNS, MAX_RULES};
use clawlock_crds::{API_VERSION, AgentPolicy};
use serde::Serialize;
use serde_json::{Value, json};

use super::seen::{Actions, Seen};
use crate::problem::plain;
use crate::replay::Agent;

/// Most actions that a comment lists, the most frequent first.
const LISTED: usize = 200;

/// What is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Generated {
    agents: Vec<ForAgent>,
    refused: u64,
    other_lines: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ForAgent {
    agent: String,
    policies: Vec<AgentPolicy>,
    /// How many times what was seen.
    seen: Vec<Counted>,
    left_out: Vec<Counted>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counted {
    count: u64,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
}

/// Makes the policies.
///
/// # Errors
/// When the compiler would not take one, which is a mistake of this program.
pub(super) fn generate(seen: &Seen, labels: &BTreeMap<String, String>) -> Result<Generated, String> {
    let agents = seen.agents.iter().map(|(agent, actions)| for_agent(agent, actions, labels));
    Ok(Generated { agents: agents.collect::<Result<_, _>>()?, refused: seen.refused, other_lines: seen.other_lines })
}

fn for_agent(agent: &Agent, actions: &Actions, labels: &BTreeMap<String, String>) -> Result<ForAgent, String> {
    let rules = rules(agent, actions);
    let mut policies = Vec::new();
    for (index, rules) in rules.chunks(MAX_RULES).enumerate() {
        let name = match index {
            0 => format!("generated-{}", agent.service_account),
            _ => format!("generated-{}-{}", agent.service_account, index + 1),
        };
        let policy = json!({
            "apiVersion": API_VERSION, "kind": "AgentPolicy",
            "metadata": { "name": name, "namespace": agent.namespace },
            "spec": {
                "agentSelector": if labels.is_empty() { json!({}) } else { json!({ "matchLabels": labels }) },
                "rules": rules,
            },
        });
        let policy: AgentPolicy = serde_json::from_value(policy).map_err(|error| error.to_string())?;
        if let Err(problems) = check_policy(&policy) {
            let first = problems.first().map(ToString::to_string).unwrap_or_default();
            return Err(format!("the generated policy would not hold: {first}"));
        }
        policies.push(policy);
    }
    Ok(ForAgent { agent: agent.name(), policies, seen: counted(actions), left_out: left_out(actions) })
}

/// Rules of exact names, as many as lists of bounded length need.
fn rules(agent: &Agent, actions: &Actions) -> Vec<Value> {
    let Actions { tools, operations, requests, left_out: _ } = actions;
    // Only ASCII letters, digits, '.', '-' and '_' are in the name of a ServiceAccount that a SPIFFE ID holds.
    let when = format!("agent.serviceAccount == \"{}\"", agent.service_account);
    let mut rules = Vec::new();
    let mut push = |kind: &str, matches: Value| {
        let name = format!("{kind}-{}", rules.len() + 1);
        rules.push(json!({ "name": name, "match": matches, "when": when, "tier": "Auto" }));
    };
    let chunks = |names: &BTreeMap<String, u64>| -> Vec<Vec<String>> {
        names.keys().cloned().collect::<Vec<_>>().chunks(MAX_PATTERNS).map(<[String]>::to_vec).collect()
    };
    chunks(tools).into_iter().for_each(|tools| push("tools", json!({ "tools": tools })));
    chunks(operations).into_iter().for_each(|operations| push("operations", json!({ "operations": operations })));
    for ((upstream, method), paths) in requests {
        for paths in chunks(paths) {
            push("http", json!({ "http": { "upstreams": [upstream], "methods": [method], "paths": paths } }));
        }
    }
    rules
}

/// What the rules allow, the most frequent first.
fn counted(actions: &Actions) -> Vec<Counted> {
    let Actions { tools, operations, requests, left_out: _ } = actions;
    let tools = tools.iter().map(|(tool, count)| (*count, format!("tool {tool}")));
    let operations = operations.iter().map(|(operation, count)| (*count, format!("operation {operation}")));
    let requests = requests.iter().flat_map(|((upstream, method), paths)| {
        paths.iter().map(move |(path, count)| (*count, format!("{method} {path} of {upstream}")))
    });
    let all = tools.chain(operations).chain(requests);
    let mut all: Vec<Counted> = all.map(|(count, action)| Counted { count, action, why: None }).collect();
    all.sort_by(|one, two| two.count.cmp(&one.count).then_with(|| one.action.cmp(&two.action)));
    all
}

fn left_out(actions: &Actions) -> Vec<Counted> {
    let all = actions.left_out.iter();
    all.map(|((action, why), count)| Counted { count: *count, action: action.clone(), why: Some(why) }).collect()
}

impl Generated {
    /// Whether everything that was seen is allowed.
    pub(super) fn is_whole(&self) -> bool {
        self.agents.iter().all(|agent| agent.left_out.is_empty())
    }

    /// As YAML.
    ///
    /// # Errors
    /// When it cannot be written, which is a mistake of this program.
    pub(super) fn text(&self) -> Result<String, String> {
        let Self { agents, refused, other_lines } = self;
        let mut text = String::from(
            "# Generated from a log, for a person to review: what agents did and were allowed, and nothing else.\n\
             # A log has no arguments, queries and bodies: write conditions (when) where they matter.\n",
        );
        if *refused > 0 {
            text += &format!("# {refused} records were refused; nothing is proposed for them.\n");
        }
        if *other_lines > 0 {
            text += &format!("# {other_lines} lines are no records.\n");
        }
        for ForAgent { agent, policies, seen, left_out } in agents {
            text += &format!("# Agent {}:\n", plain(agent));
            text += &comments(seen);
            if !left_out.is_empty() {
                text += "# LEFT OUT, and so refused:\n";
                text += &comments(left_out);
            }
            for policy in policies {
                let yaml = serde_saphyr::to_string(policy).map_err(|error| error.to_string())?;
                text += &format!("---\n{yaml}");
            }
        }
        Ok(text)
    }
}

fn comments(counted: &[Counted]) -> String {
    let mut text = String::new();
    for Counted { count, action, why } in counted.iter().take(LISTED) {
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        text += &format!("#{count:>8} x  {}{why}\n", plain(action));
    }
    if counted.len() > LISTED {
        text += &format!("#          and {} more\n", counted.len() - LISTED);
    }
    text
}
