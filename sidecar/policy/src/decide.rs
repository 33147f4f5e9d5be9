//! The decision: which rules speak, and which of them is heard.
//!
//! Within a policy the first rule that matches decides. A rule whose condition cannot be evaluated, or
//! that is about a category where nobody knows the action's, adds its own tier, if that is Ask or Block,
//! and evaluation goes on. Over all policies and the guardrails the strictest opinion holds, and without
//! any opinion the answer is no. Of several that are as strict, one that halts the pod holds. What a failed rule adds, or one that reads what the agent says of itself,
//! can only tighten: where no other rule matched, the answer stays no, though that rule would have asked.
//! So making a condition fail never loosens a verdict. Pure: the time comes with the facts.

mod words;

use crate::condition::{Condition, Scope};
use crate::document::{Category, Mode, Tier};
use crate::policy::{Found, Group, Match, Rule, RuleId};
use crate::verdict::{Code, Permit, Shadow, Verdict};
use crate::{Action, Facts, Policy};
use words::Words;

/// Decides.
#[must_use]
pub fn decide(policy: &Policy, facts: &Facts<'_>) -> Verdict {
    let words = Words { policy, facts };
    if let Some(halt) = policy.halts().first() {
        return Verdict::Deny(words.halted(halt));
    }
    let Some(found) = policy.find(&facts.action) else {
        return Verdict::Deny(words.unknown_upstream());
    };
    // A manifest holds whatever the rules say, and in which mode.
    if let Some(undeclared) = policy.undeclared(&facts.action) {
        return Verdict::Deny(words.undeclared(&undeclared));
    }
    let tally = Tally::of(policy, facts, &found);
    tally.verdict(&words)
}

/// What one rule, or one policy, or all of them say.
#[derive(Clone, Debug)]
pub(crate) struct Opinion<'a> {
    pub(crate) tier: Tier,
    pub(crate) rule: &'a Rule,
    /// Why nobody can tell whether the rule matches, when that is why it speaks.
    pub(crate) error: Option<Failure>,
}

/// Why nobody can tell whether a rule matches.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// Its condition could not be evaluated.
    Condition(String),
    /// It is about this category, and the action is of no known one.
    Category(Category),
}

impl<'a> Opinion<'a> {
    /// The stricter of two; of two that are as strict the one that halts, or else the earlier one.
    pub(crate) fn stricter(earlier: Option<Self>, later: Option<Self>) -> Option<Self> {
        match (earlier, later) {
            (Some(one), Some(two)) => Some(if two.strictness() > one.strictness() { two } else { one }),
            (one, two) => one.or(two),
        }
    }

    fn strictness(&self) -> (Tier, bool) {
        (self.tier, self.rule.halts)
    }

    /// What it would have refused.
    fn shadow(&self) -> Shadow {
        Shadow { code: self.code(), rule: Some(self.rule.reference.clone()) }
    }

    fn code(&self) -> Code {
        match (self.tier, &self.error) {
            (_, Some(Failure::Condition(_))) => Code::ConditionError,
            (_, Some(Failure::Category(_))) => Code::CategoryUnknown,
            (Tier::Block, None) if matches!(self.rule.matches, Match::OutsideOf(_)) => Code::ResidencyRefused,
            (Tier::Block, None) => Code::TierBlock,
            // An Auto rule refuses nothing; the arm only completes the match.
            (Tier::Ask | Tier::Auto, None) => Code::ApprovalUnavailable,
        }
    }
}

/// What came of a rule that is about the action.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Matched,
    /// Its schedule is not open.
    NotNow,
    ConditionFalse,
    Failed(Failure),
}

