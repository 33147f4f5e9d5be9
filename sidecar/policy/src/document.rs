//! Policy documents and assignments as they travel: opaque bytes in a signed envelope.
//!
//! A document is addressed by the SHA-256 of its encoding. Documents hold text (hosts, patterns,
//! conditions); [`Policy::build`](crate::Policy::build) parses every one of them again and refuses
//! the whole set when one does not parse.

mod manifest;

use std::collections::BTreeMap;

pub use manifest::{FileAccess, HostDoc, ManifestDoc, RoleDoc};
use serde::{Deserialize, Serialize};

/// Version of the encoding. A reader refuses versions that it does not know.
pub const VERSION: u32 = 1;

/// One document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
pub enum Document {
    /// Rules of one `AgentPolicy`.
    Policy(PolicyDoc),
    /// Guardrails and constraints of one `TenantGateway`.
    Tenant(TenantDoc),
    /// One `Upstream`.
    Upstream(UpstreamDoc),
    /// One `AgentHalt`.
    Halt(HaltDoc),
    /// The manifest of one pod.
    Manifest(ManifestDoc),
}

/// Rules of one `AgentPolicy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyDoc {
    /// `namespace/name`.
    pub name: String,
    /// Whether its refusals hold or are only recorded.
    pub mode: Mode,
    /// Rules in order; the first that matches decides.
    pub rules: Vec<RuleDoc>,
    /// The places where upstreams may keep data; `None`: anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<Vec<String>>,
    /// How often actions may happen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitDoc>,
}

/// How often actions may happen. All limits that are about an action must have room for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitDoc {
    /// Name, unique within its list.
    pub name: String,
    /// Whose actions are counted together.
    pub scope: LimitScope,
    /// Which actions are counted; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<MatchDoc>,
    /// How many actions may happen per interval in the long run.
    pub requests: u32,
    /// The interval in milliseconds.
    pub interval_ms: u64,
    /// How many may happen at once after a rest.
    pub burst: u32,
}

/// Whose actions a limit counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitScope {
    /// Those of one pod.
    Agent,
}

/// Guardrails and constraints of one `TenantGateway`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantDoc {
    /// Name of the tenant.
    pub name: String,
    /// Guardrails: tier Ask or Block. All of them are weighed; the strictest that matches holds.
    pub guardrails: Vec<RuleDoc>,
    /// How often actions may happen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<LimitDoc>,
    /// The categories of tools that are not OpenClaw's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_categories: Vec<ToolCategoryDoc>,
    /// Until when policies in audit mode count, in milliseconds since the Unix epoch; `None`: never.
    /// `Audit` must have been allowed for this to be set.
    pub audit_until_ms: Option<u64>,
    /// Whether `Enforce` is an allowed mode; a policy in a mode that is not allowed is enforced.
    pub allowed_modes: Vec<Mode>,
}

/// The category of some tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolCategoryDoc {
    /// The tools, by name pattern.
    pub tools: Vec<String>,
    /// What they do.
    pub category: Category,
}

/// Whether a policy's refusals hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// They hold.
    Enforce,
    /// They are recorded.
    Audit,
}

/// What a rule says of the actions that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// Allowed.
    Auto,
    /// A person must agree.
    Ask,
    /// Refused.
    Block,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleDoc {
    /// Name, unique within its list.
    pub name: String,
    /// Which actions it is about.
    pub matches: MatchDoc,
    /// CEL condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// When it holds; `None`: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleDoc>,
    /// What it says.
    pub tier: Tier,
    /// What follows when it refuses. `Continue` is not written, as before there was anything else.
    #[serde(default, skip_serializing_if = "OnDeny::is_continue")]
    pub on_deny: OnDeny,
}

/// What follows when a rule refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnDeny {
    /// Nothing more.
    #[default]
    Continue,
    /// The pod is halted until a person resumes it.
    Halt,
}

impl OnDeny {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over by reference")]
    fn is_continue(&self) -> bool {
        *self == Self::Continue
    }
}

/// When a rule holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleDoc {
    /// IANA name of the time zone.
    pub time_zone: String,
    /// The windows; at least one.
    pub windows: Vec<WindowDoc>,
    /// Dates `YYYY-MM-DD` on which no window begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded_dates: Vec<String>,
}

/// A window of local time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WindowDoc {
    /// The days on which it begins.
    pub days: Vec<Day>,
    /// When it opens, `HH:MM`.
    pub from: String,
    /// When it is closed again, `HH:MM` up to `24:00`; before `from`: on the next day.
    pub to: String,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// Which actions a rule is about: one kind of match, its fields ANDed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum MatchDoc {
    /// Tools by name pattern.
    Tools(Vec<String>),
    /// Operations by `upstream.operation` pattern.
    Operations(Vec<String>),
    /// HTTP requests.
    Http(HttpMatchDoc),
    /// Tools and requests by what they do.
    Category(Category),
}

