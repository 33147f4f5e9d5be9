//! The validating webhooks: what people write, checked with the code of the controllers.
//!
//! The object alone decides. What other objects have to do with it (an Upstream that is not there yet, a host that
//! another one claims) warns and never refuses, so that the order in which objects are applied does not matter;
//! the controllers judge all of them together and say so in status.

use std::collections::BTreeSet;
use std::sync::Arc;

use clawlock_compile::{
    ConfigMaps, Problem, Resources, Severity, Topic, check_gateway, check_halt, check_policy, check_upstream, compile,
};
use clawlock_crds::{AgentHalt, AgentPolicy, GROUP, TenantGateway, Upstream};
use serde_json::Value;

use super::object;
use super::review::{Answer, Operation, Request, Sort};
use super::tenants::Tenants;

/// The version of the API.
const VERSION: &str = "v1alpha1";

/// A kind that people write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// `AgentPolicy`
    AgentPolicy,
    /// `TenantGateway`
    TenantGateway,
    /// `Upstream`
    Upstream,
    /// `AgentHalt`
    AgentHalt,
}

impl Written {
    const fn plural(self) -> &'static str {
        match self {
            Self::AgentPolicy => "agentpolicies",
            Self::TenantGateway => "tenantgateways",
            Self::Upstream => "upstreams",
            Self::AgentHalt => "agenthalts",
        }
    }
}

/// Judges a request. `None`: it is not about this kind.
pub(super) fn validate(written: Written, request: &Request, tenants: &Tenants) -> Option<Answer> {
    if !request.is_about(GROUP, VERSION, written.plural()) || !request.part().is_empty() {
        return None;
    }
    match request.operation {
        Operation::Create | Operation::Update => {}
        Operation::Delete => return Some(Answer::allowed()),
        Operation::Connect => return None,
    }
    // Finalizers must come off an object that was forced past admission.
    let spec = |object: &Value| object.get("spec").cloned();
    if request.operation == Operation::Update && spec(&request.object) == spec(&request.old_object) {
        return Some(Answer::allowed());
    }
    Some(match written {
        Written::AgentPolicy => judge(&request.object, check_policy, |policy| beside_policy(policy, tenants)),
        Written::AgentHalt => judge(&request.object, check_halt, |halt| beside_halt(halt, tenants)),
        Written::TenantGateway => judge(&request.object, check_gateway, |gateway| beside_gateway(gateway, tenants)),
        Written::Upstream => {
            let none = ConfigMaps::default();
            judge(
                &request.object,
                |upstream| check_upstream(upstream, &none),
                |upstream| beside_upstream(upstream, tenants),
            )
        }
    })
}

/// Judges one object: alone, and if that allows it, beside the others.
fn judge<T: serde::de::DeserializeOwned, D>(
    value: &Value,
    alone: impl FnOnce(&T) -> Result<D, Vec<Problem>>,
    beside: impl FnOnce(T) -> Vec<Problem>,
) -> Answer {
    let object: T = match object::parse(value) {
        Ok(object) => object,
        Err(problem) => return Answer::denied(Sort::Invalid, format!("clawlock: {problem}")),
    };
    let errors: Vec<Problem> = alone(&object)
        .err()
        .into_iter()
        .flatten()
        .filter(|problem| problem.severity == Severity::Error && problem.topic == Topic::Content)
        .collect();
    if !errors.is_empty() {
        let lines: Vec<String> =
            errors.iter().map(|Problem { path, message, .. }| format!("{path}: {message}")).collect();
        return Answer::denied(Sort::Invalid, format!("clawlock: {}", lines.join("\n")));
    }
    // The certificates of Upstreams are not read here, so that nothing can be said of them.
    let told = beside(object).into_iter().filter(|problem| !problem.path.starts_with("spec.tls"));
    let mut seen = BTreeSet::new();
    let warnings = told.map(|Problem { path, message, .. }| format!("{path}: {message}"));
    let warnings = warnings.filter(|warning| seen.insert(warning.clone())).collect();
    Answer { warnings, ..Answer::allowed() }
}

/// The problems of one object among those of many.
fn problems_of(resources: &Resources, metadata: &kube::core::ObjectMeta) -> Vec<Problem> {
    let is_its = |problem: &Problem| {
        Some(problem.object.namespace.as_str()) == metadata.namespace.as_deref()
            && Some(problem.object.name.as_str()) == metadata.name.as_deref()
    };
    compile(resources).problems.into_iter().filter(is_its).collect()
}

