//! What the files themselves allow that those before did not, in words: the log can only tell of what was tried.

use clawlock_crds::{AgentPolicy, Guardrail, Limit, Match, OnDeny, Rule, TenantGateway, Tier};

use crate::folder::{Folder, ObjectId, Resource};

/// Sentences about each rule that may allow more than before.
pub(super) fn widened(before: &Folder, changed: &Folder) -> Vec<String> {
    let mut sentences = Vec::new();
    for object in changed.objects() {
        let old = before.objects().find(|old| old.id == object.id).map(|old| &old.resource);
        match (&object.resource, old) {
            (Resource::Policy(new), old) => {
                let old = old.and_then(|old| if let Resource::Policy(old) = old { Some(old.as_ref()) } else { None });
                policy(&object.id, new, old, &mut sentences);
            }
            (Resource::Gateway(new), Some(Resource::Gateway(old))) => gateway(&object.id, new, old, &mut sentences),
            (Resource::Upstream(new), old) => {
                let same = matches!(old, Some(Resource::Upstream(old)) if old.spec == new.spec);
                if !same {
                    sentences.push(format!("{}: reaches {}", object.id, new.spec.hosts.join(", ")));
                }
            }
            (Resource::Gateway(_) | Resource::Halt(_) | Resource::ConfigMap(_), _) => {}
        }
    }
    sentences
}

fn policy(id: &ObjectId, new: &AgentPolicy, old: Option<&AgentPolicy>, sentences: &mut Vec<String>) {
    let none = Vec::new();
    let old_rules = old.map_or(&none, |old| &old.spec.rules);
    for rule in new.spec.rules.iter().filter(|rule| rule.tier == Tier::Auto && !old_rules.contains(rule)) {
        let hours = if rule.schedule.is_some() { " within its schedule" } else { "" };
        let about = about(&rule.matches, rule.when.as_deref());
        sentences.push(format!("{id}, rule {}: allows {about}{hours}", rule.name));
    }
    for rule in old_rules.iter().filter(|rule| rule.tier != Tier::Auto && !new.spec.rules.contains(rule)) {
        let Rule { name, matches, when, tier, on_deny, .. } = rule;
        if new.spec.rules.iter().any(|new| Rule { on_deny: *on_deny, ..new.clone() } == *rule) {
            // It refuses as before, and only what follows is another.
            if *on_deny == Some(OnDeny::Halt) {
                sentences.push(format!("{id}, rule {name}: no longer halts the pod when it refuses"));
            }
            continue;
        }
        sentences.push(format!("{id}, rule {name}: no longer says {tier:?} to {}", about(matches, when.as_deref())));
    }
    let Some(old) = old else { return };
    limits(id, &new.spec.limits, &old.spec.limits, sentences);
    if new.spec.residency != old.spec.residency {
        sentences.push(format!("{id}: has another residency"));
    }
    let kept = |rules: &[Rule], beside: &[Rule]| -> Vec<String> {
        rules.iter().filter(|rule| beside.contains(rule)).map(|rule| rule.name.clone()).collect()
    };
    if kept(&new.spec.rules, old_rules) != kept(old_rules, &new.spec.rules) {
        sentences.push(format!("{id}: its rules stand in another order, and the first that matches decides"));
    }
    if new.spec.agent_selector != old.spec.agent_selector {
        sentences.push(format!("{id}: holds for other agents"));
    }
    if new.spec.mode != old.spec.mode {
        sentences.push(format!("{id}: is in mode {:?} instead of {:?}", new.spec.mode, old.spec.mode));
    }
}

fn gateway(id: &ObjectId, new: &TenantGateway, old: &TenantGateway, sentences: &mut Vec<String>) {
    for rule in old.spec.guardrails.iter().filter(|rule| !new.spec.guardrails.contains(rule)) {
        let Guardrail { name, matches, when, tier, .. } = rule;
        sentences
            .push(format!("{id}, guardrail {name}: no longer says {tier:?} to {}", about(matches, when.as_deref())));
    }
    limits(id, &new.spec.limits, &old.spec.limits, sentences);
    if new.spec.tool_categories != old.spec.tool_categories {
        sentences.push(format!("{id}: has other toolCategories, by which rules about categories hold"));
    }
    if new.spec.policy_constraints != old.spec.policy_constraints {
        sentences.push(format!("{id}: has other policyConstraints"));
    }
}

/// Limits that are gone or other than before.
fn limits(id: &ObjectId, new: &[Limit], old: &[Limit], sentences: &mut Vec<String>) {
    for limit in old.iter().filter(|limit| !new.contains(limit)) {
        sentences.push(format!("{id}, limit {}: no longer holds as it was", limit.name));
    }
}

/// What a rule is about, in words.
fn about(matches: &Match, when: Option<&str>) -> String {
    let Match { tools, operations, http, category } = matches;
    let mut parts = Vec::new();
    let list = |items: &[String]| items.join(", ");
    parts.extend(tools.as_ref().map(|tools| format!("the tools {}", list(tools))));
    parts.extend(operations.as_ref().map(|operations| format!("the operations {}", list(operations))));
    parts.extend(http.as_ref().map(|http| {
        let methods = http.methods.as_ref().map_or_else(|| "every method".to_owned(), |methods| list(methods));
        let paths = http.paths.as_ref().map_or_else(|| "every path".to_owned(), |paths| list(paths));
        format!("{methods} on {paths} of {}", list(&http.upstreams))
    }));
    parts.extend(category.map(|category| format!("what is of category {category:?}")));
    parts.extend(when.map(|when| format!("when {when}")));
    parts.join(" ")
}
