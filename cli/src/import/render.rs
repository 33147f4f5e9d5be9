//! From what was imported to documents.

use std::fmt::Write as _;

use clawlock_compile::{ConfigMaps, check_policy, check_upstream};
use clawlock_crds::API_VERSION;
use serde_json::{Value, json};

use super::{Imported, Place, Policy, Rule, Upstream};
use crate::problem::plain;

/// The documents as objects.
fn documents(imported: &Imported, place: &Place<'_>) -> Vec<Value> {
    let Imported { notes: _, upstreams, policies } = imported;
    let upstreams = upstreams.iter().map(|upstream| upstream_object(upstream, place));
    upstreams.chain(policies.iter().map(|policy| policy_object(policy, place))).collect()
}

fn upstream_object(upstream: &Upstream, place: &Place<'_>) -> Value {
    let Upstream { name, host, port } = upstream;
    json!({
        "apiVersion": API_VERSION, "kind": "Upstream", "metadata": { "name": name, "namespace": place.platform },
        "spec": { "protocol": "HTTP", "scheme": "https", "hosts": [host], "port": port },
    })
}

fn selector(place: &Place<'_>) -> Value {
    if place.labels.is_empty() { json!({}) } else { json!({ "matchLabels": place.labels }) }
}

fn policy_object(policy: &Policy, place: &Place<'_>) -> Value {
    let rules = policy.rules.iter().map(|Rule { comment: _, name, matches, when, tier }| {
        let mut rule = json!({ "name": name, "match": matches, "tier": tier });
        if let Some(when) = when {
            rule["when"] = json!(when);
        }
        rule
    });
    json!({
        "apiVersion": API_VERSION, "kind": "AgentPolicy",
        "metadata": { "name": policy.name, "namespace": place.namespace },
        "spec": { "agentSelector": selector(place), "rules": rules.collect::<Vec<_>>() },
    })
}

/// Checks the documents with the compiler's code.
///
/// # Errors
/// When one would not hold, for example because a name is too long.
pub(super) fn check(imported: &Imported, place: &Place<'_>) -> Result<(), String> {
    for document in documents(imported, place) {
        let problems = match document["kind"].as_str() {
            Some("Upstream") => {
                let upstream = serde_json::from_value(document).map_err(|error| error.to_string())?;
                check_upstream(&upstream, &ConfigMaps::default()).err()
            }
            _ => check_policy(&serde_json::from_value(document).map_err(|error| error.to_string())?).err(),
        };
        if let Some(first) = problems.iter().flatten().next() {
            return Err(format!("what was imported would not hold: {first}"));
        }
    }
    Ok(())
}

/// For programs.
pub(super) fn json(imported: &Imported, place: &Place<'_>) -> Value {
    let comments = imported.policies.iter().flat_map(|policy| &policy.rules).filter(|rule| !rule.comment.is_empty());
    let comments: Vec<Value> =
        comments.map(|rule| json!({ "rule": rule.name, "comment": rule.comment.join("; ") })).collect();
    json!({ "documents": documents(imported, place), "notes": imported.notes, "comments": comments })
}

/// As YAML with comments. Values are written as JSON, which is YAML, so that no name can be anything but a text.
pub(super) fn yaml(imported: &Imported, place: &Place<'_>) -> String {
    let Imported { notes, upstreams, policies } = imported;
    let mut text = String::from("# Imported by clawlock import, for a person to review.\n");
    notes.iter().for_each(|note| comment(&mut text, "", note));
    for upstream in upstreams {
        let document = upstream_object(upstream, place);
        head(&mut text, &document);
        // Writing to a String does not fail.
        let _ = writeln!(text, "spec: {}", document["spec"]);
    }
    for policy in policies {
        head(&mut text, &policy_object(policy, place));
        let _ = writeln!(text, "spec:\n  agentSelector: {}", selector(place));
        text += if policy.rules.is_empty() { "  rules: []\n" } else { "  rules:\n" };
        for Rule { comment: comments, name, matches, when, tier } in &policy.rules {
            comments.iter().for_each(|line| comment(&mut text, "  ", line));
            let _ = writeln!(text, "  - name: {}\n    match: {matches}", json!(name));
            if let Some(when) = when {
                let _ = writeln!(text, "    when: {}", json!(when));
            }
            let _ = writeln!(text, "    tier: {tier}");
        }
    }
    text
}

fn head(text: &mut String, document: &Value) {
    let (version, kind) = (&document["apiVersion"], &document["kind"]);
    let (version, kind) = (version.as_str().unwrap_or_default(), kind.as_str().unwrap_or_default());
    let _ = writeln!(text, "---\napiVersion: {version}\nkind: {kind}\nmetadata: {}", document["metadata"]);
}

fn comment(text: &mut String, indent: &str, line: &str) {
    let _ = writeln!(text, "{indent}# {}", plain(line));
}
