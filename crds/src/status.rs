//! What the operator writes back into each object.
//!
//! Only the operator writes it, through the status subresource, and nothing is decided by it, so that it
//! is read leniently: an operator that was rolled back must still read what a newer one wrote. The schema
//! is an ordinary one, whose unknown fields the API server drops.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::Mode;
use crate::bounds::{MAX_NAME, MAX_NAMESPACES};

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The object is in force and everything that it needs is there: the sum of the other conditions.
pub const READY: &str = "Ready";
/// The object says something that holds; otherwise the message has path and reason.
pub const ACCEPTED: &str = "Accepted";
/// Everything that the object refers to is there.
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// The tenant has its certificate authority, and its gateways their certificates.
pub const CERTIFICATES_ISSUED: &str = "CertificatesIssued";
/// Pods of the tenant's gateway are ready.
pub const GATEWAY_AVAILABLE: &str = "GatewayAvailable";
/// Packets of the tenant's agents reach nothing but the gateway.
pub const EGRESS_ISOLATED: &str = "EgressIsolated";
/// Every sidecar and gateway that needs it has the generation that is in force.
pub const PROGRAMMED: &str = "Programmed";
/// The guard plugin of every agent that needs one reports, and no agent disobeyed it. No part of `Ready`: agents that
/// start have not reported yet.
pub const PLUGIN_REPORTING: &str = "PluginReporting";

/// Longest message of a condition (metav1.Condition).
pub const MAX_MESSAGE: usize = 32_768;

/// Most conditions of one object: one per type.
const MAX_CONDITIONS: usize = 16;

/// Where a `TenantGateway` stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantGatewayStatus {
    /// The generation of the object that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
    /// Ready, Accepted, ResolvedRefs, CertificatesIssued, GatewayAvailable, EgressIsolated, Programmed,
    /// PluginReporting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The pods in the agents' namespaces, without those that are exempted or have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "AgentCounts")]
    pub agents: Option<AgentCounts>,
    /// The policy that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PolicyStatus")]
    pub policy: Option<PolicyStatus>,
    /// Agents' namespaces that are closed: a default deny selects every pod. With onboarding Observe one
    /// that is listed here stays closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_NAMESPACES),
        inner(length(max = MAX_NAME)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub isolated_namespaces: Vec<String>,
}

/// How many pods are agents, and how many of them have a sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentCounts {
    /// All of them.
    #[schemars(with = "i32", range(min = 0))]
    pub total: u32,
    /// Those with a sidecar.
    #[schemars(with = "i32", range(min = 0))]
    pub governed: u32,
    /// Those without one: they were there before the tenant.
    #[schemars(with = "i32", range(min = 0))]
    pub ungoverned: u32,
}

/// How far a tenant's policy has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Its generation, which grows with every change.
    #[schemars(with = "i64", range(min = 0))]
    pub generation: u64,
    /// How many agents and gateway pods have it.
    #[schemars(with = "i32", range(min = 0))]
    pub programmed: u32,
}

/// Where an `AgentPolicy` stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentPolicyStatus {
    /// The generation of the object that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
    /// Ready, Accepted, ResolvedRefs, Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// How many agents it selects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 0))]
    pub agents: Option<u32>,
    /// The mode that it has in fact: Audit only where the TenantGateway allows it, and until the day on
    /// which that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Mode")]
    pub observed_mode: Option<Mode>,
}

/// Where an `AgentHalt` stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentHaltStatus {
    /// The generation of the object that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
    /// Ready, Accepted, Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// How many agents it stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i32", range(min = 0))]
    pub agents: Option<u32>,
}

/// Where an `Upstream` stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    /// The generation of the object that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
    /// Ready, Accepted, ResolvedRefs, Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// Schema of a list of conditions, with the bounds of metav1.Condition, which its own schema lacks.
fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_CONDITIONS,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "type": "string",
                    "description": "What it is about.",
                    "maxLength": 316,
                    "pattern": "^[A-Za-z][A-Za-z0-9]*$",
                },
                "status": {
                    "type": "string",
                    "description": "Whether it holds.",
                    "enum": ["True", "False", "Unknown"],
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The generation of the object that the condition is about.",
                },
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the status last changed.",
                },
                "reason": {
                    "type": "string",
                    "description": "Why, in one word for programs.",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "type": "string",
                    "description": "Why and what to do, for people.",
                    "maxLength": MAX_MESSAGE,
                },
            },
        },
    })
}