/// What an operation or a tool does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// Which HTTP requests a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpMatchDoc {
    /// Names of upstreams; at least one.
    pub upstreams: Vec<String>,
    /// Methods; empty: all.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Path patterns; empty: all.
    #[serde(default)]
    pub paths: Vec<String>,
}

/// One `Upstream`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamDoc {
    /// Name.
    pub name: String,
    /// What is spoken there. HTTP is not written, as before there was anything else: a reader that knows only
    /// HTTP refuses what is written, and so denies.
    #[serde(default, skip_serializing_if = "Protocol::is_http")]
    pub protocol: Protocol,
    /// Scheme.
    pub scheme: Scheme,
    /// Hosts; a leading or inner `*` label stands for one label, only without a credential.
    pub hosts: Vec<String>,
    /// Port.
    pub port: u16,
    /// CIDRs beyond public addresses that may be dialled.
    #[serde(default)]
    pub allowed_cidrs: Vec<String>,
    /// PEM bundle that replaces the public roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// The credential's place. Never the credential.
    pub credential: CredentialDoc,
    /// Where it keeps data; `None`: nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<String>,
    /// The category of requests that are no operation, and of operations that have none of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// Named operations.
    #[serde(default)]
    pub operations: Vec<OperationDoc>,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    /// The API of a language model, over HTTP: reached only while the agent's guard plugin reports itself.
    #[serde(rename = "LLM")]
    Llm,
}

impl Protocol {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands the field over by reference")]
    fn is_http(&self) -> bool {
        *self == Self::Http
    }
}

/// Scheme of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Cleartext. Never with a credential.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// How the gateway authenticates to the upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum CredentialDoc {
    /// Not at all.
    None {},
    /// `Authorization: Bearer VALUE` (RFC 6750).
    Bearer {
        /// Where the token is.
        secret: SecretKey,
    },
    /// A header of its own.
    Header {
        /// The header's name.
        name: String,
        /// Where the value is.
        secret: SecretKey,
    },
    /// `Authorization: Basic ...` (RFC 7617).
    Basic {
        /// The user's name.
        username: String,
        /// Where the password is.
        secret: SecretKey,
    },
}

/// A key of a Secret in the platform namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: String,
    /// Key in it.
    pub key: String,
}

/// A named operation of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperationDoc {
    /// Name, unique within the upstream.
    pub name: String,
    /// Method.
    pub method: String,
    /// Path template: literal segments and `{variables}`.
    pub path: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// Declared arguments.
    #[serde(default)]
    pub arguments: Vec<ArgumentDoc>,
}

/// A declared argument of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArgumentDoc {
    /// Name: a path variable, a query or form field, or a top-level member of the JSON body.
    pub name: String,
    /// Type as which conditions see it.
    #[serde(rename = "type")]
    pub kind: ArgumentType,
}

/// Type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArgumentType {
    /// Text.
    String,
    /// Signed 64-bit integer.
    Integer,
    /// IEEE 754 double.
    Number,
    /// `true` or `false`.
    Boolean,
}

/// One `AgentHalt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HaltDoc {
    /// `namespace/name`.
    pub name: String,
    /// Why, for the person who reads the denial.
    pub reason: String,
    /// What a gate halted the pod for; `None`: a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<CauseDoc>,
}

/// What a gate halted a pod for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum CauseDoc {
    /// A rule with [`OnDeny::Halt`] refused something.
    Denial {
        /// Its policy, as `namespace/name`.
        policy: String,
        /// Its name.
        rule: String,
    },
    /// The agent did what was never decided, or was blocked.
    Disobedience {},
}

/// Which documents hold for one pod, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assignment {
    /// Name of the tenant.
    pub tenant: String,
    /// The pod's SPIFFE ID.
    pub identity: String,
    /// The pod.
    pub pod: PodDoc,
    /// The entry of the tenant's `agents.pluginOptional` that selects the pod: it needs no guard plugin. `None` is
    /// not written; a reader that does not know the field refuses it, and so goes on asking for the plugin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin_optional: Option<String>,
    /// Digests of the documents, sorted.
    pub digests: Vec<String>,
    /// Grows with every change; a receiver refuses smaller ones.
    pub generation: u64,
    /// When it was signed, in milliseconds since the Unix epoch.
    pub issued_at_ms: u64,
    /// From when on it denies, in milliseconds since the Unix epoch.
    pub not_after_ms: u64,
}

/// The pod of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodDoc {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// ServiceAccount.
    pub service_account: String,
    /// Labels that conditions can read.
    pub labels: BTreeMap<String, String>,
}
