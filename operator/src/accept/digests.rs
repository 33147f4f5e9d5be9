//! Digests of policies that did not change. A tenant can have a thousand of them, an edit changes one, and to write and
//! hash all of them takes longer than everything else that an edit needs.

use std::collections::HashMap;
use std::sync::Arc;

use clawlock_compile::state::Accepted;
use clawlock_crds::AgentPolicy;

/// What is remembered from one turn to the next: by where a policy is, which nobody else can be while it is held.
#[derive(Default)]
pub(super) struct Digests {
    now: HashMap<usize, Known>,
    before: HashMap<usize, Known>,
}

struct Known {
    digest: String,
    _held: Arc<AgentPolicy>,
}

impl Digests {
    /// A turn begins: what it does not ask for is forgotten with the next one.
    pub(super) fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// The digest of an object.
    pub(super) fn of(&mut self, object: &Accepted) -> String {
        let Accepted::AgentPolicy(policy) = object else { return object.digest() };
        let place = Arc::as_ptr(policy).addr();
        let before = &mut self.before;
        let known = self.now.entry(place).or_insert_with(|| {
            before.remove(&place).unwrap_or_else(|| Known { digest: object.digest(), _held: policy.clone() })
        });
        known.digest.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str) -> Accepted {
        let policy = serde_json::json!({
            "apiVersion": "clawlock.dev/v1alpha1", "kind": "AgentPolicy",
            "metadata": {"name": name, "namespace": "acme"}, "spec": {"agentSelector": {}, "rules": []},
        });
        Accepted::AgentPolicy(Arc::new(serde_json::from_value(policy).unwrap()))
    }

    #[test]
    fn what_is_remembered_is_the_digest_and_what_is_gone_is_forgotten() {
        let (one, two) = (policy("one"), policy("two"));
        let mut digests = Digests::default();
        for _ in 0..3 {
            digests.turn();
            assert_eq!((digests.of(&one), digests.of(&two)), (one.digest(), two.digest()));
            assert_eq!(digests.of(&one), one.digest(), "twice in a turn");
        }
        digests.turn();
        assert_eq!(digests.of(&two), two.digest());
        digests.turn();
        assert_eq!((digests.now.len(), digests.before.len()), (0, 1));
    }
}