/// The tenants that list a namespace, without what has nothing to do with references to them.
fn owners(namespace: Option<&str>, tenants: &Tenants) -> Resources {
    let lists = |gateway: &&TenantGateway| {
        gateway.metadata.namespace.as_deref() == namespace
            || gateway.spec.namespaces.iter().any(|listed| Some(listed.as_str()) == namespace)
    };
    let gateways: Vec<TenantGateway> = tenants.gateways.iter().filter(lists).map(without_guardrails).collect();
    let upstreams = gateways.iter().filter_map(|gateway| tenants.upstreams.get(gateway.metadata.namespace.as_deref()?));
    let upstreams = upstreams.flatten().cloned().collect();
    Resources { gateways, upstreams, ..Resources::default() }
}

fn without_guardrails(gateway: &TenantGateway) -> TenantGateway {
    let mut gateway = gateway.clone();
    gateway.spec.guardrails.clear();
    gateway
}

fn beside_policy(policy: AgentPolicy, tenants: &Tenants) -> Vec<Problem> {
    let metadata = policy.metadata.clone();
    let resources = Resources { policies: vec![Arc::new(policy)], ..owners(metadata.namespace.as_deref(), tenants) };
    problems_of(&resources, &metadata)
}

fn beside_halt(halt: AgentHalt, tenants: &Tenants) -> Vec<Problem> {
    let metadata = halt.metadata.clone();
    let resources = Resources { halts: vec![halt], ..owners(metadata.namespace.as_deref(), tenants) };
    problems_of(&resources, &metadata)
}

fn beside_gateway(gateway: TenantGateway, tenants: &Tenants) -> Vec<Problem> {
    let metadata = gateway.metadata.clone();
    let is_same =
        |other: &&TenantGateway| other.metadata.namespace != metadata.namespace || other.metadata.name != metadata.name;
    let mut gateways: Vec<TenantGateway> = tenants.gateways.iter().filter(is_same).map(without_guardrails).collect();
    gateways.push(gateway);
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let upstreams = tenants.upstreams.get(namespace).cloned().unwrap_or_default();
    problems_of(&Resources { gateways, upstreams, ..Resources::default() }, &metadata)
}

