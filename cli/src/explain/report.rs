//! The answer, for people and for programs.

use std::fmt::Write as _;

use clawlock_policy::document::{Mode, Tier};
use clawlock_policy::explain::{Explanation, Outcome, PolicyExplanation, RuleExplanation};
use clawlock_policy::{Code, Denial, Policy, Verdict};
use serde::Serialize;

use crate::action::Asked;
use crate::output::{BAD, GOOD, NOTICE, QUIET, STRONG, styled};
use crate::problem::plain;

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    action: String,
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    /// `allow`, `ask` or `deny`.
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
    /// Under mode Audit: why Enforce would have refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
    /// Whether the refusal halts the pod; absent: it does not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    halts: bool,
    policies: Vec<PolicyReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyReport {
    policy: String,
    mode: Mode,
    /// Absent: it has no opinion.
    #[serde(skip_serializing_if = "Option::is_none")]
    opinion: Option<Tier>,
    rules: Vec<RuleReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleReport {
    rule: String,
    tier: Tier,
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<String>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Report {
    /// The answer of the engine.
    pub(super) fn of(asked: &Asked, policy: &Policy, explanation: Explanation) -> Self {
        let Explanation { operation, policies, verdict } = explanation;
        let mut report = Self::verdict(asked, policy, &verdict);
        report.operation = operation.map(|operation| operation.to_string());
        report.policies = policies.into_iter().map(PolicyReport::of).collect();
        report
    }

    /// What a gate refuses without asking the engine.
    pub(super) fn refused(asked: &Asked, policy: &Policy, denial: Denial) -> Self {
        Self::verdict(asked, policy, &Verdict::Deny(denial))
    }

    fn verdict(asked: &Asked, policy: &Policy, verdict: &Verdict) -> Self {
        let (name, denial, shadow) = match verdict {
            Verdict::Allow(permit) => ("allow", None, permit.shadow()),
            Verdict::Ask(denial) => ("ask", Some(denial), None),
            Verdict::Deny(denial) => ("deny", Some(denial), None),
        };
        let rule = verdict.rule();
        Self {
            action: asked.words(),
            agent: policy.caller().identity.to_string(),
            operation: None,
            verdict: name,
            policy: rule.map(|rule| rule.policy.to_string()),
            rule: rule.map(|rule| rule.rule.to_string()),
            code: denial.map(|denial| denial.code),
            shadow,
            detail: denial.map(|denial| denial.detail.clone()),
            hint: denial.map(|denial| denial.hint).filter(|hint| !hint.is_empty()),
            halts: denial.is_some_and(|denial| denial.halts),
            policies: Vec::new(),
        }
    }

    /// Whether the action may happen.
    pub(super) fn allowed(&self) -> bool {
        self.verdict == "allow"
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let Self { action, agent, operation, verdict, policy, rule, code, shadow, detail, hint, halts, policies } =
            self;
        let style = match *verdict {
            "allow" => GOOD,
            "ask" => NOTICE,
            _ => BAD,
        };
        let mut text = format!("{} {}\n", styled(style, verdict), styled(STRONG, plain(action)));
        let mut line = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a String does not fail.
                let _ = writeln!(text, "  {name:<10} {}", plain(&value));
            }
        };
        line("agent", Some(agent.clone()));
        line("operation", operation.clone());
        line("rule", rule.as_ref().map(|rule| format!("{rule} of policy {}", policy.as_deref().unwrap_or_default())));
        line("code", code.map(|code| code.to_string()));
        line("audit mode", shadow.map(|code| format!("Enforce would refuse it: {code}")));
        line(
            "halts",
            halts.then(|| "the pod: everything is denied from then on, until a person resumes it".to_owned()),
        );
        line("why", detail.clone());
        line("hint", hint.map(str::to_owned));
        for policy in policies {
            text.push_str(&policy.text());
        }
        text
    }
}

impl PolicyReport {
    fn of(explanation: PolicyExplanation) -> Self {
        let PolicyExplanation { policy, mode, rules, opinion } = explanation;
        Self { policy: policy.to_string(), mode, opinion, rules: rules.into_iter().map(RuleReport::of).collect() }
    }

    fn text(&self) -> String {
        let Self { policy, mode, opinion, rules } = self;
        let opinion =
            opinion.map_or_else(|| styled(QUIET, "no opinion"), |tier| styled(tier_style(tier), format!("{tier:?}")));
        let mode = if *mode == Mode::Audit { " (audited)" } else { "" };
        let mut text = format!("\n{}{mode}: {opinion}\n", styled(STRONG, plain(policy)));
        for rule in rules {
            text.push_str(&rule.text());
        }
        text
    }
}

impl RuleReport {
    fn of(explanation: RuleExplanation) -> Self {
        let RuleExplanation { rule, tier, when, outcome } = explanation;
        let (outcome, error) = match outcome {
            Outcome::Other => ("other", None),
            Outcome::NotReached => ("notReached", None),
            Outcome::NotNow => ("notNow", None),
            Outcome::ConditionFalse => ("conditionFalse", None),
            Outcome::ConditionError(error) => ("conditionError", Some(error)),
            Outcome::CategoryUnknown => ("categoryUnknown", None),
            Outcome::Matched => ("matched", None),
        };
        Self { rule: rule.rule.to_string(), tier, when: when.map(|when| when.to_string()), outcome, error }
    }

    fn text(&self) -> String {
        let Self { rule, tier, when, outcome, error } = self;
        let words = match *outcome {
            "other" => styled(QUIET, "is about other actions"),
            "notReached" => styled(QUIET, "not reached: an earlier rule decided"),
            "notNow" => "matches, but its schedule is not open".to_owned(),
            "conditionFalse" => "matches, but its condition is false".to_owned(),
            "conditionError" => styled(NOTICE, "matches, but its condition cannot be evaluated"),
            "categoryUnknown" => styled(NOTICE, "is about a category, and this has none"),
            _ => styled(tier_style(*tier), "decides"),
        };
        let mut text = format!("  {:<24} {:<6} {words}\n", plain(rule), format!("{tier:?}"));
        for (name, value) in [("when", when), ("error", error)] {
            if let Some(value) = value {
                text.push_str(&format!("    {}\n", styled(QUIET, format!("{name}: {}", plain(value)))));
            }
        }
        text
    }
}

fn tier_style(tier: Tier) -> anstyle::Style {
    match tier {
        Tier::Auto => GOOD,
        Tier::Ask => NOTICE,
        Tier::Block => BAD,
    }
}
