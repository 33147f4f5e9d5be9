//! What a policy says of a decision that stands in the log.
//!
//! The log has no arguments, query, headers or body, and no labels of pods. A rule whose condition reads one of them may
//! have held or not. So each agent gets two policies: in the *strict* one such rules refuse where they can and allow
//! nothing, in the *loose* one they allow where they can and refuse nothing. What the strict one allows is allowed, what
//! the loose one refuses is refused, and everything else is unknown. Both are asked through the engine that the gates
//! use; nothing is decided here.

mod known;

use std::collections::BTreeMap;

use clawlock_compile::{Assigned, Pod};
use clawlock_policy::document::{Document, RuleDoc, Scheme, Tier};
use clawlock_policy::{
    Action, Body, Claims, Context, Facts, HttpAction, Policy, RequestPath, RuleRef, SpiffeId, ToolAction,
};
use clawlock_policy::{Verdict as Decided, codec, decide};
use clawlock_proxy::request::Target;
use http::uri::Authority;

use crate::args::Label;
use crate::engine::Rules;
use crate::log::{Logged, LoggedAction, Verdict, is_cut};

/// Most agents of one log: bounds memory, since each has policies of its own.
const MAX_AGENTS: usize = 1_000;

/// Who acted: what the log says of a pod that policies can tell apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Agent {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its ServiceAccount.
    pub(crate) service_account: String,
}

impl Agent {
    /// The agent of a record; `None`: the caller was unknown.
    pub(crate) fn of(record: &Logged) -> Option<Self> {
        let id = SpiffeId::parse(&record.workload).ok()?;
        let mut parts = id.as_str().split('/').skip(4);
        let (namespace, service_account) = (parts.next()?, parts.nth(1)?);
        Some(Self { namespace: namespace.to_owned(), service_account: service_account.to_owned() })
    }

    /// `NAMESPACE/SERVICEACCOUNT`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.service_account)
    }
}

/// What a policy says of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Allowed, whatever the log does not have.
    Allow(Option<RuleRef>),
    /// Refused, whatever the log does not have.
    Refuse(Refusal),
    /// It depends on something that the log does not have.
    Unknown(Why),
}

/// A refusal. What depends on something that the log does not have is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The verdict.
    pub(crate) verdict: Option<Verdict>,
    /// The rule that refuses, when one does.
    pub(crate) rule: Option<RuleRef>,
    /// Whether it halts the pod.
    pub(crate) halts: bool,
}

/// Why it is not known what a policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Why {
    /// Conditions read arguments, query, headers or labels.
    Condition,
    /// Policies select agents by labels.
    Labels,
    /// A field was cut when it was written, or the action is of a kind that this program does not know.
    Action,
    /// A limit refused it, and limits are not replayed.
    Limits,
    /// The agent's manifest refused it, which is not in the folder.
    Manifest,
    /// There are more agents in the log than this program keeps.
    TooMany,
}

impl Why {
    /// In words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Condition => "a condition reads what the log does not have (arguments, query, headers, body, labels)",
            Self::Labels => {
                "policies select agents by labels, which the log does not have; say them with --label KEY=VALUE"
            }
            Self::Action => "the action is not in the log as a whole",
            Self::Limits => "a limit refused it, and limits are not simulated",
            Self::Manifest => "the agent's manifest refused it, and manifests are not simulated",
            Self::TooMany => "there are too many agents in the log; choose one with --agent",
        }
    }
}

/// Asks a folder of policy about records.
pub(crate) struct Replay<'a> {
    rules: &'a Rules,
    /// The labels of the agents; `None`: unknown.
    labels: Option<BTreeMap<String, String>>,
    agents: BTreeMap<Agent, Option<World>>,
}

/// The two policies of an agent; `None`: it is no agent of a tenant, so that everything is refused.
struct World(Option<Box<(Policy, Policy, bool)>>);

impl<'a> Replay<'a> {
    /// Asks about agents with these labels; without any, labels are unknown.
    ///
    /// # Errors
    /// When a label is given twice.
    pub(crate) fn new(rules: &'a Rules, labels: &[Label]) -> Result<Self, String> {
        let labels = Some(Label::unique(labels)?).filter(|labels| !labels.is_empty());
        Ok(Self { rules, labels, agents: BTreeMap::new() })
    }

    /// What the policy says of a record.
    ///
    /// # Errors
    /// When the engine does not take the policy.
    pub(crate) fn ask(&mut self, agent: &Agent, record: &Logged) -> Result<Said, String> {
        if !self.agents.contains_key(agent) {
            if self.agents.len() == MAX_AGENTS {
                return Ok(Said::Unknown(Why::TooMany));
            }
            let world = self.world(agent)?;
            self.agents.insert(agent.clone(), world);
        }
        let Some(Some(World(policies))) = self.agents.get(agent) else { return Ok(Said::Unknown(Why::Labels)) };
        let Some((strict, loose, exact)) = policies.as_deref() else {
            return Ok(Said::Refuse(Refusal { verdict: Some(Verdict::Deny), rule: None, halts: false }));
        };
        let (Some(strict), Some(loose)) = (ask(strict, record), ask(loose, record)) else {
            return Ok(Said::Unknown(Why::Action));
        };
        Ok(match (strict, loose) {
            (Decided::Allow(permit), _) => Said::Allow(permit.rule().cloned()),
            (Decided::Ask(_) | Decided::Deny(_), Decided::Allow(_)) => Said::Unknown(Why::Condition),
            (strict, loose) => {
                let verdict = if matches!(strict, Decided::Ask(_)) { Verdict::Ask } else { Verdict::Deny };
                let halting = |decided: &Decided| {
                    let rule = decided.denial().filter(|denial| denial.halts)?.rule.as_ref()?;
                    Some((rule.policy.clone(), rule.rule.clone()))
                };
                // Whatever the log does not have, that rule is heard.
                let halts = halting(&strict).is_some() && halting(&strict) == halting(&loose);
                let rule = strict.rule().cloned().filter(|_| *exact || halts);
                Said::Refuse(Refusal { verdict: Some(verdict).filter(|_| *exact), rule, halts })
            }
        })
    }

