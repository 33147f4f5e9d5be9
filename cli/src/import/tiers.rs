//! Tier tables: integrations with a tier per method.

use serde_json::json;

use super::source::{Fields, Source};
use super::{ASK, AUTO, BLOCK, Imported, Mistakes, Policy, Rule, label};
use clawlock_crds::bounds::MAX_PATTERNS;
use clawlock_policy::pattern::OperationPattern;

/// Converts one.
pub(super) fn convert(source: &Source) -> Result<Imported, Mistakes> {
    let tree = source.tree()?;
    let mut rules = Vec::new();
    for (integration, (at, table)) in Fields::any(source, &tree)?.entries() {
        let valid = label(integration) == integration && !integration.is_empty();
        if !valid {
            return Err(source
                .mistake(at, format!("{integration:?} is no name of an Upstream: lower-case letters, digits, '-'")));
        }
        let mut tiers: [(&str, Vec<String>); 3] = [(BLOCK, Vec::new()), (ASK, Vec::new()), (AUTO, Vec::new())];
        let mut statements = Vec::new();
        for (method, (at, tier)) in Fields::any(source, table)?.entries() {
            let operation = format!("{integration}.{method}");
            if method.contains('*') || method.contains('.') || OperationPattern::parse(&operation).is_err() {
                return Err(source.mistake(at, format!("{method:?} is no name of an operation")));
            }
            let index = match tier.text() {
                Some("block") => 0,
                Some("ask") => 1,
                Some("auto") => 2,
                other => {
                    let other = other.unwrap_or("something else");
                    return Err(source.mistake(
                        tier.at(),
                        format!("the tier of {method} is {other:?}, not one of auto, ask, block"),
                    ));
                }
            };
            if method.bytes().all(|byte| byte.is_ascii_uppercase()) {
                statements.push(operation);
            } else if let Some((_, operations)) = tiers.get_mut(index) {
                operations.push(operation);
            }
        }
        for (tier, operations) in tiers {
            for (index, operations) in operations.chunks(MAX_PATTERNS).enumerate() {
                rules.push(rule(integration, tier, index, operations));
            }
        }
        for (index, statements) in statements.chunks(MAX_PATTERNS).enumerate() {
            let mut rule = rule(integration, "statements", index, statements);
            rule.restrict("statements of a database are not understood here yet, so that none is let through");
            rules.push(rule);
        }
    }
    let note = "operations need an Upstream of the integration's name, which says their methods and paths".to_owned();
    Ok(Imported {
        notes: vec![note],
        upstreams: Vec::new(),
        policies: vec![Policy { name: "tiers".to_owned(), rules }],
    })
}

fn rule(integration: &str, tier: &'static str, index: usize, operations: &[String]) -> Rule {
    Rule {
        comment: Vec::new(),
        name: format!("{integration}-{}-{}", tier.to_lowercase(), index + 1),
        matches: json!({ "operations": operations }),
        when: None,
        tier,
    }
}
