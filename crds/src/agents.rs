//! `spec.agents` of a `TenantGateway`: what holds for the pods in the agents' namespaces.
//!
//! Written by the platform team: each entry lets something through that is closed otherwise (a pod
//! without a sidecar, a connection to an agent, an API token), or closes more (ServiceAccounts bound to
//! images). Injection and the NetworkPolicies of the tenant are made of it.

use std::num::NonZeroU16;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AgentSelector;
use crate::bounds::{
    MAX_EXEMPTIONS, MAX_IMAGE, MAX_IMAGES, MAX_INGRESS, MAX_NAME, MAX_OBJECT_NAME, MAX_PEERS, MAX_PLUGIN_OPTIONAL,
    MAX_PORTS, MAX_SERVICE_ACCOUNTS,
};
use crate::schema::{DNS_LABEL, DNS_SUBDOMAIN, IMAGE, open_object};
use crate::strict;

/// What holds for the pods in the agents' namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct Agents {
    /// Pods that get no sidecar, and no network either, at most 32. Every other pod is an agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(
        length(max = MAX_EXEMPTIONS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub exemptions: Vec<Exemption>,
    /// Agents that reach language models (Upstreams of protocol LLM) although no guard plugin reports itself, at most
    /// 32: those that are no OpenClaw. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(
        length(max = MAX_PLUGIN_OPTIONAL),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub plugin_optional: Vec<PluginOptional>,
    /// Who may connect to agents, and where, at most 32. Default: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(
        length(max = MAX_INGRESS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub ingress: Vec<Ingress>,
    /// ServiceAccounts that run certain images only, at most 64. One that is not listed runs any image.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(
        length(max = MAX_SERVICE_ACCOUNTS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub service_accounts: Vec<ServiceAccountImages>,
    /// ServiceAccounts whose pods keep the volume with their API token, at most 64. It opens no way to the
    /// API server: that needs an Upstream. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(
        length(max = MAX_SERVICE_ACCOUNTS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["serviceAccount"])
    )]
    pub api_access: Vec<ApiAccess>,
}

/// Pods that are no agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [{
        "rule": "(has(self.podSelector.matchLabels) && self.podSelector.matchLabels.size() > 0) || \
                 (has(self.podSelector.matchExpressions) && self.podSelector.matchExpressions.size() > 0)",
        "message": "an exemption needs labels to select by: without any it exempts every pod",
    }])
)]
pub struct Exemption {
    /// Name, unique within the list; status and audit repeat it. A DNS label.
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// The pods, by their labels. At least one label or expression.
    #[serde(deserialize_with = "strict::object")]
    pub pod_selector: AgentSelector,
}

/// Agents without a guard plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [{
        "rule": "(has(self.podSelector.matchLabels) && self.podSelector.matchLabels.size() > 0) || \
                 (has(self.podSelector.matchExpressions) && self.podSelector.matchExpressions.size() > 0)",
        "message": "an entry needs labels to select by: without any no agent needs the plugin",
    }])
)]
pub struct PluginOptional {
    /// Name, unique within the list; the pod's assignment repeats it. A DNS label.
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// The pods, by their labels. At least one label or expression.
    #[serde(deserialize_with = "strict::object")]
    pub pod_selector: AgentSelector,
}

/// Connections to agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct Ingress {
    /// Name, unique within the list; the NetworkPolicy is named after it. A DNS label.
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// Who may connect, 1 to 16: pods that any of the entries selects.
    #[serde(deserialize_with = "strict::objects")]
    #[schemars(length(min = 1, max = MAX_PEERS), extend("x-kubernetes-list-type" = "atomic"))]
    pub from: Vec<IngressPeer>,
    /// To which ports, 1 to 16.
    #[serde(deserialize_with = "strict::objects")]
    #[schemars(length(min = 1, max = MAX_PORTS), extend("x-kubernetes-list-type" = "atomic"))]
    pub ports: Vec<IngressPort>,
}

/// Pods that may connect, as in a NetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [{
        "rule": "has(self.namespaceSelector) || has(self.podSelector)",
        "message": "set namespaceSelector, podSelector or both",
    }])
)]
pub struct IngressPeer {
    /// Their namespaces, by labels; `{}` stands for all. Absent: the agent's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "AgentSelector")]
    pub namespace_selector: Option<AgentSelector>,
    /// The pods in these namespaces, by labels. Absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "AgentSelector")]
    pub pod_selector: Option<AgentSelector>,
}

/// A port of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct IngressPort {
    /// The port of the pod, 1 to 65535.
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub port: NonZeroU16,
    /// TCP or UDP. Absent: TCP.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some")]
    #[schemars(with = "IngressProtocol")]
    pub protocol: Option<IngressProtocol>,
}

/// What is spoken to a port of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum IngressProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A ServiceAccount and what may run under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct ServiceAccountImages {
    /// Name of the ServiceAccount, in whichever of the agents' namespaces.
    #[schemars(length(min = 1, max = MAX_OBJECT_NAME), regex(pattern = DNS_SUBDOMAIN))]
    pub name: String,
    /// The images that its pods' containers may have, 1 to 32, compared as written. With a digest
    /// (`registry/name@sha256:…`) nobody can move them.
    #[serde(deserialize_with = "strict::list")]
    #[schemars(
        length(min = 1, max = MAX_IMAGES),
        inner(length(min = 1, max = MAX_IMAGE), regex(pattern = IMAGE)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub images: Vec<String>,
}

/// A ServiceAccount whose pods keep their API token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct ApiAccess {
    /// Name of the ServiceAccount, in whichever of the agents' namespaces.
    #[schemars(length(min = 1, max = MAX_OBJECT_NAME), regex(pattern = DNS_SUBDOMAIN))]
    pub service_account: String,
}
