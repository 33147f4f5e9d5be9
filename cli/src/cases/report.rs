//! What came of test cases, for people and for programs.

use std::path::PathBuf;

use clawlock_policy::{Code, Denial, Verdict as Decided};
use serde::Serialize;

use crate::log::Verdict;
use crate::output::{BAD, GOOD, QUIET, STRONG, styled};
use crate::problem::plain;

/// What the policy said of a case.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Got {
    pub(super) verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shadow: Option<Code>,
    /// Whether the refusal halts the pod; absent: it does not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) halts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
}

impl Got {
    /// A decision.
    pub(super) fn of(verdict: &Decided) -> Self {
        let (name, denial, shadow) = match verdict {
            Decided::Allow(permit) => (Verdict::Allow, None, permit.shadow()),
            Decided::Ask(denial) => (Verdict::Ask, Some(denial), None),
            Decided::Deny(denial) => (Verdict::Deny, Some(denial), None),
        };
        let rule = verdict.rule();
        Self {
            verdict: name,
            policy: rule.map(|rule| rule.policy.to_string()),
            rule: rule.map(|rule| rule.rule.to_string()),
            code: denial.map(|denial| denial.code),
            shadow,
            halts: denial.is_some_and(|denial| denial.halts),
            detail: denial.map(|denial| denial.detail.clone()),
        }
    }

    /// What a gate refuses without asking the engine.
    pub(super) fn denied(denial: &Denial) -> Self {
        Self::of(&Decided::Deny(denial.clone()))
    }

    /// In one line.
    pub(super) fn words(&self) -> String {
        let Self { verdict, policy, rule, code, shadow, halts, detail: _ } = self;
        let mut words = verdict.as_str().to_owned();
        if let Some(code) = code {
            words += &format!(" {code}");
        }
        if let (Some(policy), Some(rule)) = (policy, rule) {
            words += &format!(" by rule {rule} of {policy}");
        }
        if *halts {
            words += ", halts the pod";
        }
        if let Some(shadow) = shadow {
            words += &format!(" (Enforce would refuse it: {shadow})");
        }
        words
    }
}

/// One case.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tested {
    pub(super) file: PathBuf,
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) passed: bool,
    /// How what came differs from what was expected.
    pub(super) mismatches: Vec<String>,
    pub(super) got: Got,
}

/// All cases.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) cases: Vec<Tested>,
}

/// Widest column of names: a longer name moves its own line only.
const WIDEST_NAME: usize = 48;

impl Report {
    /// Adds a case.
    pub(super) fn add(&mut self, tested: Tested) {
        *(if tested.passed { &mut self.passed } else { &mut self.failed }) += 1;
        self.cases.push(tested);
    }

    /// The table.
    pub(super) fn text(&self) -> String {
        let Self { passed, failed, cases } = self;
        let longest = cases.iter().map(|case| case.name.chars().count()).max().unwrap_or_default();
        let width = longest.min(WIDEST_NAME);
        let mut text = String::new();
        for Tested { file, line, name, passed, mismatches, got } in cases {
            let result = if *passed { styled(GOOD, "ok  ") } else { styled(BAD, "FAIL") };
            text += &format!("{result}  {:<width$}  {}\n", plain(name), plain(&got.words()));
            for mismatch in mismatches {
                let place = styled(QUIET, format!("{}:{line}", plain(&file.display().to_string())));
                text += &format!("      {place} {}\n", plain(mismatch));
            }
            if let Some(detail) = got.detail.as_ref().filter(|_| !passed) {
                text += &format!("      {}\n", plain(detail));
            }
        }
        let style = if *failed == 0 { GOOD } else { STRONG };
        text + &format!("{}\n", styled(style, format!("{passed} passed, {failed} failed")))
    }
}
