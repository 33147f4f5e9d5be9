//! What a refusal says to people.

use super::{Failure, Opinion, Outcome};
use crate::document::{FileAccess, Tier};
use crate::json::shown;
use crate::manifest::{MANIFEST, Undeclared};
use crate::policy::{Cause, Halt, Match, Rule};
use crate::verdict::{Code, Denial};
use crate::{Action, Facts, Policy};

/// Longest part of a path that a sentence repeats, in bytes of its ASCII.
const SHOWN_PATH: usize = 200;

/// Most characters of a halt's reason that a sentence repeats.
const SHOWN_REASON: usize = 500;

/// Words the refusals of one decision.
pub(crate) struct Words<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) facts: &'a Facts<'a>,
}

impl Words<'_> {
    pub(super) fn halted(&self, halt: &Halt) -> Denial {
        let detail = format!("the agent is halted by {}: {}", plain(&halt.name), one_line(&halt.reason));
        let looked_at = "stop; a person must look at what happened and resume the agent";
        match &halt.cause {
            None => {
                let hint = "wait until the AgentHalt is deleted, or ask whoever created it";
                self.denial(Code::Halted, detail, hint)
            }
            Some(Cause::Denial(rule)) => {
                Denial { rule: Some(rule.clone()), ..self.denial(Code::Halted, detail, looked_at) }
            }
            Some(Cause::Disobedience) => self.denial(Code::Disobeyed, detail, looked_at),
        }
    }

    pub(super) fn unknown_upstream(&self) -> Denial {
        let detail = match self.facts.action {
            Action::Http(http) => {
                format!("{}:{} is no upstream of tenant {}", http.host, http.port, self.policy.tenant())
            }
            Action::Tool(tool) => format!("tool {} has no upstream", plain(tool.name)),
        };
        self.denial(
            Code::UnknownUpstream,
            detail,
            "use a declared upstream, or ask the platform team to declare this one",
        )
    }

    pub(super) fn undeclared(&self, undeclared: &Undeclared<'_>) -> Denial {
        let why = match undeclared {
            Undeclared::Host => "its host and port are not in allowed_hosts".to_owned(),
            Undeclared::Tool => "it is not in tool_scope".to_owned(),
            Undeclared::Files { needs: FileAccess::Write, has } => {
                format!("it can change files, and file_access is {}", has.as_str())
            }
            Undeclared::Files { needs: FileAccess::Read | FileAccess::None, has } => {
                format!("it reads files, and file_access is {}", has.as_str())
            }
            Undeclared::Programs => "it runs programs, and binary_access is none".to_owned(),
            Undeclared::Role(role) => format!("it is not in tool_scope of the run's role {}", plain(role)),
        };
        let action = self.action();
        let (detail, rule) = match self.policy.manifest() {
            Some(manifest) => {
                let name = manifest.name.strip_prefix(MANIFEST).unwrap_or(&manifest.name);
                (format!("{action} is not declared in manifest {name}: {why}"), Some(manifest.reference(undeclared)))
            }
            None => (format!("{action} is not declared, the agent has no manifest: {why}"), None),
        };
        let hint = "use what the manifest declares; its author can declare more, within the policy";
        Denial { rule, ..self.denial(Code::NotDeclared, detail, hint) }
    }

    pub(super) fn no_opinion(&self, code: Code, missed: Option<(&Rule, Outcome)>) -> Denial {
        let action = self.action();
        if code == Code::NoPolicy {
            let detail = format!("no policy selects this agent, so {action} is denied");
            return self.denial(code, detail, "create an AgentPolicy whose agentSelector selects this agent");
        }
        let mut detail = format!("no rule of any policy for this agent allows {action}");
        if let Some((rule, outcome)) = missed {
            let rule = named(rule);
            detail.push_str(&match outcome {
                Outcome::NotNow => format!("; rule {rule} holds at other times only, by its schedule"),
                Outcome::Failed(Failure::Condition(error)) => {
                    format!("; the condition of rule {rule} could not be evaluated: {error}")
                }
                Outcome::Failed(Failure::Category(category)) => {
                    format!("; rule {rule} is about category {}, and this has none", category.as_str())
                }
                Outcome::Matched | Outcome::ConditionFalse => String::new(),
            });
        }
        self.denial(code, detail, "add a rule of tier Auto for it to an AgentPolicy that selects this agent")
    }

    pub(super) fn refused(&self, opinion: &Opinion<'_>) -> Denial {
        let (action, rule) = (self.action(), named(opinion.rule));
        let (detail, hint) = match (&opinion.error, opinion.tier) {
            (Some(Failure::Category(category)), _) => (
                format!("{action} is refused: rule {rule} is about category {}, and this has none", category.as_str()),
                "use an operation or a tool that has a category, or ask the platform team to declare one",
            ),
            (Some(Failure::Condition(error)), _) => (
                format!("{action} is refused: the condition of rule {rule} could not be evaluated: {error}"),
                "send what the condition reads, or mend the rule's condition",
            ),
            (None, Tier::Block) if matches!(opinion.rule.matches, Match::OutsideOf(_)) => (
                format!("{action} is blocked: {} is not where {rule} allows data to be", self.residency()),
                "use an upstream that keeps its data where the policy allows it",
            ),
            (None, Tier::Block) => (
                format!("{action} is blocked by rule {rule}"),
                "do not repeat it; ask the rule's author if it is needed",
            ),
            (None, Tier::Ask | Tier::Auto) => (
                format!("{action} needs an approval by rule {rule}, and nobody can be asked yet"),
                "do not repeat it; ask the rule's author for tier Auto if it is needed",
            ),
        };
        let halts = opinion.rule.halts;
        let hint = if halts { "stop; the agent is halted until a person resumes it" } else { hint };
        let rule = Some(opinion.rule.reference.clone());
        Denial { rule, halts, ..self.denial(opinion.code(), detail, hint) }
    }

    fn denial(&self, code: Code, detail: String, hint: &'static str) -> Denial {
        let generation = self.policy.generation();
        Denial { code, rule: None, generation, detail, hint, retry_after_ms: None, halts: false }
    }

    /// Where the upstream keeps data.
    fn residency(&self) -> String {
        let upstream = match self.facts.action {
            Action::Http(http) => self.policy.upstream_named(http.upstream),
            Action::Tool(_) => None,
        };
        match upstream.and_then(|upstream| upstream.residency.as_deref()) {
            Some(place) => format!("its upstream's residency, {}", plain(place)),
            None => "its upstream, which states no residency,".to_owned(),
        }
    }

    fn action(&self) -> String {
        match &self.facts.action {
            Action::Tool(tool) => format!("tool {}", plain(tool.name)),
            Action::Http(http) => match self.policy.operation(http) {
                Some(name) => format!("operation {name}"),
                None => {
                    let path: String = http.path.as_str().chars().take(SHOWN_PATH).collect();
                    format!("{} {}{path} (upstream {})", plain(http.method), http.host, plain(http.upstream))
                }
            },
        }
    }
}

/// A rule and where it stands: `shell of policy acme/support`.
fn named(rule: &Rule) -> String {
    let reference = &rule.reference;
    match reference.policy.strip_prefix("tenantgateway/") {
        Some(tenant) => format!("{} of the guardrails of {tenant}", reference.rule),
        None => format!("{} of policy {}", reference.rule, reference.policy),
    }
}

/// A name as it is when it is an ordinary one, quoted and shortened when it is not: names of tools are
/// made up by agents, and a sentence stays one line.
fn plain(name: &str) -> String {
    let ordinary = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/' | b':');
    if !name.is_empty() && name.len() <= 128 && name.bytes().all(ordinary) { name.to_owned() } else { shown(name) }
}

/// A person's text on one line, shortened.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN_REASON).collect()
}
