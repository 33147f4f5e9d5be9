//! Who may connect to whom.
//!
//! NetworkPolicies add up per pod, and one that selects a pod closes what none of them opens. So each of
//! these holds by itself: injected pods are closed by the policy that opens their one way out, exempted
//! ones by one of their own, also while a namespace's default deny still waits. None has an owner: garbage
//! collection would remove them before the pods.

use std::collections::BTreeSet;

use clawlock_crds::{
    AgentSelector, Exemption, Ingress, IngressPeer, IngressPort, IngressProtocol, Operator, Requirement,
};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{self, Role};
use super::{Release, metadata, pod_selector};
use crate::Tenant;

/// All policies of a tenant. `isolated`: the agents' namespaces where every pod is closed.
pub(super) fn build(tenant: &Tenant, release: &Release, isolated: &BTreeSet<String>) -> Vec<NetworkPolicy> {
    let mut policies = Vec::new();
    for namespace in tenant.namespaces() {
        if isolated.contains(namespace) {
            policies.push(default_deny(tenant, namespace));
        }
        policies.push(agents(tenant, namespace));
        policies.extend(tenant.settings().agents.exemptions.iter().map(|entry| exempt(tenant, namespace, entry)));
        policies.extend(tenant.settings().agents.ingress.iter().map(|entry| ingress(tenant, namespace, entry)));
    }
    policies.push(gateway(tenant, release));
    policies
}

fn policy(tenant: &Tenant, namespace: &str, name: &str, spec: NetworkPolicySpec) -> NetworkPolicy {
    NetworkPolicy { metadata: metadata(tenant, namespace, name), spec: Some(spec) }
}

/// Closed both ways but for what the rules say.
fn closed(pods: LabelSelector) -> NetworkPolicySpec {
    NetworkPolicySpec {
        pod_selector: Some(pods),
        policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        ..NetworkPolicySpec::default()
    }
}

fn default_deny(tenant: &Tenant, namespace: &str) -> NetworkPolicy {
    policy(tenant, namespace, names::DEFAULT_DENY, closed(LabelSelector::default()))
}

/// The one way out of an injected pod.
fn agents(tenant: &Tenant, namespace: &str) -> NetworkPolicy {
    let gateway = NetworkPolicyPeer {
        namespace_selector: Some(namespaces([tenant.platform_namespace()])),
        pod_selector: Some(pod_selector(tenant, Role::Gateway)),
        ip_block: None,
    };
    let spec = NetworkPolicySpec {
        egress: Some(vec![NetworkPolicyEgressRule {
            to: Some(vec![gateway]),
            ports: Some(vec![port("TCP", names::HOP_PORT)]),
        }]),
        ..closed(pod_selector(tenant, Role::Agent))
    };
    policy(tenant, namespace, names::AGENTS, spec)
}

fn exempt(tenant: &Tenant, namespace: &str, entry: &Exemption) -> NetworkPolicy {
    let Exemption { name, pod_selector } = entry;
    policy(tenant, namespace, &names::exempt(name), closed(selector(pod_selector)))
}

/// What `agents.ingress` opens: to agents, not to whatever else runs beside them.
fn ingress(tenant: &Tenant, namespace: &str, entry: &Ingress) -> NetworkPolicy {
    let Ingress { name, from, ports } = entry;
    let peers = from.iter().map(|IngressPeer { namespace_selector, pod_selector }| NetworkPolicyPeer {
        namespace_selector: namespace_selector.as_ref().map(selector),
        pod_selector: pod_selector.as_ref().map(selector),
        ip_block: None,
    });
    let ports = ports.iter().map(|IngressPort { port: number, protocol }| {
        let protocol = match protocol {
            None | Some(IngressProtocol::Tcp) => "TCP",
            Some(IngressProtocol::Udp) => "UDP",
        };
        port(protocol, number.get())
    });
    let spec = NetworkPolicySpec {
        pod_selector: Some(pod_selector(tenant, Role::Agent)),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(vec![NetworkPolicyIngressRule { from: Some(peers.collect()), ports: Some(ports.collect()) }]),
        egress: None,
    };
    policy(tenant, namespace, &names::ingress(name), spec)
}

/// The gateway: its own agents come in, and it reaches everything, since it checks addresses itself. The
/// egress is written out so that a default deny of the platform namespace does not close it.
fn gateway(tenant: &Tenant, release: &Release) -> NetworkPolicy {
    let mut agents = namespaces(tenant.namespaces());
    // Both sides must agree: the TenantGateway lists the namespace, and the namespace has the label.
    agents.match_labels = Some([(names::TENANT_LABEL.to_owned(), tenant.name().to_owned())].into());
    let agents = NetworkPolicyPeer {
        namespace_selector: Some(agents),
        pod_selector: Some(pod_selector(tenant, Role::Agent)),
        ip_block: None,
    };
    let mut ingress =
        vec![NetworkPolicyIngressRule { from: Some(vec![agents]), ports: Some(vec![port("TCP", names::HOP_PORT)]) }];
    if !release.monitoring.is_empty() {
        let monitoring = LabelSelector { match_labels: Some(release.monitoring.clone()), match_expressions: None };
        ingress.push(NetworkPolicyIngressRule {
            from: Some(vec![NetworkPolicyPeer {
                namespace_selector: Some(monitoring),
                pod_selector: None,
                ip_block: None,
            }]),
            ports: Some(vec![port("TCP", names::GATEWAY_ADMIN_PORT)]),
        });
    }
    let spec = NetworkPolicySpec {
        ingress: Some(ingress),
        egress: Some(vec![NetworkPolicyEgressRule::default()]),
        ..closed(pod_selector(tenant, Role::Gateway))
    };
    policy(tenant, tenant.platform_namespace(), names::GATEWAY, spec)
}

fn port(protocol: &str, number: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(i32::from(number))),
        end_port: None,
    }
}

/// Namespaces by their names.
fn namespaces<'a>(names: impl IntoIterator<Item = &'a str>) -> LabelSelector {
    LabelSelector {
        match_labels: None,
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: names::NAMESPACE_NAME_LABEL.to_owned(),
            operator: "In".to_owned(),
            values: Some(names.into_iter().map(str::to_owned).collect()),
        }]),
    }
}

/// A selector of the API as Kubernetes has it.
fn selector(selector: &AgentSelector) -> LabelSelector {
    let AgentSelector { match_labels, match_expressions } = selector;
    let expressions = match_expressions.iter().map(|Requirement { key, operator, values }| LabelSelectorRequirement {
        key: key.clone(),
        operator: match operator {
            Operator::In => "In",
            Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
        }
        .to_owned(),
        values: Some(values.clone()).filter(|values| !values.is_empty()),
    });
    LabelSelector {
        match_labels: Some(match_labels.clone()).filter(|labels| !labels.is_empty()),
        match_expressions: Some(expressions.collect()).filter(|list: &Vec<_>| !list.is_empty()),
    }
}
