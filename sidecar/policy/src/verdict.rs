//! What `decide` answers.

use std::sync::Arc;

/// The answer. Only [`Verdict::Allow`] carries a [`Permit`], and only this crate makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may happen.
    Allow(Permit),
    /// A person must agree first.
    Ask(Denial),
    /// It must not happen.
    Deny(Denial),
}

impl Verdict {
    /// Why not, when it is not allowed: where nobody can be asked, Ask is a refusal.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        match self {
            Self::Allow(_) => None,
            Self::Ask(denial) | Self::Deny(denial) => Some(denial),
        }
    }

    /// The rule that decided, when one did.
    #[must_use]
    pub fn rule(&self) -> Option<&RuleRef> {
        match self {
            Self::Allow(permit) => permit.rule(),
            Self::Ask(denial) | Self::Deny(denial) => denial.rule.as_ref(),
        }
    }
}

/// The proof that an action was allowed. It cannot be made outside of this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    pub(crate) rule: Option<RuleRef>,
    pub(crate) generation: u64,
    pub(crate) credential: bool,
    pub(crate) shadow: Option<Shadow>,
}

/// What Enforce would have refused, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shadow {
    pub(crate) code: Code,
    pub(crate) rule: Option<RuleRef>,
}

impl Permit {
    /// The rule that allowed; `None` when only audit mode let the action pass.
    #[must_use]
    pub fn rule(&self) -> Option<&RuleRef> {
        self.rule.as_ref()
    }

    /// Generation of the assignment by which it was decided.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the upstream's credential may be added: false where only audit mode let it pass.
    #[must_use]
    pub fn credential(&self) -> bool {
        self.credential
    }

    /// Under audit mode: why Enforce would have refused.
    #[must_use]
    pub fn shadow(&self) -> Option<Code> {
        self.shadow.as_ref().map(|shadow| shadow.code)
    }

    /// Under audit mode: the rule by which Enforce would have refused, when it is one.
    #[must_use]
    pub fn shadow_rule(&self) -> Option<&RuleRef> {
        self.shadow.as_ref()?.rule.as_ref()
    }
}

/// The rule behind a verdict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleRef {
    /// The policy, as `namespace/name`; guardrails are `tenantgateway/NAME`, a manifest `manifest/NAMESPACE/NAME`.
    pub policy: Arc<str>,
    /// The rule's name within the policy; of a manifest, the key that refused.
    pub rule: Arc<str>,
    /// Digest of the policy document, `sha256:` and 64 hex digits.
    pub digest: Arc<str>,
}

/// Why an action was refused, or what a person must agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The reason for programs.
    pub code: Code,
    /// The rule that refused, when one did.
    pub rule: Option<RuleRef>,
    /// Generation of the assignment; 0 when there was none.
    pub generation: u64,
    /// One sentence for people: what and why.
    pub detail: String,
    /// What to do next.
    pub hint: &'static str,
    /// In how many milliseconds the same request may be allowed, when that is known.
    pub retry_after_ms: Option<u64>,
    /// Whether the pod is halted by it: from now on everything is denied until a person resumes it.
    pub halts: bool,
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident => $retryable:literal, $title:literal;)+) => {
        /// Reasons for programs. Each stands in the documentation's table of codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }
        impl Code {
            /// All codes, for the documentation's table and for metrics.
            pub const ALL: &'static [Code] = &[$(Code::$name,)+];
            /// The name that programs compare.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Code::$name => stringify!($name),)+ } }
            /// The title of the problem document.
            #[must_use]
            pub const fn title(self) -> &'static str { match self { $(Code::$name => $title,)+ } }
            /// What the code means.
            #[must_use]
            pub const fn meaning(self) -> &'static str { match self { $(Code::$name => concat!($($doc),+),)+ } }
            /// Whether the same request may succeed later without a change of policy.
            #[must_use]
            pub const fn retryable(self) -> bool { match self { $(Code::$name => $retryable,)+ } }
        }
    };
}

codes! {
    /// A rule of tier Block matched.
    TierBlock => false, "Blocked by policy";
    /// A rule of tier Ask matched; nobody can be asked yet.
    ApprovalUnavailable => false, "Approval needed";
    /// Policies select this agent, but none of their rules matched.
    NoMatch => false, "Not allowed by any policy";
    /// No policy selects this agent.
    NoPolicy => false, "No policy for this agent";
    /// A rule's condition could not be evaluated and the rule is of tier Ask or Block.
    ConditionError => false, "A condition could not be evaluated";
    /// A rule of tier Ask or Block is about a category, and nothing says which category this action is of.
    CategoryUnknown => false, "Category unknown";
    /// The upstream keeps data where a policy does not allow it, or states no residency.
    ResidencyRefused => false, "Residency not allowed";
    /// A limit of a policy or of the tenant has no room; it says when it will.
    RateLimited => true, "Too many actions";
    /// A person halted this agent, or a rule with `onDeny: Halt` refused something; a person must resume it.
    Halted => true, "Agent halted";
    /// The agent's manifest, or the role of its run, does not declare this; policy may allow it, and it is refused.
    NotDeclared => false, "Not declared in the manifest";
    /// The scheme, host and port are no declared upstream.
    UnknownUpstream => false, "Not a declared upstream";
    /// The assignment's validity has ended.
    AssignmentExpired => true, "Policy expired";
    /// The gate has no assignment for this caller.
    NoAssignment => true, "No policy yet";
    /// The agent's gate is closed: it has not proven, or no longer can, that nothing gets out past it.
    NotIsolated => true, "Egress not isolated";
    /// The upstream is a language model, and the agent's guard plugin has not reported itself for 15 seconds.
    PluginSilent => true, "Guard plugin silent";
    /// The agent sent a model the result of a tool call that was never decided, or of a blocked one; it is halted.
    Disobeyed => false, "Agent disobeyed";
    /// A request to a model carries a tool's result that cannot be compared with what was decided: its call is too old,
    /// or was decided with other arguments than the model's.
    ToolResultUnknown => false, "Tool result unknown";
    /// The upstream is a language model, and the request is none of its interfaces and no operation.
    EndpointRefused => false, "Endpoint refused";
    /// The request is malformed or has more than one possible reading.
    BadRequest => false, "Request refused";
    /// Authority, Host and server name (SNI) disagree.
    AuthorityMismatch => false, "Names disagree";
    /// The method is never forwarded (TRACE), or CONNECT carries something that is not TLS or HTTP.
    MethodRefused => false, "Method refused";
    /// A body that a rule must see is larger than the bound.
    BodyTooLarge => false, "Body too large";
    /// The gateway could not be reached.
    GatewayUnavailable => true, "Gateway unavailable";
    /// The decision's record could not be written in time.
    AuditUnavailable => true, "Audit log unavailable";
    /// The upstream's name did not resolve.
    NameNotResolved => true, "Name not resolved";
    /// The upstream's addresses are not allowed (private, loopback, link-local, metadata).
    AddressRefused => false, "Address refused";
    /// The upstream could not be connected.
    UpstreamUnavailable => true, "Upstream unavailable";
    /// The upstream's certificate could not be verified.
    UpstreamUntrusted => false, "Upstream not trusted";
    /// The upstream's credential is not there.
    CredentialUnavailable => true, "Credential unavailable";
    /// The upstream answered in a way that cannot be passed on safely.
    UpstreamResponse => false, "Response refused";
    /// Too many requests or connections at once.
    Overloaded => true, "Too busy";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
