//! `AgentHalt`: the kill switch. An object of its own, so that Git does not undo it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AgentSelector;
use crate::bounds::{MAX_FULL_NAME, MAX_NAME, MAX_REASON, MAX_UID};
use crate::schema::{DNS_LABEL, FULL_NAME, PRINTABLE, UID, open_object};
use crate::status::AgentHaltStatus;
use crate::strict;

/// Stops the agents that it selects until it is deleted: everything they ask for is denied.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "clawlock.dev",
    version = "v1alpha1",
    kind = "AgentHalt",
    plural = "agenthalts",
    namespaced,
    shortname = "clawhalt",
    category = "clawlock",
    derive = "PartialEq",
    status = "AgentHaltStatus",
    doc = "Stops the agents that it selects until it is deleted.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Agents", type_ = "integer", json_path = ".status.agents"),
    printcolumn(name = "Why", type_ = "string", json_path = ".spec.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Labels", type_ = "string", json_path = ".spec.agentSelector.matchLabels", priority = 1),
    printcolumn(name = "Pod", type_ = "string", json_path = ".spec.podUID", priority = 1),
    printcolumn(name = "Rule", type_ = "string", json_path = ".spec.cause.denial.rule", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [
        {
            "rule": "!has(self.podUID) || !has(self.agentSelector.matchLabels) && \
                     !has(self.agentSelector.matchExpressions)",
            "message": "with podUID, agentSelector is {}",
        },
        {"rule": "!has(self.cause) || has(self.podUID)", "message": "cause needs podUID"},
    ])
)]
pub struct AgentHaltSpec {
    /// The agents that are stopped: those of this namespace or, in the tenant's platform namespace,
    /// those of every namespace of the tenant. `{}` stands for all of them, or for the pod of podUID.
    #[serde(deserialize_with = "strict::object")]
    pub agent_selector: AgentSelector,
    /// Why, in one line for the people and agents who read the denial. 1 to 512 characters.
    #[schemars(length(min = 1, max = MAX_REASON), regex(pattern = PRINTABLE))]
    pub reason: String,
    /// The UID of the one pod that is stopped; then agentSelector is `{}`. Absent: all that agentSelector selects.
    #[serde(rename = "podUID", default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some")]
    #[schemars(with = "String", length(min = 1, max = MAX_UID), regex(pattern = UID))]
    pub pod_uid: Option<String>,
    /// What a gate stopped the pod for. The operator writes it; denials repeat it. Absent: a person wrote the halt.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "HaltCause")]
    pub cause: Option<HaltCause>,
}

/// What a gate stopped a pod for: a union by `type`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [
        {"rule": "(self.type == 'Denial') == has(self.denial)", "message": "type Denial, and only it, needs denial"},
    ])
)]
pub struct HaltCause {
    /// Denial: a rule with onDeny Halt refused something; denial is set. Disobedience: the agent did what was
    /// never decided, or was blocked.
    #[serde(rename = "type")]
    pub kind: HaltCauseType,
    /// The rule that refused.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "HaltDenial")]
    pub denial: Option<HaltDenial>,
}

/// For what kind of reason a gate stopped a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HaltCauseType {
    /// A rule refused.
    Denial,
    /// The agent disobeyed.
    Disobedience,
}

/// A rule that refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct HaltDenial {
    /// Its AgentPolicy as namespace/name, at most 317 characters.
    #[schemars(length(min = 1, max = MAX_FULL_NAME), regex(pattern = FULL_NAME))]
    pub policy: String,
    /// Its name. A DNS label.
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL))]
    pub rule: String,
}
