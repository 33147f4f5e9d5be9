//! Compares the structure of an object with the definitions that the API server gets: all mistakes at once, where the
//! typed reader stops at the first. It only adds to what is refused; whatever it finds nothing wrong with is read by the
//! typed reader, which alone makes objects.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};

use super::object::Mistake;
use super::tree::Node;
use crate::problem::Fix;
use crate::suggest::nearest;

/// Most mistakes that are told of one object: more are not read.
const MAX_MISTAKES: usize = 100;

/// The schema of each kind's `spec`.
static SPECS: LazyLock<BTreeMap<String, JSONSchemaProps>> = LazyLock::new(|| {
    let definitions = clawlock_crds::definitions().into_iter();
    let specs = definitions.filter_map(|definition| {
        let version = definition.spec.versions.into_iter().next()?;
        let spec = version.schema?.open_api_v3_schema?.properties?.remove("spec")?;
        Some((definition.spec.names.kind, spec))
    });
    specs.collect()
});

/// All mistakes in the structure of an object's `spec`; none for a kind without definition.
pub(super) fn check(root: &Node, kind: &str) -> Vec<Mistake> {
    let mut check = Check { mistakes: Vec::new() };
    if let (Some(schema), Some(entry)) = (SPECS.get(kind), root.get("spec")) {
        check.node(&entry.value, schema, "spec");
    }
    check.mistakes
}

struct Check {
    mistakes: Vec<Mistake>,
}

impl Check {
    fn push(&mut self, at: super::Mark, path: &str, reason: String, fix: Option<Fix>) {
        if self.mistakes.len() < MAX_MISTAKES {
            self.mistakes.push(Mistake { at, path: Some(path.to_owned()), reason, fix });
        }
    }

    /// The recursion is bounded by the schema, which has no circle.
    fn node(&mut self, node: &Node, schema: &JSONSchemaProps, path: &str) {
        let expected = schema.type_.as_deref().unwrap_or_default();
        match (node, expected) {
            (Node::Map(..), "object") => self.map(node, schema, path),
            (Node::List(_, items), "array") => {
                let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items else { return };
                for (index, item) in items.iter().enumerate() {
                    self.node(item, schema, &format!("{path}[{index}]"));
                }
            }
            (Node::Scalar(at, text), "string") => {
                let known = schema.enum_.iter().flatten().filter_map(|value| value.0.as_str());
                let known: Vec<&str> = known.collect();
                if known.is_empty() || known.contains(&&**text) || text.is_empty() {
                    return;
                }
                let fix = fix(text, &known);
                self.push(*at, path, format!("{text:?} is none of {}", known.join(", ")), fix);
            }
            // What an empty value and another kind of value mean is the typed reader's to say.
            _ => {}
        }
    }

    fn map(&mut self, node: &Node, schema: &JSONSchemaProps, path: &str) {
        let Some(properties) = &schema.properties else { return };
        let mut meant = Vec::new();
        for entry in node.entries().unwrap_or_default() {
            // A merge key, or one that is no text: the typed reader refuses both.
            let Some(key) = entry.key.as_deref().filter(|key| *key != "<<") else { continue };
            let path = format!("{path}.{key}");
            if let Some(schema) = properties.get(key) {
                self.node(&entry.value, schema, &path);
                continue;
            }
            let missing = properties.keys().map(String::as_str).filter(|known| node.get(known).is_none());
            let fix = fix(key, &missing.collect::<Vec<_>>());
            let reason = match &fix {
                Some(fix) => {
                    meant.push(fix.with.clone());
                    format!("unknown field {key:?}")
                }
                None => {
                    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                    format!("unknown field {key:?}; known here: {}", known.join(", "))
                }
            };
            self.push(entry.at, &path, reason, fix);
        }
        for required in schema.required.iter().flatten() {
            if node.get(required).is_none() && node.get("<<").is_none() && !meant.contains(required) {
                self.push(node.at(), path, format!("missing field {required:?}; add it"), None);
            }
        }
    }
}

fn fix(text: &str, known: &[&str]) -> Option<Fix> {
    nearest(text, known.iter().copied()).map(|with| Fix { replace: text.to_owned(), with: with.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;

    #[test]
    fn every_mistake_is_told_with_its_place_and_what_was_meant() {
        let text = "kind: AgentPolicy\nspec:\n  agentSelectr: {}\n  rules:\n  - name: a\n    match: {tool: [x]}\n    teir: Auto\n  \
                    - name: b\n    match: {http: {upstream: [x]}}\n    tier: Alow\n    whenever: 1\n";
        let documents = tree::parse(text).unwrap();
        let found = check(&documents[0].root, "AgentPolicy");
        let told: Vec<_> = found
            .iter()
            .map(|Mistake { at, path, reason: _, fix }| {
                let fix = fix.as_ref().map(|fix| fix.with.as_str());
                (at.line, at.column, path.as_deref().unwrap(), fix)
            })
            .collect();
        assert_eq!(
            told,
            [
                (3, 3, "spec.agentSelectr", Some("agentSelector")),
                (6, 13, "spec.rules[0].match.tool", Some("tools")),
                (7, 5, "spec.rules[0].teir", Some("tier")),
                (9, 20, "spec.rules[1].match.http.upstream", Some("upstreams")),
                (10, 11, "spec.rules[1].tier", None),
                (11, 5, "spec.rules[1].whenever", None),
            ]
        );
        assert!(found[4].reason.contains("none of"), "{found:?}");
    }

    #[test]
    fn each_kind_has_a_schema_and_other_kinds_have_no_mistake() {
        for kind in ["TenantGateway", "Upstream", "AgentPolicy", "AgentHalt"] {
            let documents = tree::parse("spec: {nonsense: 1}\n").unwrap();
            assert!(!check(&documents[0].root, kind).is_empty(), "{kind}");
        }
        assert!(check(&tree::parse("spec: {a: 1}\n").unwrap()[0].root, "ConfigMap").is_empty());
    }
}
