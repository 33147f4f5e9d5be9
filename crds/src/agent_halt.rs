//! `AgentHalt`: the kill switch. An object of its own, so that Git does not undo it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AgentSelector;
use crate::bounds::MAX_REASON;
use crate::schema::{PRINTABLE, open_object};
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
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct AgentHaltSpec {
    /// The agents that are stopped: those of this namespace or, in the tenant's platform namespace,
    /// those of every namespace of the tenant. `{}` stands for all of them.
    #[serde(deserialize_with = "strict::object")]
    pub agent_selector: AgentSelector,
    /// Why, in one line for the people and agents who read the denial. 1 to 512 characters.
    #[schemars(length(min = 1, max = MAX_REASON), regex(pattern = PRINTABLE))]
    pub reason: String,
}
