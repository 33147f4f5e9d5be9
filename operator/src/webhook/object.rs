//! From the JSON of an object to its type, strictly, with the place of the first mistake.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads an object. Unknown fields are mistakes: a restriction that was misspelt must not be dropped.
///
/// # Errors
/// Where the first mistake is, and what it is.
pub(super) fn parse<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner();
        if path == "." { reason.to_string() } else { format!("{path}: {reason}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawlock_crds::AgentPolicy;
    use serde_json::json;

    fn policy(rule: Value) -> Value {
        json!({
            "apiVersion": "clawlock.dev/v1alpha1", "kind": "AgentPolicy",
            "metadata": { "name": "a", "namespace": "acme", "managedFields": [{ "manager": "kubectl" }] },
            "spec": { "agentSelector": {}, "rules": [rule] },
        })
    }

    #[test]
    fn the_place_of_a_mistake_is_named() {
        let good = json!({ "name": "a", "match": { "tools": ["read"] }, "tier": "Auto" });
        parse::<AgentPolicy>(&policy(good.clone())).unwrap();
        let mut unknown = good.clone();
        unknown["timetable"] = json!({});
        let error = parse::<AgentPolicy>(&policy(unknown)).unwrap_err();
        assert!(error.starts_with("spec.rules[0]") && error.contains("timetable"), "{error}");
        let mut wrong = good;
        wrong["tier"] = json!("Allow");
        let error = parse::<AgentPolicy>(&policy(wrong)).unwrap_err();
        assert!(error.starts_with("spec.rules[0].tier: ") && error.contains("Allow"), "{error}");
    }
}
