//! `AgentPolicy`: what the agents of one namespace may do. Written by the tenant, beside the workloads.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{MAX_CONDITION, MAX_LIMITS, MAX_NAME, MAX_RESIDENCIES, MAX_RULES};
use crate::schema::{DNS_LABEL, open_object};
use crate::status::AgentPolicyStatus;
use crate::strict;
use crate::{AgentSelector, Limit, Match, Schedule};

/// What the agents that it selects may do. Policies compose: over all that select an agent, and the
/// tenant's guardrails, the strictest opinion holds, and what none of them mentions is blocked.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clawlock.dev",
    version = "v1alpha1",
    kind = "AgentPolicy",
    plural = "agentpolicies",
    namespaced,
    shortname = "clawpolicy",
    category = "clawlock",
    derive = "PartialEq",
    status = "AgentPolicyStatus",
    doc = "What the agents of its namespace that it selects may do.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.observedMode"),
    printcolumn(name = "Agents", type_ = "integer", json_path = ".status.agents"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Labels", type_ = "string", json_path = ".spec.agentSelector.matchLabels", priority = 1),
    printcolumn(name = "Rules", type_ = "string", json_path = ".spec.rules[*].name", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct AgentPolicySpec {
    /// The agents of this namespace that the policy holds for; `{}` stands for all of them.
    #[serde(deserialize_with = "strict::object")]
    pub agent_selector: AgentSelector,
    /// Enforce: its refusals hold. Audit: they are recorded only, where and as long as the
    /// TenantGateway's policyConstraints allow it; otherwise it is enforced. Default: Enforce.
    #[serde(default)]
    pub mode: Mode,
    /// The rules, at most 1000; the first that matches decides. Names are unique. An empty list has no
    /// opinion on anything, so that what no other policy allows is blocked.
    #[serde(deserialize_with = "strict::objects")]
    #[schemars(length(max = MAX_RULES), extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<Rule>,
    /// How often actions may happen, at most 32. Those of all policies that select an agent hold, and the tenant's;
    /// those of a policy in mode Audit, where that counts, do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    #[schemars(
        length(max = MAX_LIMITS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub limits: Vec<Limit>,
    /// Where the upstreams that the agents use may keep data. Several policies come to what all of them allow.
    /// Absent: anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "Residency")]
    pub residency: Option<Residency>,
}

/// Where upstreams may keep data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct Residency {
    /// The residencies of Upstreams that are allowed, 1 to 32 DNS labels such as eu. Requests to an Upstream with
    /// another one, or without one, are blocked.
    #[serde(deserialize_with = "strict::list")]
    #[schemars(
        length(min = 1, max = MAX_RESIDENCIES),
        inner(length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allow: Vec<String>,
}

/// Whether a policy's refusals hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// They hold.
    #[default]
    Enforce,
    /// They are recorded.
    Audit,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [{
        "rule": "self.tier != 'Auto' || !has(self.onDeny) || self.onDeny == 'Continue'",
        "message": "tier Auto refuses nothing, so that onDeny Halt does not go with it",
    }])
)]
pub struct Rule {
    /// Name, unique within the policy; denials and the audit log repeat it. A DNS label.
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// Which actions the rule is about.
    #[serde(rename = "match", deserialize_with = "strict::object")]
    pub matches: Match,
    /// A CEL condition over args, request, agent and time, at most 4096 characters. Absent: always true.
    /// A condition that cannot be evaluated counts as true for Ask and Block and as false for Auto.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some")]
    #[schemars(with = "String", length(min = 1, max = MAX_CONDITION))]
    pub when: Option<String>,
    /// When the rule holds, in windows of local time. Outside of them it is as if the rule were not there,
    /// whatever its tier. Absent: always.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "Schedule")]
    pub schedule: Option<Schedule>,
    /// What the rule says: Auto allows, Ask needs a person, Block refuses.
    pub tier: Tier,
    /// What follows when this rule refuses something. Halt: the pod is halted, that is every tool call and all egress
    /// of it are denied with the reason, until a person deletes the AgentHalt that says so. Not for tier Auto, which
    /// refuses nothing. In mode Audit nothing is halted. Absent: Continue.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some")]
    #[schemars(with = "OnDeny")]
    pub on_deny: Option<OnDeny>,
}

/// What follows when a rule refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDeny {
    /// Nothing more.
    Continue,
    /// The pod is halted until a person resumes it.
    Halt,
}

/// What a rule says of the actions that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Tier {
    /// Allowed.
    Auto,
    /// A person must agree.
    Ask,
    /// Refused.
    Block,
}
