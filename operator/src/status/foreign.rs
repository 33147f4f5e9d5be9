//! NetworkPolicies of others that widen what agents reach, or who reaches agents.
//!
//! NetworkPolicies only ever add, so one that selects an agent and has a rule opens something that the
//! tenant's do not. Admission keeps them out; this finds those that came past it. Where it is unclear
//! whether one selects an agent, it is taken to.

use std::collections::BTreeMap;

use clawlock_compile::objects::names::{ROLE_LABEL, Role};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

/// Whether a NetworkPolicy opens something for agents.
pub(crate) fn widens(policy: &NetworkPolicy) -> bool {
    let Some(spec) = &policy.spec else { return false };
    let selector = spec.pod_selector.clone().unwrap_or_default();
    if !may_select_agents(&selector) {
        return false;
    }
    // A rule without peers and ports opens everything; a type without a rule closes.
    let opens = |kind: &str, rules: bool| {
        let listed = spec.policy_types.as_ref().is_none_or(|types| types.iter().any(|one| one == kind));
        listed && rules
    };
    opens("Egress", spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()))
        || opens("Ingress", spec.ingress.as_ref().is_some_and(|rules| !rules.is_empty()))
}

/// Whether a selector could select a pod that carries the role of an agent, whatever else it carries.
fn may_select_agents(selector: &LabelSelector) -> bool {
    let agent = Role::Agent.as_str();
    let labels: BTreeMap<String, String> = selector.match_labels.clone().unwrap_or_default();
    if labels.get(ROLE_LABEL).is_some_and(|role| role != agent) {
        return false;
    }
    let expressions = selector.match_expressions.clone().unwrap_or_default();
    expressions.iter().filter(|expression| expression.key == ROLE_LABEL).all(|expression| {
        let listed = expression.values.as_ref().is_some_and(|values| values.iter().any(|value| value == agent));
        match expression.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "DoesNotExist" => false,
            _ => true,
        }
    })
}

/// Whether a policy of another API opens something: `ClusterNetworkPolicy`, `AdminNetworkPolicy` and its
/// baseline, and Cilium's. Whom it selects is written in many ways, so that only what it does is looked at.
pub(crate) fn may_widen(kind: &str, object: &Value) -> bool {
    let spec = &object["spec"];
    let specs = object["specs"].as_array().into_iter().flatten().chain(std::iter::once(spec));
    if kind.starts_with("Cilium") {
        return specs.into_iter().any(|spec| {
            ["egress", "ingress"].iter().any(|part| spec[part].as_array().is_some_and(|rules| !rules.is_empty()))
        });
    }
    ["egress", "ingress"].iter().any(|part| {
        let rules = spec[part].as_array().into_iter().flatten();
        rules.into_iter().any(|rule| matches!(rule["action"].as_str(), Some("Allow" | "Accept")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(spec: Value) -> NetworkPolicy {
        serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_opens_for_agents_widens() {
        for spec in [
            json!({"podSelector": {}, "egress": [{}], "policyTypes": ["Egress"]}),
            json!({"podSelector": {}, "ingress": [{}]}),
            json!({"podSelector": {"matchLabels": {"app": "x"}}, "egress": [{"to": []}], "policyTypes": ["Egress"]}),
            json!({"podSelector": {"matchLabels": {"clawlock.dev/role": "agent"}}, "egress": [{}]}),
            json!({"podSelector": {"matchExpressions": [{"key": "clawlock.dev/role", "operator": "Exists"}]},
                   "egress": [{}]}),
            json!({"podSelector": {"matchExpressions": [
                {"key": "clawlock.dev/role", "operator": "NotIn", "values": ["x"]}]}, "egress": [{}]}),
        ] {
            assert!(widens(&policy(spec.clone())), "{spec}");
        }
    }

    #[test]
    fn what_closes_or_selects_others_does_not() {
        for spec in [
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            json!({"podSelector": {}, "egress": [], "policyTypes": ["Egress"]}),
            json!({"podSelector": {}, "egress": [{}], "policyTypes": ["Ingress"]}),
            json!({"podSelector": {"matchLabels": {"clawlock.dev/role": "gateway"}}, "egress": [{}]}),
            json!({"podSelector": {"matchExpressions": [{"key": "clawlock.dev/role", "operator": "DoesNotExist"}]},
                   "egress": [{}]}),
            json!({"podSelector": {"matchExpressions": [
                {"key": "clawlock.dev/role", "operator": "In", "values": ["x"]}]}, "egress": [{}]}),
        ] {
            assert!(!widens(&policy(spec.clone())), "{spec}");
        }
    }

    #[test]
    fn policies_of_other_apis_widen_when_they_allow() {
        let allows = json!({"spec": {"egress": [{"action": "Allow"}]}});
        let accepts = json!({"spec": {"ingress": [{"action": "Accept"}]}});
        let denies = json!({"spec": {"egress": [{"action": "Deny"}, {"action": "Pass"}]}});
        assert!(may_widen("AdminNetworkPolicy", &allows) && may_widen("ClusterNetworkPolicy", &accepts));
        assert!(!may_widen("AdminNetworkPolicy", &denies));
        let cilium = json!({"specs": [{"egress": [{"toEntities": ["world"]}]}]});
        assert!(may_widen("CiliumNetworkPolicy", &cilium));
        assert!(!may_widen("CiliumNetworkPolicy", &json!({"spec": {"egressDeny": [{}]}})));
    }
}
