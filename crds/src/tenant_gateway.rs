//! `TenantGateway`: a tenant. Written by the platform team, in the tenant's platform namespace.

use std::num::NonZeroU8;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{
    DATE_LENGTH, MAX_CONDITION, MAX_DURATION, MAX_GUARDRAILS, MAX_LIMITS, MAX_NAME, MAX_NAMESPACES, MAX_PATTERN,
    MAX_PATTERNS, MAX_REPLICAS, MAX_TOOL_CATEGORIES, MAX_TRUST_DOMAIN,
};
use crate::rules::NAME_PATTERN;
use crate::schema::{DNS_LABEL, DURATION, open_object};
use crate::status::TenantGatewayStatus;
use crate::strict;
use crate::{Agents, Category, Limit, Match, Mode};

/// A trust domain (SPIFFE-ID specification section 2.1).
const TRUST_DOMAIN: &str = "^[a-z0-9._-]+$";
/// `YYYY-MM-DD`.
const DATE: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$";

/// A tenant: its agents' namespaces, its identity and what holds for all of its agents. Its name, a DNS
/// label, is the tenant's name; its namespace, which only the platform team writes, holds the tenant's Upstreams.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clawlock.dev",
    version = "v1alpha1",
    kind = "TenantGateway",
    plural = "tenantgateways",
    namespaced,
    shortname = "tgw",
    category = "clawlock",
    derive = "PartialEq",
    status = "TenantGatewayStatus",
    doc = "A tenant: its agents' namespaces, its identity and what holds for all of its agents.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Agents", type_ = "integer", json_path = ".status.agents.total"),
    printcolumn(name = "Ungoverned", type_ = "integer", json_path = ".status.agents.ungoverned"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Trust-Domain", type_ = "string", json_path = ".spec.trustDomain", priority = 1),
    printcolumn(name = "Generation", type_ = "integer", json_path = ".status.policy.generation", priority = 1),
    printcolumn(name = "Programmed", type_ = "integer", json_path = ".status.policy.programmed", priority = 1),
    printcolumn(name = "Namespaces", type_ = "string", json_path = ".spec.namespaces", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct TenantGatewaySpec {
    /// The agents' namespaces of the tenant, 1 to 64. A namespace belongs to one tenant, and the
    /// platform namespace is none of them.
    #[serde(deserialize_with = "strict::list")]
    #[schemars(
        length(min = 1, max = MAX_NAMESPACES),
        inner(length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub namespaces: Vec<String>,
    /// The SPIFFE trust domain of the tenant's identities: lower-case letters, digits, '.', '-' and '_'.
    /// Unique in the cluster and immutable.
    #[schemars(
        length(min = 1, max = MAX_TRUST_DOMAIN),
        regex(pattern = TRUST_DOMAIN),
        extend("x-kubernetes-validations" = [{
            "rule": "self == oldSelf",
            "message": "the trust domain is immutable: make a new TenantGateway instead",
        }])
    )]
    pub trust_domain: String,
    /// How many pods the tenant's gateway has, 1 to 50. Default: 2.
    #[serde(default = "two")]
    #[schemars(with = "i32", range(min = 1, max = MAX_REPLICAS))]
    pub replicas: NonZeroU8,
    /// What becomes of pods that ran in the agents' namespaces before the tenant was there; nothing evicts
    /// them. New pods are injected, exempted or refused in either case. Default: Observe.
    #[serde(default)]
    pub onboarding: Onboarding,
    /// What holds for the pods in the agents' namespaces. Absent: every pod is an agent, without its API
    /// token, that nobody may connect to.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "Agents")]
    pub agents: Option<Agents>,
    /// The certificates of the tenant's agents and gateways.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "Identity")]
    pub identity: Option<Identity>,
    /// Rules that hold for every agent of the tenant, whatever its policies say, at most 256. All of
    /// them are weighed, whatever their order; the strictest that matches holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(
        length(max = MAX_GUARDRAILS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub guardrails: Vec<Guardrail>,
    /// What tools do that are not OpenClaw's own, such as those of MCP servers, at most 64. Those have a fixed
    /// category, which nothing here changes; a tool that entries disagree on has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(
        length(max = MAX_TOOL_CATEGORIES),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub tool_categories: Vec<ToolCategory>,
    /// How often actions of each agent of the tenant may happen, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(
        length(max = MAX_LIMITS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub limits: Vec<Limit>,
    /// What the policies of the tenant may say. Absent: they are enforced.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "PolicyConstraints")]
    pub policy_constraints: Option<PolicyConstraints>,
}

/// What becomes of pods that were there before the tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Onboarding {
    /// They are listed as ungoverned and keep their network. A namespace is closed as soon as none of them
    /// is left in it, and stays closed from then on.
    #[default]
    Observe,
    /// Every namespace is closed at once: pods that are not injected have no network at all.
    Enforce,
}

/// The certificates of a tenant's agents and gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct Identity {
    /// How long a certificate lives, as in Kubernetes' Gateway API: 60s to 24h. It is renewed from a third
    /// of its life on. Default: 24h.
    #[serde(rename = "certificateTTL", default = "day")]
    #[schemars(
        length(min = 2, max = MAX_DURATION),
        regex(pattern = DURATION),
        extend("x-kubernetes-validations" = [{
            "rule": "duration(self) >= duration('60s') && duration(self) <= duration('24h')",
            "message": "a certificate lives for 60s to 24h",
        }])
    )]
    pub certificate_ttl: String,
}