fn beside_upstream(upstream: Upstream, tenants: &Tenants) -> Vec<Problem> {
    let metadata = upstream.metadata.clone();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let others = tenants.upstreams.get(namespace).into_iter().flatten();
    let mut upstreams: Vec<Upstream> = others.filter(|other| other.metadata.name != metadata.name).cloned().collect();
    upstreams.push(upstream);
    let its = |gateway: &&TenantGateway| gateway.metadata.namespace.as_deref() == Some(namespace);
    let gateways = tenants.gateways.iter().filter(its).map(without_guardrails).collect();
    problems_of(&Resources { gateways, upstreams, ..Resources::default() }, &metadata)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::fixtures::{gateway, policy, request, tenants, upstream};
    use crate::webhook::review::Verdict;
    use serde_json::json;

    fn ask(written: Written, operation: &str, old: &Value, new: &Value) -> Answer {
        let resource = [GROUP, VERSION, written.plural()];
        validate(written, &request(operation, resource, "", old, new), &tenants()).unwrap()
    }

    fn refusal(answer: Answer) -> String {
        match answer.verdict {
            Verdict::Denied(denial) => {
                assert_eq!(denial.sort, Sort::Invalid);
                denial.message
            }
            other => panic!("{other:?}"),
        }
    }

    fn halt() -> Value {
        json!({
            "apiVersion": "clawlock.dev/v1alpha1", "kind": "AgentHalt",
            "metadata": { "name": "inc-1", "namespace": "acme" },
            "spec": { "agentSelector": {}, "reason": "INC-1" },
        })
    }

    #[test]
    fn what_is_valid_is_accepted_without_a_word() {
        let mut other = upstream("github");
        other["spec"]["hosts"] = json!(["api.github.test"]);
        for (written, object) in [
            (Written::AgentPolicy, policy("stripe")),
            (Written::TenantGateway, gateway()),
            (Written::Upstream, other),
            (Written::AgentHalt, halt()),
        ] {
            let answer = ask(written, "CREATE", &Value::Null, &object);
            assert!(matches!(answer.verdict, Verdict::Allowed), "{answer:?}");
            assert!(answer.warnings.is_empty(), "{answer:?}");
        }
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        let mut condition = policy("stripe");
        condition["spec"]["rules"][0]["when"] = json!("args.amount >");
        let mut unknown = policy("stripe");
        unknown["spec"]["rules"][0]["timetable"] = json!({});
        let mut trust = gateway();
        trust["spec"]["trustDomain"] = json!("A B");
        let mut port = upstream("stripe");
        port["spec"]["port"] = json!(70000);
        let mut reason = halt();
        reason["spec"]["reason"] = json!(" ");
        for (written, object, place) in [
            (Written::AgentPolicy, condition, "spec.rules[0].when: "),
            (Written::AgentPolicy, unknown, "spec.rules[0]"),
            (Written::TenantGateway, trust, "spec.trustDomain: "),
            (Written::Upstream, port, "spec.port: "),
            (Written::AgentHalt, reason, "spec.reason: "),
            (Written::AgentHalt, Value::Null, ""),
        ] {
            let text = refusal(ask(written, "CREATE", &Value::Null, &object));
            assert!(text.starts_with(&format!("clawlock: {place}")), "{text}");
        }
    }

    #[test]
    fn references_warn_and_never_refuse() {
        let answer = ask(Written::AgentPolicy, "CREATE", &Value::Null, &policy("nowhere"));
        assert!(matches!(answer.verdict, Verdict::Allowed), "{answer:?}");
        assert!(
            answer.warnings.iter().any(|w| w.contains("nowhere") && w.contains("ask the platform team")),
            "{answer:?}"
        );

        let mut elsewhere = policy("stripe");
        elsewhere["metadata"]["namespace"] = json!("nobodys");
        let answer = ask(Written::AgentPolicy, "CREATE", &Value::Null, &elsewhere);
        assert!(matches!(answer.verdict, Verdict::Allowed), "{answer:?}");
        assert!(answer.warnings.iter().any(|w| w.contains("no TenantGateway lists this namespace")), "{answer:?}");

        let mut twice = upstream("other");
        twice["spec"]["hosts"] = json!(["stripe.test"]);
        let answer = ask(Written::Upstream, "CREATE", &Value::Null, &twice);
        assert!(matches!(answer.verdict, Verdict::Allowed), "{answer:?}");
        assert!(answer.warnings.iter().any(|w| w.contains("stripe.test")), "{answer:?}");

        let mut thief = gateway();
        thief["metadata"] = json!({ "name": "thief", "namespace": "thief-gateway" });
        let answer = ask(Written::TenantGateway, "CREATE", &Value::Null, &thief);
        assert!(matches!(answer.verdict, Verdict::Allowed), "{answer:?}");
        assert!(answer.warnings.iter().any(|w| w.contains("listed by two TenantGateways")), "{answer:?}");
    }

    #[test]
    fn what_was_forced_past_admission_can_lose_its_finalizer() {
        let mut broken = policy("stripe");
        broken["spec"]["rules"][0]["when"] = json!("(");
        let mut freed = broken.clone();
        freed["metadata"]["finalizers"] = json!([]);
        let answer = ask(Written::AgentPolicy, "UPDATE", &broken, &freed);
        assert!(matches!(answer.verdict, Verdict::Allowed), "{answer:?}");
        let answer = ask(Written::AgentPolicy, "DELETE", &broken, &Value::Null);
        assert!(matches!(answer.verdict, Verdict::Allowed), "{answer:?}");
        freed["spec"]["mode"] = json!("Enforce");
        assert!(matches!(ask(Written::AgentPolicy, "UPDATE", &broken, &freed).verdict, Verdict::Denied(_)));
    }

    #[test]
    fn an_upstream_whose_certificates_come_later_is_accepted() {
        let answer = ask(Written::Upstream, "CREATE", &Value::Null, &upstream("new"));
        assert!(matches!(answer.verdict, Verdict::Allowed), "{answer:?}");
        let mut wrong = upstream("new");
        wrong["spec"]["tls"]["caRef"]["key"] = json!("a/b");
        assert!(refusal(ask(Written::Upstream, "CREATE", &Value::Null, &wrong)).contains("spec.tls.caRef.key"));
    }

    #[test]
    fn what_is_another_kind_is_not_answered() {
        let tenants = tenants();
        for (resource, part, operation) in [
            ([GROUP, VERSION, "upstreams"], "", "CREATE"),
            ([GROUP, "v1", "agentpolicies"], "", "CREATE"),
            (["", VERSION, "agentpolicies"], "", "CREATE"),
            ([GROUP, VERSION, "agentpolicies"], "status", "UPDATE"),
            ([GROUP, VERSION, "agentpolicies"], "", "CONNECT"),
        ] {
            let request = request(operation, resource, part, &Value::Null, &policy("stripe"));
            assert!(validate(Written::AgentPolicy, &request, &tenants).is_none());
        }
    }
}
