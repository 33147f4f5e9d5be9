//! Refusals that come from a gate itself rather than from a rule.

use clawlock_policy::{Code, Denial};

/// A refusal with the hint that goes with its code.
#[must_use]
pub fn of(code: Code, detail: String) -> Denial {
    Denial { code, rule: None, generation: 0, detail, hint: hint(code), retry_after_ms: None, halts: false }
}

const fn hint(code: Code) -> &'static str {
    match code {
        Code::TierBlock => "use another tool or operation, or ask the policy's author",
        Code::ApprovalUnavailable => "this version cannot ask a person; the policy's author can change the rule's tier",
        Code::NoMatch | Code::NoPolicy => "ask the author of the agent's policies for a rule that allows it",
        Code::ConditionError => "send the arguments that the rule's condition reads, each once and of its type",
        Code::CategoryUnknown => {
            "use an operation or a tool that has a category, or ask the platform team to declare one"
        }
        Code::ResidencyRefused => "use an upstream that keeps its data where the policy allows it",
        Code::RateLimited => "retry after the given time; slow down, or ask the limit's author for more room",
        Code::Halted => "stop; a person must look at what happened and resume the agent",
        Code::NotDeclared => "use what the agent's manifest declares, or ask its author to declare this",
        Code::UnknownUpstream => "use a declared upstream with its scheme and port, or ask the platform team for one",
        Code::AssignmentExpired | Code::NoAssignment => "retry later; if it lasts, the policy's source is down",
        Code::NotIsolated => "retry later; if it lasts, the platform team must look at the cluster's NetworkPolicies",
        Code::PluginSilent => {
            "start OpenClaw with the guard plugin; agents of another kind must be in the TenantGateway's \
             agents.pluginOptional"
        }
        Code::Disobeyed => "stop; a person must look at this agent, and resume it or start its pod anew",
        Code::ToolResultUnknown => "begin a new session; this one has tool calls that cannot be checked any more",
        Code::EndpointRefused => {
            "use chat completions, responses or messages, or ask the platform team for an operation"
        }
        Code::BadRequest => "send the request in its one canonical form",
        Code::AuthorityMismatch => "use the same host and port in CONNECT, SNI and Host",
        Code::MethodRefused => "use another method; through CONNECT speak TLS or HTTP",
        Code::BodyTooLarge => "send a smaller body; a rule must read all of it",
        Code::GatewayUnavailable => "retry later; if it lasts, the tenant's gateway is down",
        Code::AuditUnavailable => "retry later; if it lasts, the audit log's disk is full or slow",
        Code::NameNotResolved => "check the upstream's host name and the gateway's DNS",
        Code::AddressRefused => "the platform team can name the network in the upstream's allowedCIDRs",
        Code::UpstreamUnavailable => "retry later; the upstream does not accept connections",
        Code::UpstreamUntrusted => "the platform team can name the upstream's CA in tls.caRef",
        Code::CredentialUnavailable => "the platform team must provide the Secret and key that the upstream names",
        Code::UpstreamResponse => "the upstream must answer without content coding and without switching protocols",
        Code::Overloaded => "retry later with fewer requests at once",
    }
}
