//! How often actions may happen.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Match;
use crate::bounds::{MAX_DURATION, MAX_NAME, MAX_REQUESTS};
use crate::schema::{DNS_LABEL, DURATION, open_object};
use crate::strict;

/// How often actions may happen. Every limit that is about an action must have room for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct Limit {
    /// Name, unique within the list; denials and the audit log repeat it. A DNS label.
    #[schemars(length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL))]
    pub name: String,
    /// Whose actions are counted together. Agent: those of one pod.
    pub scope: LimitScope,
    /// Which actions are counted. What has no category counts for every category. Absent: all actions.
    #[serde(
        rename = "match",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "strict::some_object"
    )]
    #[schemars(with = "Match")]
    pub matches: Option<Match>,
    /// How many actions there is room for.
    #[serde(deserialize_with = "strict::object")]
    pub rate: Rate,
}

/// Whose actions a limit counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LimitScope {
    /// Those of one pod.
    Agent,
}

/// How many actions may happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct Rate {
    /// How many may happen per interval in the long run, 1 to 1000000.
    #[schemars(with = "i32", range(min = 1, max = MAX_REQUESTS))]
    pub requests: NonZeroU32,
    /// The interval, as in Kubernetes' Gateway API: 1s to 24h.
    #[schemars(
        length(min = 2, max = MAX_DURATION),
        regex(pattern = DURATION),
        extend("x-kubernetes-validations" = [{
            "rule": "duration(self) >= duration('1s') && duration(self) <= duration('24h')",
            "message": "the interval of a rate is 1s to 24h",
        }])
    )]
    pub interval: String,
    /// How many may happen at once after a rest, 1 to 1000000. Absent: as many as `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some")]
    #[schemars(with = "i32", range(min = 1, max = MAX_REQUESTS))]
    pub burst: Option<NonZeroU32>,
}
