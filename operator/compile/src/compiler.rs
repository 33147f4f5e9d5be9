//! Compiling again and again. A tenant can have a thousand policies, and an edit changes one: the others need not be
//! judged anew, since what comes of a policy is a function of its spec, its name and the upstreams of its tenant.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use clawlock_crds::AgentPolicy;
use clawlock_policy::document::{Document, Mode};

use crate::assign::{Compilation, Stored};
use crate::policy::{self, Checked};
use crate::problem::{Kind, ObjectRef, Report};
use crate::selector::Scope;
use crate::state::size;
use crate::tenants::Upstreams;
use crate::{Resources, compile};

/// Compiles, and remembers what it judged. What comes of it is always that of [`compile`](crate::compile()).
#[derive(Debug, Default)]
pub struct Compiler {
    /// What is known beside the policies of a namespace.
    beside: BTreeMap<String, Arc<Beside>>,
    policies: HashMap<ObjectRef, Remembered>,
    /// Those of the time before.
    before: HashMap<ObjectRef, Remembered>,
}

/// What a policy is judged beside.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Beside {
    /// The tenant of its namespace.
    pub(crate) tenant: Option<String>,
    /// The upstreams of that tenant.
    pub(crate) upstreams: Upstreams,
}

/// What came of a policy by itself.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) report: Report,
    pub(crate) scope: Scope,
    pub(crate) mode: Mode,
    /// Holds only if the report has no error.
    pub(crate) stored: Stored,
    /// Bytes of the spec as it is stored.
    pub(crate) size: usize,
}

#[derive(Debug)]
struct Remembered {
    policy: Arc<AgentPolicy>,
    beside: Arc<Beside>,
    judgement: Arc<Judgement>,
}

impl Compiler {
    /// Compiles resources, like [`compile`](crate::compile()).
    #[must_use]
    pub fn compile(&mut self, resources: &Resources) -> Compilation {
        self.before = std::mem::take(&mut self.policies);
        let compilation = compile::compile_with(self, resources);
        self.before.clear();
        compilation
    }

    /// Bytes of the spec of a policy that was judged this time.
    pub(crate) fn size(&self, policy: &ObjectRef) -> Option<usize> {
        self.policies.get(policy).map(|known| known.judgement.size)
    }

    /// What is known beside the policies of a namespace; the same as the time before if it equals that.
    pub(crate) fn beside(&mut self, namespace: &str, beside: Beside) -> Arc<Beside> {
        if let Some(known) = self.beside.get(namespace).filter(|known| ***known == beside) {
            return known.clone();
        }
        let beside = Arc::new(beside);
        self.beside.insert(namespace.to_owned(), beside.clone());
        beside
    }

    /// Forgets the namespaces that have no policy any more.
    pub(crate) fn retain(&mut self, mut stays: impl FnMut(&str) -> bool) {
        self.beside.retain(|namespace, _| stays(namespace));
    }

    /// Judges a policy, or remembers what came of it.
    pub(crate) fn judge(&mut self, policy: &Arc<AgentPolicy>, beside: &Arc<Beside>) -> Arc<Judgement> {
        let object = ObjectRef::new(Kind::AgentPolicy, &policy.metadata);
        let known = self.before.remove(&object);
        let known = known.filter(|known| {
            let same = Arc::ptr_eq(&known.policy, policy) || known.policy.spec == policy.spec;
            same && Arc::ptr_eq(&known.beside, beside)
        });
        let known = known.unwrap_or_else(|| Remembered {
            policy: policy.clone(),
            beside: beside.clone(),
            judgement: Arc::new(judge(policy, beside)),
        });
        let judgement = known.judgement.clone();
        self.policies.insert(object, known);
        judgement
    }
}