/// One action, for the rules that are about it, or may be.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    category: Option<Category>,
    now_ms: u64,
    scope: Scope<'a>,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(facts: &'a Facts<'a>, found: &'a Found<'a>) -> Self {
        let scope = Scope::new(facts, found.typing());
        Self { category: found.category, now_ms: facts.context.now_ms, scope }
    }

    /// Whether a rule's schedule, if it has one, is open; `None`: nobody can tell.
    fn is_open(&self, rule: &Rule) -> Option<bool> {
        rule.schedule.as_ref().map_or(Some(true), |schedule| schedule.is_open(self.now_ms))
    }

    /// Asks a rule.
    pub(crate) fn ask(&self, rule: &Rule) -> Outcome {
        match self.is_open(rule) {
            Some(true) => {}
            Some(false) => return Outcome::NotNow,
            None => return Outcome::Failed(Failure::Condition("the time is beyond the calendar".into())),
        }
        let said = rule.when.as_ref().map(|condition| condition.evaluate(&self.scope));
        match (said, &rule.matches, self.category) {
            (Some(Ok(false)), ..) => Outcome::ConditionFalse,
            (_, Match::Category(category), None) => Outcome::Failed(Failure::Category(*category)),
            (None | Some(Ok(true)), ..) => Outcome::Matched,
            (Some(Err(error)), ..) => Outcome::Failed(Failure::Condition(error)),
        }
    }
}

/// What a group of rules says: its opinion, and an Auto rule that would perhaps have allowed.
#[derive(Debug, Default)]
pub(crate) struct Said<'a> {
    pub(crate) opinion: Option<Opinion<'a>>,
    /// Whether a rule matched, rather than failed.
    matched: bool,
    pub(crate) missed: Option<(&'a Rule, Outcome)>,
}

impl<'a> Said<'a> {
    /// Takes note of a rule's outcome. Says whether the rules behind it count no more.
    pub(crate) fn hear(&mut self, group: &Group, rule: &'a Rule, outcome: Outcome) -> bool {
        let error = match outcome {
            Outcome::ConditionFalse => return false,
            Outcome::Matched => None,
            missed @ (Outcome::NotNow | Outcome::Failed(_)) if rule.tier == Tier::Auto => {
                self.missed.get_or_insert((rule, missed));
                return false;
            }
            Outcome::NotNow => return false,
            Outcome::Failed(error) => Some(error),
        };
        // What an agent says of itself can only tighten: it settles nothing, and hides no rule that is behind.
        let settles = error.is_none() && !rule.when.as_ref().is_some_and(Condition::reads_claims);
        self.matched |= settles;
        let decides = settles && group.mode.is_some();
        let opinion = Opinion { tier: rule.tier, rule, error };
        self.opinion = Opinion::stricter(self.opinion.take(), Some(opinion));
        decides
    }
}

/// The opinions by how they count.
#[derive(Debug, Default)]
pub(crate) struct Tally<'a> {
    /// Policies in enforcement.
    enforced: Option<Opinion<'a>>,
    /// Policies in audit mode, where that counts.
    audited: Option<Opinion<'a>>,
    guardrails: Option<Opinion<'a>>,
    /// Whether a rule of those that hold, not of audited ones, matched.
    matched: bool,
    /// An Auto rule that is not open, or of which nobody can tell whether it matches: it may be why nothing
    /// allows.
    missed: Option<(&'a Rule, Outcome)>,
    /// How many policies there are of each kind, whether they have an opinion or not.
    enforcing: usize,
    auditing: usize,
}

impl<'a> Tally<'a> {
    fn of(policy: &'a Policy, facts: &Facts<'_>, found: &Found<'_>) -> Self {
        let mut tally = Self::default();
        for group in policy.groups().iter().filter(|group| group.mode.is_some()) {
            tally.count(policy.mode_at(group, facts.context.now_ms));
        }
        let asking = Asking::new(facts, found);
        for (group, rules) in by_group(policy, &found.candidates) {
            let mut said = Said::default();
            for rule in rules.iter().filter_map(|&id| policy.rule(id)) {
                if said.hear(group, rule, asking.ask(rule)) {
                    break;
                }
            }
            tally.add(group, policy.mode_at(group, facts.context.now_ms), said);
            let strictest = (Tier::Block, policy.may_halt());
            if tally.enforced.as_ref().is_some_and(|opinion| opinion.strictness() == strictest) {
                break;
            }
        }
        tally
    }

    /// Counts a policy.
    pub(crate) fn count(&mut self, mode: Mode) {
        match mode {
            Mode::Enforce => self.enforcing += 1,
            Mode::Audit => self.auditing += 1,
        }
    }

