//! What is decided on: who calls, what it wants to do, and what else was measured.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{HostName, RequestPath, SpiffeId};

/// Everything that [`decide`](crate::decide) may look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who calls. Established by the gate (certificate, assignment), never by the agent.
    pub caller: &'a Caller,
    /// What the caller wants to do.
    pub action: Action<'a>,
    /// What else was measured.
    pub context: Context,
}

/// The proven caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Name of the tenant, which is the name of its `TenantGateway`.
    pub tenant: Arc<str>,
    /// The pod (or, under `clawlock dev`, the laptop's stand-in for one).
    pub workload: Workload,
    /// The SPIFFE ID that the caller proved.
    pub identity: SpiffeId,
}

/// The facts about a pod that conditions can read as `agent.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Namespace of the pod.
    pub namespace: Arc<str>,
    /// ServiceAccount of the pod.
    pub service_account: Arc<str>,
    /// Name of the pod.
    pub pod: Arc<str>,
    /// UID of the pod.
    pub uid: Arc<str>,
    /// Labels of the pod, as the assignment states them.
    pub labels: Arc<BTreeMap<String, String>>,
}

/// What the caller wants to do.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// A tool of the agent's own, which stays in the pod.
    Tool(ToolAction<'a>),
    /// An HTTP request to a declared upstream.
    Http(HttpAction<'a>),
}

/// A tool call.
#[derive(Clone, Copy, Debug)]
pub struct ToolAction<'a> {
    /// The tool's name, for example `exec`.
    pub name: &'a str,
    /// The tool's arguments as the agent sent them: the text of a JSON object. It is parsed only
    /// when a rule needs it, strictly: duplicate names, depth over
    /// [`MAX_DEPTH`](crate::json::MAX_DEPTH) and trailing bytes are errors.
    pub args: &'a str,
    /// What the agent's process says about the call.
    pub claims: Claims<'a>,
}

/// What the agent's process says about a tool call. It makes all of this up, so that it can only tighten: a rule that
/// reads it adds its tier and hides no rule behind it, and an Auto rule may not read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims<'a> {
    /// For whom the call is made.
    pub requester: Option<&'a str>,
    /// The run that the call belongs to.
    pub run: Option<&'a str>,
    /// The model that made the call.
    pub model: Option<&'a str>,
    /// The role that the run carries. What the pod's manifest declares is narrowed to what it declares of the role; a
    /// role that is not declared has no tools.
    pub role: Option<&'a str>,
}

/// An HTTP request whose upstream the gate has already resolved from (scheme, host, port).
#[derive(Clone, Copy, Debug)]
pub struct HttpAction<'a> {
    /// Name of the upstream.
    pub upstream: &'a str,
    /// The host that the request names, one of the upstream's.
    pub host: &'a HostName,
    /// The port that the request names, the upstream's.
    pub port: u16,
    /// Method, as sent (methods are case-sensitive, RFC 9110 section 9.1).
    pub method: &'a str,
    /// Path in its one accepted spelling; the forwarded path is this one.
    pub path: &'a RequestPath,
    /// Raw query without `?`; empty when there is none.
    pub query: &'a str,
    /// Headers after removal of hop-by-hop, internal and credential headers. `None`: they are no
    /// longer known (an open stream that is decided again); a condition that reads them errors.
    pub headers: Option<&'a http::HeaderMap>,
    /// The request's body.
    pub body: Body<'a>,
}

/// A request's body as far as the gate has read it.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// Not read. [`Policy::needs_body`](crate::Policy::needs_body) says whether it must be. A rule
    /// that reads `args` of an unread body errors.
    Unread,
    /// There is none.
    Empty,
    /// The whole body and its `Content-Type` (empty when absent).
    Full {
        /// The value of the `Content-Type` header.
        content_type: &'a str,
        /// All bytes of the body.
        bytes: &'a [u8],
    },
    /// It was larger than the gate's bound, compressed, or broke off: rules that need it error.
    Unusable(&'static str),
}

/// What was measured beside the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trusted time in milliseconds since the Unix epoch.
    pub now_ms: u64,
}
