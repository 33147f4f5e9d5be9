//! Documents by whom they select. A thousand policies and a thousand pods are a million questions unless those that can
//! only be about other pods are passed over.

use std::collections::{BTreeMap, HashMap};

use crate::assign::Stored;
use crate::problem::ObjectRef;
use crate::selector::Scope;

/// A document of the pods that a selector selects.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Selected {
    pub(crate) scope: Scope,
    pub(crate) stored: Stored,
    /// The object that it comes from.
    pub(crate) origin: ObjectRef,
}

impl Selected {
    /// What they are sorted by, so that their order does not depend on that of the objects.
    fn key(&self) -> (&str, &Scope, &ObjectRef) {
        (self.stored.digest(), &self.scope, &self.origin)
    }
}

/// Documents of one namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selection {
    all: Vec<Selected>,
    /// Those that need a label, by its key and value: the first of `matchLabels`.
    labelled: HashMap<String, HashMap<String, Vec<usize>>>,
    /// Those that are about one pod, by its UID.
    pods: HashMap<String, Vec<usize>>,
    /// Those that may be about any pod.
    others: Vec<usize>,
}

impl Selection {
    /// Those of a namespace, in any order.
    pub(crate) fn new(mut all: Vec<Selected>) -> Self {
        all.sort_by(|one, two| one.key().cmp(&two.key()));
        let mut labelled: HashMap<String, HashMap<String, Vec<usize>>> = HashMap::new();
        let mut pods: HashMap<String, Vec<usize>> = HashMap::new();
        let mut others = Vec::new();
        for (index, Selected { scope, .. }) in all.iter().enumerate() {
            match (scope, scope.needed_label()) {
                (Scope::Pod(uid), _) => pods.entry(uid.clone()).or_default().push(index),
                (_, Some((key, value))) => {
                    labelled.entry(key.to_owned()).or_default().entry(value.to_owned()).or_default().push(index);
                }
                (_, None) => others.push(index),
            }
        }
        Self { all, labelled, pods, others }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Selected> {
        self.all.iter()
    }

    /// Those that select the pod with this UID and these labels, in their order.
    pub(crate) fn of(&self, uid: &str, labels: &BTreeMap<String, String>) -> impl Iterator<Item = &Selected> {
        let labelled = labels.iter().filter_map(|(key, value)| self.labelled.get(key)?.get(value));
        let named = self.pods.get(uid).into_iter();
        let mut found: Vec<usize> = labelled.chain(named).flatten().chain(&self.others).copied().collect();
        found.sort_unstable();
        found.into_iter().filter_map(|index| self.all.get(index)).filter(|selected| selected.scope.has(uid, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Kind;
    use clawlock_crds::{AgentSelector, Operator, Requirement};
    use clawlock_policy::document::{Document, HaltDoc};
    use proptest::prelude::*;

    fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[ab]", "[xy]", 0..3)
    }

    fn scope() -> impl Strategy<Value = Scope> {
        let operator = prop_oneof![Just(Operator::In), Just(Operator::NotIn), Just(Operator::Exists)];
        let requirement = ("[ab]", operator).prop_map(|(key, operator)| {
            let values = if operator == Operator::Exists { Vec::new() } else { vec!["x".to_owned()] };
            Requirement { key, operator, values }
        });
        let selector = (labels(), proptest::collection::vec(requirement, 0..2));
        let selector =
            selector.prop_map(|(match_labels, match_expressions)| AgentSelector { match_labels, match_expressions });
        let pod = "[uv]".prop_map(Scope::Pod);
        prop_oneof![Just(Scope::All), selector.prop_map(Scope::Selected), pod]
    }

    proptest! {
        #[test]
        fn exactly_those_that_select_a_pod_are_found(
            scopes in proptest::collection::vec(scope(), 0..12), labels in labels()
        ) {
            let all = scopes.into_iter().enumerate().map(|(number, scope)| Selected {
                scope,
                stored: Stored::new(Document::Halt(HaltDoc { name: number.to_string(), reason: String::new(), cause: None })),
                origin: ObjectRef { kind: Kind::AgentHalt, namespace: "acme".to_owned(), name: number.to_string() },
            });
            let selection = Selection::new(all.collect());
            let found: Vec<&Selected> = selection.of("u", &labels).collect();
            let wanted = selection.iter().filter(|selected| selected.scope.has("u", &labels));
            let wanted: Vec<&Selected> = wanted.collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
