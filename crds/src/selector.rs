//! Which agents an object is about, in the form of Kubernetes' `LabelSelector`.
//!
//! A type of its own, because the client library's ignores unknown fields, and a selector whose
//! misspelt half is ignored selects more agents than it says.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{MAX_LABEL_KEY, MAX_LABEL_VALUE, MAX_SELECTOR_TERMS, MAX_SELECTOR_VALUES};
use crate::schema::{LABEL_KEY, LABEL_VALUE, match_labels, open_object};
use crate::strict;

/// Selects pods by their labels. All terms must hold; `{}` selects every agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct AgentSelector {
    /// Labels that the pod must have with exactly these values. At most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "strict::object")]
    #[schemars(schema_with = "match_labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements on labels. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(length(max = MAX_SELECTOR_TERMS), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [{
        "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
        "message": "In and NotIn need values; Exists and DoesNotExist take none",
    }])
)]
pub struct Requirement {
    /// The label's key: an optional DNS prefix of at most 253 characters, '/', a name of at most 63.
    #[schemars(length(min = 1, max = MAX_LABEL_KEY), regex(pattern = LABEL_KEY))]
    pub key: String,
    /// How the label's value relates to `values`: In, NotIn, Exists or DoesNotExist. A pod without the
    /// label satisfies NotIn and DoesNotExist.
    pub operator: Operator,
    /// Values for In and NotIn, at most 64; absent for Exists and DoesNotExist.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::list")]
    #[schemars(
        length(max = MAX_SELECTOR_VALUES),
        inner(length(max = MAX_LABEL_VALUE), regex(pattern = LABEL_VALUE)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub values: Vec<String>,
}

/// How a label's value relates to a list of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The label is there and its value is one of the list.
    In,
    /// The label is absent, or its value is none of the list.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl AgentSelector {
    /// Whether a pod with these labels is selected, by the rules of Kubernetes.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let Self { match_labels, match_expressions } = self;
        match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && match_expressions.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let Self { key, operator, values } = self;
        let value = labels.get(key);
        match operator {
            Operator::In => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(',').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap()).map(|(key, value)| (key.into(), value.into())).collect()
    }

    fn requires(operator: Operator, values: &[&str]) -> AgentSelector {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        let match_expressions = vec![Requirement { key: "app".to_owned(), operator, values }];
        AgentSelector { match_labels: BTreeMap::new(), match_expressions }
    }

    #[test]
    fn the_empty_selector_selects_everything() {
        assert!(AgentSelector::default().matches(&labels("")));
        assert!(AgentSelector::default().matches(&labels("app=a")));
    }

    #[test]
    fn all_labels_must_match() {
        let selector = AgentSelector { match_labels: labels("app=a,tier=b"), match_expressions: Vec::new() };
        assert!(selector.matches(&labels("app=a,tier=b,more=c")));
        assert!(!selector.matches(&labels("app=a")));
        assert!(!selector.matches(&labels("app=a,tier=c")));
    }

    #[test]
    fn expressions_follow_kubernetes() {
        for (selector, present, other, absent) in [
            (requires(Operator::In, &["a", "b"]), true, false, false),
            (requires(Operator::NotIn, &["a", "b"]), false, true, true),
            (requires(Operator::Exists, &[]), true, true, false),
            (requires(Operator::DoesNotExist, &[]), false, false, true),
        ] {
            assert_eq!(selector.matches(&labels("app=a")), present, "{selector:?}");
            assert_eq!(selector.matches(&labels("app=z")), other, "{selector:?}");
            assert_eq!(selector.matches(&labels("x=a")), absent, "{selector:?}");
        }
    }

    #[test]
    fn labels_and_expressions_are_anded() {
        let mut selector = requires(Operator::Exists, &[]);
        selector.match_labels = labels("tier=b");
        assert!(selector.matches(&labels("app=a,tier=b")));
        assert!(!selector.matches(&labels("tier=b")));
        assert!(!selector.matches(&labels("app=a")));
    }
}