    /// The policies of an agent; `None`: which of them select it is unknown.
    fn world(&self, agent: &Agent) -> Result<Option<World>, String> {
        let Agent { namespace, service_account } = agent;
        let labels = match &self.labels {
            Some(labels) => labels.clone(),
            None if self.rules.selects_by_labels(namespace) => return Ok(None),
            None => BTreeMap::new(),
        };
        let pod = Pod {
            namespace: namespace.clone(),
            name: "log".to_owned(),
            uid: "log".to_owned(),
            service_account: service_account.clone(),
            labels,
            // What holds for a pod beside the policy is not in the folder.
            manifest: None,
        };
        if self.rules.compilation.tenants().all(|tenant| tenant.namespaces().all(|owned| owned != namespace)) {
            return Ok(Some(World(None)));
        }
        let assigned = self.rules.assigned(&pod, 1)?;
        let knows_labels = self.labels.is_some();
        let strict = bound(assigned.clone(), Tier::Auto, knows_labels)?;
        let exact = !uncertain(&assigned, knows_labels);
        let loose = bound(assigned, Tier::Block, knows_labels)?;
        Ok(Some(World(Some(Box::new((strict, loose, exact))))))
    }
}

/// A policy in which rules that may hold or not are settled: those that say `never` (or Ask, for Block) do not hold, the
/// others do.
fn bound(assigned: Assigned, never: Tier, knows_labels: bool) -> Result<Policy, String> {
    let Assigned { mut assignment, mut documents } = assigned;
    let refuses = |tier: Tier| tier != Tier::Auto;
    for rules in documents.iter_mut().filter_map(rules_of) {
        rules.retain_mut(|rule| {
            if known::is_known(rule.when.as_deref(), knows_labels) {
                return true;
            }
            rule.when = None;
            refuses(rule.tier) != refuses(never)
        });
    }
    assignment.digests = documents.iter().map(|document| codec::digest(&codec::encode(document))).collect();
    assignment.digests.sort();
    assignment.digests.dedup();
    Policy::build(assignment, documents).map_err(|error| error.to_string())
}

/// Whether a rule may hold or not.
fn uncertain(assigned: &Assigned, knows_labels: bool) -> bool {
    let mut rules = assigned.documents.iter().flat_map(|document| match document {
        Document::Policy(policy) => policy.rules.as_slice(),
        Document::Tenant(tenant) => tenant.guardrails.as_slice(),
        Document::Upstream(_) | Document::Halt(_) | Document::Manifest(_) => &[],
    });
    rules.any(|rule| !known::is_known(rule.when.as_deref(), knows_labels))
}

fn rules_of(document: &mut Document) -> Option<&mut Vec<RuleDoc>> {
    match document {
        Document::Policy(policy) => Some(&mut policy.rules),
        Document::Tenant(tenant) => Some(&mut tenant.guardrails),
        Document::Upstream(_) | Document::Halt(_) | Document::Manifest(_) => None,
    }
}

/// Asks the engine; `None`: the log does not have the whole action. What no gate would decide on is refused.
fn ask(policy: &Policy, record: &Logged) -> Option<Decided> {
    let context = Context { now_ms: record.time_ms };
    let facts = |action| Facts { caller: policy.caller(), action, context };
    match &record.action {
        LoggedAction::Other => None,
        LoggedAction::Tool { tool } if is_cut(tool) => None,
        // No rule that is left reads arguments, or what the agent said.
        LoggedAction::Tool { tool } => {
            let claims = Claims::default();
            Some(decide(policy, &facts(Action::Tool(ToolAction { name: tool, args: "{}", claims }))))
        }
        LoggedAction::Http { method, target, path, .. } => {
            if [method, target, path].into_iter().any(|field| is_cut(field)) {
                return None;
            }
            let target = parse_target(target)?;
            let path = RequestPath::parse(path).ok()?;
            // An upstream that is not declared has no name, and the engine knows none without one.
            let upstream = policy.upstream(target.scheme, &target.host, target.port).map(|upstream| &*upstream.name);
            Some(decide(
                policy,
                &facts(Action::Http(HttpAction {
                    upstream: upstream.unwrap_or_default(),
                    host: &target.host,
                    port: target.port,
                    method,
                    path: &path,
                    query: "",
                    headers: None,
                    body: Body::Unread,
                })),
            ))
        }
    }
}

fn parse_target(text: &str) -> Option<Target> {
    let (scheme, authority) = text.split_once("://")?;
    let scheme = match scheme {
        "https" => Scheme::Https,
        "http" => Scheme::Http,
        _ => return None,
    };
    Target::parse(scheme, &authority.parse::<Authority>().ok()?).ok()
}

#[cfg(test)]
mod tests;
