//! One decision as it stands in the log.

use std::sync::Arc;

use clawlock_policy::{Caller, Code, RuleRef, Verdict};
use serde::Serialize;

/// One decision. It serialises to one line of JSON: every control character in it is escaped, so
/// no field can start a record of its own.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Version of this format.
    pub version: u32,
    /// Trusted time of the decision in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Identifies the request; unique within a gate's life.
    pub request_id: Arc<str>,
    /// The gate that decided.
    pub gate: Gate,
    /// Name of the tenant; empty when the caller has no assignment.
    pub tenant: Arc<str>,
    /// SPIFFE ID of the caller; empty when unknown.
    pub workload: Arc<str>,
    /// What was decided on.
    pub action: ActionRecord,
    /// What was decided.
    pub outcome: Outcome,
    /// Where the time went until the decision.
    pub latency_us: Latency,
}

/// Version of [`Record`].
pub const RECORD_VERSION: u32 = 1;

/// Which gate decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Gate {
    /// The sidecar's, in the pod.
    Agent,
    /// The tenant's gateway.
    Gateway,
}

/// What was decided on, without arguments, query or headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ActionRecord {
    /// A tool call.
    Tool {
        /// The tool's name, cut to [`MAX_FIELD`] bytes.
        tool: String,
        /// The id that the model gave the call, cut to [`MAX_FIELD`] bytes; absent when the agent named none.
        #[serde(skip_serializing_if = "Option::is_none")]
        call_id: Option<String>,
    },
    /// What came of a tool call, as the agent's process reports it. It belongs to the decision with the same
    /// request id, and nothing was decided by it.
    ToolResult {
        /// The tool's name, cut to [`MAX_FIELD`] bytes.
        tool: String,
        /// How long it ran, in milliseconds.
        duration_ms: u32,
        /// Whether it failed.
        error: bool,
        /// SHA-256 of its result in hex; absent when there is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        result_sha256: Option<String>,
    },
    /// An HTTP request.
    Http {
        /// The upstream's name; absent when it is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        upstream: Option<Arc<str>>,
        /// The operation's name; absent when the upstream names none for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        operation: Option<Arc<str>>,
        /// The method, cut to [`MAX_FIELD`] bytes.
        method: String,
        /// `scheme://host:port`, cut to [`MAX_FIELD`] bytes.
        target: String,
        /// The path without its query, cut to [`MAX_FIELD`] bytes.
        path: String,
    },
}

/// Longest text of a field that the agent makes up, in bytes: bounds the size of a record.
pub const MAX_FIELD: usize = 512;

/// Cuts a text at a character boundary so that it has at most [`MAX_FIELD`] bytes.
#[must_use]
pub fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_FIELD)].to_owned()
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// `allow`, `ask` or `deny`; `reported` where nothing was decided: see [`ActionRecord::ToolResult`].
    pub verdict: &'static str,
    /// Why not, when it was not allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Under audit mode: why it would have been refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Code>,
    /// Under audit mode: the policy by which it would have been refused, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_policy: Option<Arc<str>>,
    /// The rule of that policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_rule: Option<Arc<str>>,
    /// The policy, as `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Arc<str>>,
    /// The rule's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// Digest of the policy's document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Arc<str>>,
    /// Generation of the assignment; 0 when there was none.
    pub generation: u64,
}

impl Outcome {
    /// Of a report, by which nothing was decided.
    #[must_use]
    pub fn reported(generation: u64) -> Self {
        Self {
            verdict: "reported",
            code: None,
            shadow: None,
            shadow_policy: None,
            shadow_rule: None,
            policy: None,
            rule: None,
            digest: None,
            generation,
        }
    }
}

impl From<&Verdict> for Outcome {
    fn from(verdict: &Verdict) -> Self {
        let (name, code, shadow, generation) = match verdict {
            Verdict::Allow(permit) => ("allow", None, permit.shadow(), permit.generation()),
            Verdict::Ask(denial) => ("ask", Some(denial.code), None, denial.generation),
            Verdict::Deny(denial) => ("deny", Some(denial.code), None, denial.generation),
        };
        let rule = verdict.rule();
        let shadow_rule = match verdict {
            Verdict::Allow(permit) => permit.shadow_rule(),
            Verdict::Ask(_) | Verdict::Deny(_) => None,
        };
        Self {
            verdict: name,
            code,
            shadow,
            shadow_policy: shadow_rule.map(|r| r.policy.clone()),
            shadow_rule: shadow_rule.map(|r| r.rule.clone()),
            policy: rule.map(|r: &RuleRef| r.policy.clone()),
            rule: rule.map(|r| r.rule.clone()),
            digest: rule.map(|r| r.digest.clone()),
            generation,
        }
    }
}

/// Where the time went until the decision, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// At the agent's gate: from the request's head to its decision.
    pub agent_gate: u32,
    /// At the gateway: from the request's head to its decision; 0 when it did not get there.
    pub gateway: u32,
}

/// The caller's fields of a record.
#[must_use]
pub fn caller_fields(caller: &Caller) -> (Arc<str>, Arc<str>) {
    (caller.tenant.clone(), caller.identity.shared())
}
