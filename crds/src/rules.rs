//! What a rule of a policy and a guardrail of a tenant have in common: which actions they are about.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{MAX_METHOD, MAX_METHODS, MAX_NAME, MAX_PATH, MAX_PATTERN, MAX_PATTERNS};
use crate::schema::{DNS_LABEL, METHOD, open_object};
use crate::strict;

/// A name pattern, roughly; the exact form is checked by `clawlock-compile`.
pub(crate) const NAME_PATTERN: &str = "^[^\\s\\x00-\\x1f\\x7f]+$";
/// A path pattern starts at the root and has no query, fragment or control character. It is compared
/// with decoded paths, so that it may have a space.
const PATH_PATTERN: &str = "^/[^?#\\x00-\\x1f\\x7f]*$";

/// Which actions a rule is about: exactly one kind of match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(
    transform = open_object,
    extend("x-kubernetes-validations" = [{
        "rule": "[has(self.tools), has(self.operations), has(self.http), has(self.category)].exists_one(kind, kind)",
        "message": "set exactly one of tools, operations, http and category",
    }])
)]
pub struct Match {
    /// The agent's own tools, by name; `*` stands for any run of characters. 1 to 64 patterns.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_list")]
    #[schemars(
        with = "Vec<String>",
        length(min = 1, max = MAX_PATTERNS),
        inner(length(min = 1, max = MAX_PATTERN), regex(pattern = NAME_PATTERN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub tools: Option<Vec<String>>,
    /// Operations as `upstream.operation`; `*` stands for any run of characters within one segment, that
    /// is between dots. 1 to 64 patterns.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_list")]
    #[schemars(
        with = "Vec<String>",
        length(min = 1, max = MAX_PATTERNS),
        inner(length(min = 1, max = MAX_PATTERN), regex(pattern = NAME_PATTERN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub operations: Option<Vec<String>>,
    /// HTTP requests to upstreams.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_object")]
    #[schemars(with = "HttpMatch")]
    pub http: Option<HttpMatch>,
    /// Operations and tools by what they do: Read, Write, Delete, Money, Shell, Network or Admin. What has no
    /// category is of none for Auto rules, and counts as every one for Ask and Block. Tools have a fixed one,
    /// which the documentation lists.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some")]
    #[schemars(with = "Category")]
    pub category: Option<Category>,
}

/// What an operation or a tool does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Category {
    /// It reads.
    Read,
    /// It makes or changes something.
    Write,
    /// It takes something away.
    Delete,
    /// It moves money, or binds somebody to pay.
    Money,
    /// It runs commands or code.
    Shell,
    /// It reaches places outside.
    Network,
    /// It changes rights, settings or the agent itself.
    Admin,
}

/// Which HTTP requests a rule is about. All fields that are set must match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = open_object)]
pub struct HttpMatch {
    /// Names of Upstreams of the tenant. 1 to 64, no patterns.
    #[serde(deserialize_with = "strict::list")]
    #[schemars(
        length(min = 1, max = MAX_PATTERNS),
        inner(length(min = 1, max = MAX_NAME), regex(pattern = DNS_LABEL)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub upstreams: Vec<String>,
    /// Methods in upper case, at most 40. Absent: every method.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_list")]
    #[schemars(
        with = "Vec<String>",
        length(min = 1, max = MAX_METHODS),
        inner(length(min = 1, max = MAX_METHOD), regex(pattern = METHOD)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub methods: Option<Vec<String>>,
    /// Path patterns: `*` stands for any run of characters within one segment, `**` for any number of
    /// segments. At most 64. Absent: every path.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::some_list")]
    #[schemars(
        with = "Vec<String>",
        length(min = 1, max = MAX_PATTERNS),
        inner(length(min = 1, max = MAX_PATH), regex(pattern = PATH_PATTERN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub paths: Option<Vec<String>>,
}