/// A rule that holds for every agent of the tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct Guardrail {
    /// Name, unique within the list; denials and the audit log repeat it. A DNS label.
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// Which actions the guardrail is about.
    #[serde(rename = "match", deserialize_with = "strict::object")]
    pub matches: Match,
    /// A CEL condition over args, request, agent and time, at most 4096 characters. Absent: always true.
    /// A condition that cannot be evaluated counts as true.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some")]
    #[schemars(with = "String", length(min = 1, max = MAX_CONDITION))]
    pub when: Option<String>,
    /// What the guardrail says: Ask needs a person, Block refuses. A guardrail cannot allow.
    pub tier: GuardrailTier,
}

/// What some tools do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct ToolCategory {
    /// Name, unique within the list. A DNS label.
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// The tools, by name; `*` stands for any run of characters. 1 to 64 patterns.
    #[serde(deserialize_with = "strict::list")]
    #[schemars(
        length(min = 1, max = MAX_PATTERNS),
        inner(length(min = 1, max = MAX_PATTERN), regex(pattern = NAME_PATTERN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub tools: Vec<String>,
    /// What they do: Read, Write, Delete, Money, Shell, Network or Admin.
    pub category: Category,
}

/// What a guardrail says of the actions that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GuardrailTier {
    /// A person must agree.
    Ask,
    /// Refused.
    Block,
}

/// What the policies of a tenant may say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [{
        "rule": "!has(self.allowedModes) || !('Audit' in self.allowedModes) || has(self.auditUntil)",
        "message": "mode Audit needs auditUntil, the day on which it ends",
    }])
)]
pub struct PolicyConstraints {
    /// Modes that policies may have. A policy in another mode is enforced. Default: only Enforce.
    #[serde(default = "enforce_only", deserialize_with = "strict::list")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub allowed_modes: Vec<Mode>,
    /// The day (`YYYY-MM-DD`, UTC) from whose start on policies in mode Audit are enforced. Needed where
    /// Audit is allowed; says nothing elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some")]
    #[schemars(with = "String", length(min = DATE_LENGTH, max = DATE_LENGTH), regex(pattern = DATE))]
    pub audit_until: Option<String>,
}

fn two() -> NonZeroU8 {
    NonZeroU8::MIN.saturating_add(1)
}

fn day() -> String {
    "24h".to_owned()
}

fn enforce_only() -> Vec<Mode> {
    vec![Mode::Enforce]
}