fn judge(policy: &AgentPolicy, beside: &Beside) -> Judgement {
    let known = beside.upstreams.known(beside.tenant.as_deref());
    let Checked { report, document, scope } = policy::check(policy, &known);
    Judgement {
        report,
        scope,
        mode: document.mode,
        size: size(&policy.spec),
        stored: Stored::new(Document::Policy(document)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn resources(policies: &[Value], operations: &[&str]) -> Resources {
        let operations: Vec<Value> = operations
            .iter()
            .map(|name| json!({ "name": name, "method": "GET", "path": format!("/v1/{name}") }))
            .collect();
        let mut resources = Resources::default();
        resources.add(
            Kind::TenantGateway,
            &json!({
                "apiVersion": "clawlock.dev/v1alpha1", "kind": "TenantGateway",
                "metadata": { "name": "acme", "namespace": "acme-gateway" },
                "spec": { "namespaces": ["acme"], "trustDomain": "acme.test" },
            }),
        );
        resources.add(
            Kind::Upstream,
            &json!({
                "apiVersion": "clawlock.dev/v1alpha1", "kind": "Upstream",
                "metadata": { "name": "stripe", "namespace": "acme-gateway" },
                "spec": {
                    "protocol": "HTTP", "scheme": "https", "hosts": ["stripe.test"], "port": 443,
                    "operations": operations,
                },
            }),
        );
        for policy in policies {
            resources.add(Kind::AgentPolicy, policy);
        }
        resources
    }

    fn policy(name: &str, operation: &str, when: &str) -> Value {
        json!({
            "apiVersion": "clawlock.dev/v1alpha1", "kind": "AgentPolicy",
            "metadata": { "name": name, "namespace": "acme" },
            "spec": {
                "agentSelector": { "matchLabels": { "app": name } },
                "rules": [{
                    "name": "a", "match": { "operations": [format!("stripe.{operation}")] }, "when": when,
                    "tier": "Auto",
                }],
            },
        })
    }

    #[test]
    fn what_is_remembered_changes_nothing() {
        let (good, other) = (policy("one", "charges", "true"), policy("two", "charges", "true"));
        let wrong = policy("two", "charges", "1 +");
        let all = ["charges"];
        let steps = [
            resources(&[good.clone(), other.clone()], &all),
            resources(&[good.clone(), other.clone()], &all),
            // Edited, and edited back.
            resources(&[good.clone(), policy("two", "charges", "false")], &all),
            resources(&[good.clone(), wrong.clone()], &all),
            resources(&[good.clone(), other.clone()], &all),
            // Of one name.
            resources(&[good.clone(), other.clone(), wrong.clone()], &all),
            resources(&[good.clone(), wrong, other.clone()], &all),
            // Upstreams decide about references.
            resources(&[good.clone(), other.clone()], &[]),
            resources(&[good.clone(), other.clone()], &["refunds"]),
            resources(&[other], &all),
            Resources { gateways: Vec::new(), ..resources(std::slice::from_ref(&good), &all) },
            resources(&[good], &all),
        ];
        let mut compiler = Compiler::default();
        for (number, resources) in steps.iter().enumerate() {
            assert_eq!(compiler.compile(resources), compile(resources), "step {number}");
        }
    }

    #[test]
    fn what_did_not_change_is_not_judged_again_and_what_is_gone_is_forgotten() {
        let one = policy("one", "charges", "true");
        let object = ObjectRef { kind: Kind::AgentPolicy, namespace: "acme".to_owned(), name: "one".to_owned() };
        let mut compiler = Compiler::default();
        let _ = compiler.compile(&resources(std::slice::from_ref(&one), &["charges"]));
        let first = compiler.policies[&object].judgement.clone();
        let _ = compiler.compile(&resources(&[one.clone(), policy("two", "charges", "true")], &["charges"]));
        assert!(Arc::ptr_eq(&first, &compiler.policies[&object].judgement));
        let _ = compiler.compile(&resources(&[one], &["refunds"]));
        assert!(!Arc::ptr_eq(&first, &compiler.policies[&object].judgement));
        let _ = compiler.compile(&Resources::default());
        assert!(compiler.policies.is_empty() && compiler.before.is_empty() && compiler.beside.is_empty());
    }
}