    /// Adds what a group says; groups come in order.
    pub(crate) fn add(&mut self, group: &Group, mode: Mode, said: Said<'a>) {
        let Said { opinion, matched, missed } = said;
        if self.missed.is_none() {
            self.missed = missed;
        }
        self.matched |= matched && mode == Mode::Enforce;
        let side = match (group.mode, mode) {
            (None, _) => &mut self.guardrails,
            (Some(_), Mode::Enforce) => &mut self.enforced,
            (Some(_), Mode::Audit) => &mut self.audited,
        };
        *side = Opinion::stricter(side.take(), opinion);
    }

    pub(crate) fn verdict(self, words: &Words<'_>) -> Verdict {
        let Self { enforced, audited, guardrails, matched, missed, enforcing, auditing } = self;
        let no_opinion = if enforcing + auditing == 0 { Code::NoPolicy } else { Code::NoMatch };
        if enforcing > 0 || auditing == 0 {
            let Some(opinion) = Opinion::stricter(enforced, guardrails) else {
                return Verdict::Deny(words.no_opinion(no_opinion, missed));
            };
            if !matched {
                return Verdict::Deny(words.refused(&opinion));
            }
            let shadow = audited.filter(|audited| audited.tier > Tier::Auto).map(|audited| audited.shadow());
            return settle(words, opinion, true, shadow);
        }
        match (guardrails, audited) {
            (Some(guardrail), _) => settle(words, guardrail, true, None),
            (None, Some(audited)) if audited.tier == Tier::Auto => settle(words, audited, true, None),
            // Audit mode lets pass what Enforce would refuse, but never with a credential.
            (None, audited) => {
                let shadow = audited.map_or(Shadow { code: no_opinion, rule: None }, |audited| audited.shadow());
                Verdict::Allow(Permit {
                    rule: None,
                    generation: words.policy.generation(),
                    credential: false,
                    shadow: Some(shadow),
                })
            }
        }
    }
}

/// Turns the opinion that holds into a verdict.
fn settle(words: &Words<'_>, opinion: Opinion<'_>, credential: bool, shadow: Option<Shadow>) -> Verdict {
    match opinion.tier {
        Tier::Auto => Verdict::Allow(Permit {
            rule: Some(opinion.rule.reference.clone()),
            generation: words.policy.generation(),
            credential,
            shadow,
        }),
        Tier::Ask => Verdict::Ask(words.refused(&opinion)),
        Tier::Block => Verdict::Deny(words.refused(&opinion)),
    }
}

/// Splits rules, which ascend, by their group.
fn by_group<'a>(policy: &'a Policy, mut rest: &'a [RuleId]) -> impl Iterator<Item = (&'a Group, &'a [RuleId])> {
    std::iter::from_fn(move || {
        let first = policy.rule(*rest.first()?)?;
        let group = policy.groups().get(first.group)?;
        let (own, others) = rest.split_at(rest.partition_point(|id| *id < group.rules.end));
        rest = others;
        Some((group, own))
    })
}

/// Whether the body must be read: see [`Policy::needs_body`].
pub(crate) fn needs_body(policy: &Policy, facts: &Facts<'_>) -> bool {
    if matches!(facts.action, Action::Tool(_))
        || !policy.halts().is_empty()
        || policy.undeclared(&facts.action).is_some()
    {
        return false;
    }
    let Some(found) = policy.find(&facts.action) else { return false };
    // No rule that reads the body is asked through this.
    let asking = Asking::new(facts, &found);
    let mut needed = false;
    for (group, rules) in by_group(policy, &found.candidates) {
        let enforced = policy.mode_at(group, facts.context.now_ms) == Mode::Enforce;
        let mut open = false;
        for rule in rules.iter().filter_map(|&id| policy.rule(id)) {
            if rule.when.as_ref().is_some_and(Condition::reads_args) {
                open |= asking.is_open(rule) != Some(false);
                continue;
            }
            if !matches!(asking.ask(rule), Outcome::Matched) {
                continue;
            }
            // Whatever the body says, this rule blocks, and no earlier one can be heard instead.
            if rule.tier == Tier::Block && rule.halts == policy.may_halt() && enforced && !open && !needed {
                return false;
            }
            if group.mode.is_some() {
                break;
            }
        }
        needed |= open;
    }
    needed
}
