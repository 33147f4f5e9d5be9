//! Why a decision is as it is, for `clawlock explain`.
//!
//! Looks at every rule in order, without the indexes that [`decide`](crate::decide) uses, and asks the
//! same questions. Slow, and for people only: no gate calls it.

use std::sync::Arc;

use crate::decide::{self, Asking, Failure, Said};
use crate::document::{Mode, Tier};
use crate::limit::{is_about, segments};
use crate::{Facts, Policy, RuleRef, Verdict};

/// Why a decision is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The operation that the action is, as `upstream.operation`.
    pub operation: Option<Arc<str>>,
    /// Policies by name, then the guardrails. Empty when a halt or an unknown upstream decides.
    pub policies: Vec<PolicyExplanation>,
    /// What [`decide`](crate::decide) answers.
    pub verdict: Verdict,
}

/// What one policy, or the guardrails, say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyExplanation {
    /// `namespace/name`, or `tenantgateway/NAME`.
    pub policy: Arc<str>,
    /// The mode in which the policy counts now; guardrails always count.
    pub mode: Mode,
    /// Its rules in order.
    pub rules: Vec<RuleExplanation>,
    /// Its opinion.
    pub opinion: Option<Tier>,
}

/// What one rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleExplanation {
    /// The rule.
    pub rule: RuleRef,
    /// Its tier.
    pub tier: Tier,
    /// Its condition.
    pub when: Option<Arc<str>>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is about other actions.
    Other,
    /// It is about the action, but an earlier rule of its policy decided.
    NotReached,
    /// It is about the action, but none of the windows of its schedule is open.
    NotNow,
    /// It is about the action, but its condition is false.
    ConditionFalse,
    /// It is about the action, but its condition could not be evaluated, for this reason.
    ConditionError(String),
    /// It is about a category, and nothing says which category the action is of.
    CategoryUnknown,
    /// It is about the action, and its condition, if any, is true.
    Matched,
}

/// Explains.
#[must_use]
pub fn explain(policy: &Policy, facts: &Facts<'_>) -> Explanation {
    let verdict = decide::decide(policy, facts);
    let found = if policy.halts().is_empty() { policy.find(&facts.action) } else { None };
    let Some(found) = found else {
        return Explanation { operation: None, policies: Vec::new(), verdict };
    };
    let segments = segments(facts);
    let asking = Asking::new(facts, &found);
    let policies = policy.groups().iter().map(|group| {
        let mut said = Said::default();
        let mut decided = false;
        let own =
            policy.rules().iter().filter(|rule| policy.groups().get(rule.group).is_some_and(|g| g.name == group.name));
        let rules = own.map(|rule| {
            let outcome = match (is_about(&rule.matches, facts, &found, &segments), decided) {
                (false, _) => Outcome::Other,
                (true, true) => Outcome::NotReached,
                (true, false) => {
                    let outcome = asking.ask(rule);
                    decided = said.hear(group, rule, outcome.clone());
                    match outcome {
                        decide::Outcome::Matched => Outcome::Matched,
                        decide::Outcome::NotNow => Outcome::NotNow,
                        decide::Outcome::ConditionFalse => Outcome::ConditionFalse,
                        decide::Outcome::Failed(Failure::Condition(error)) => Outcome::ConditionError(error),
                        decide::Outcome::Failed(Failure::Category(_)) => Outcome::CategoryUnknown,
                    }
                }
            };
            let when = rule.when.as_ref().map(|condition| condition.text().clone());
            RuleExplanation { rule: rule.reference.clone(), tier: rule.tier, when, outcome }
        });
        let rules = rules.collect();
        PolicyExplanation {
            policy: group.name.clone(),
            mode: policy.mode_at(group, facts.context.now_ms),
            rules,
            opinion: said.opinion.map(|opinion| opinion.tier),
        }
    });
    let policies = policies.collect();
    Explanation { operation: found.operation.map(|operation| operation.name.clone()), policies, verdict }
}
