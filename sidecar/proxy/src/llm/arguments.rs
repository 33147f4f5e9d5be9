//! What a call's arguments say, so that two spellings of them can be compared.
//!
//! Between the model and `before_tool_call` an agent tidies arguments up: OpenClaw parses JSON that came as
//! a text, makes numbers of texts where the tool's schema wants them, renames members of older forms and
//! drops those that a tool does not know. What it may not do is ask for something that the model did not
//! say. So arguments are kept as the set of their values, and those that are decided must be among those
//! that were asked for.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

/// Values of one call that are compared one by one. Of more, only all together are.
const VALUES: usize = 64;

/// What a call's arguments say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    canonical: [u8; 16],
    // Sorted; empty when there are more than `VALUES`.
    values: Vec<u64>,
}

impl Arguments {
    /// Of a JSON text; `None` when it is not a JSON object in its one reading.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Some models send nothing where there are no arguments.
        let text = if text.trim().is_empty() { "{}" } else { text };
        match clawlock_policy::json::parse(text.as_bytes()) {
            Ok(value @ Value::Object(_)) => Some(Self::of(&value)),
            _ => None,
        }
    }

    /// Of a JSON value, or of a text that is not JSON and is all of a call's input.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        let mut values = Vec::new();
        collect(value, &mut values, true);
        values.sort_unstable();
        values.dedup();
        if values.len() > VALUES {
            values.clear();
        }
        // serde_json keeps members sorted, so this spelling is the canonical one.
        let canonical = digest(&SHA256, value.to_string().as_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(canonical.as_ref().get(..16).unwrap_or(&[0; 16]));
        Self { canonical: first, values }
    }

    /// The hash of the canonical spelling.
    #[must_use]
    pub fn canonical(&self) -> [u8; 16] {
        self.canonical
    }

    /// Whether these arguments say nothing that the model did not ask for.
    #[must_use]
    pub fn are_among(&self, asked: &Self) -> bool {
        self.canonical == asked.canonical
            || (!self.values.is_empty() && self.values.iter().all(|value| asked.values.binary_search(value).is_ok()))
    }
}

fn collect(value: &Value, into: &mut Vec<u64>, nested: bool) {
    match value {
        Value::Null => {}
        Value::Bool(value) => into.push(hash(if *value { "true" } else { "false" })),
        Value::Number(value) => into.push(hash(&value.to_string())),
        Value::String(text) => match clawlock_policy::json::parse(text.as_bytes()) {
            // Arguments inside a text, as some models write them. Once: what is in there is a text for good.
            Ok(inner @ (Value::Object(_) | Value::Array(_))) if nested => {
                into.push(hash(text));
                collect(&inner, into, false);
            }
            _ => into.push(hash(text)),
        },
        Value::Array(items) => items.iter().for_each(|item| collect(item, into, nested)),
        Value::Object(members) => members.values().for_each(|member| collect(member, into, nested)),
    }
}

fn hash(text: &str) -> u64 {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn among(decided: &str, asked: &str) -> bool {
        Arguments::parse(decided).unwrap().are_among(&Arguments::parse(asked).unwrap())
    }

    #[test]
    fn the_spelling_does_not_matter() {
        assert!(among(r#"{"a":1,"b":"x"}"#, r#" { "b" : "\u0078", "a" : 1 }"#));
        assert_eq!(Arguments::parse(" "), Arguments::parse("{}"));
        assert!(among("{}", ""));
    }

    #[test]
    fn what_an_agent_tidies_up_is_the_same_call() {
        for (decided, asked) in [
            (r#"{"timeout":5}"#, r#"{"timeout":"5"}"#),
            (r#"{"path":"a","edits":[{"oldText":"x","newText":"y"}]}"#, r#"{"path":"a","oldText":"x","newText":"y"}"#),
            (
                r#"{"path":"a","edits":[{"oldText":"x","newText":"y"}]}"#,
                r#"{"path":"a","edits":"[{\"oldText\":\"x\",\"newText\":\"y\"}]"}"#,
            ),
            (r#"{"id":"web_fetch","url":"u"}"#, r#"{"args":{"id":"web_fetch","url":"u"}}"#),
            (r#"{"command":"ls"}"#, r#"{"command":"ls","yieldMs":null,"extra":"z"}"#),
        ] {
            assert!(among(decided, asked), "{decided} of {asked}");
        }
    }

    #[test]
    fn another_call_is_another_call() {
        for (decided, asked) in [
            (r#"{"command":"ls"}"#, r#"{"command":"rm -rf /"}"#),
            (r#"{"command":"ls","x":"rm"}"#, r#"{"command":"ls"}"#),
            ("{}", r#"{"command":"ls"}"#),
            (r#"{"command":"LS"}"#, r#"{"command":"ls"}"#),
        ] {
            assert!(!among(decided, asked), "{decided} of {asked}");
        }
        let many = |last: usize| {
            let items: Vec<usize> = (0..100).chain([last]).collect();
            serde_json::json!({ "items": items }).to_string()
        };
        assert!(among(&many(7), &many(7)));
        assert!(!among(&many(100), &many(101)));
    }

    #[test]
    fn what_has_two_readings_or_none_has_no_arguments() {
        for text in ["[]", "1", "{", r#"{"a":1,"a":2}"#, r#"{"a":"\ud800"}"#, &"[".repeat(1000)] {
            assert_eq!(Arguments::parse(text), None, "{text}");
        }
    }
}
