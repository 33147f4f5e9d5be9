//! What came of a simulation, for people and for programs.

use serde::Serialize;

use super::{Change, Difference, Tally};
use crate::log::{LoggedAction, Verdict};
use crate::output::{BAD, GOOD, NOTICE, QUIET, STRONG, styled};
use crate::problem::plain;

/// Most changes of one sort that are printed for people; programs get all that are kept.
const SHOWN: usize = 50;

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    records: u64,
    unchanged: u64,
    /// Changes of which only the number is known.
    more: u64,
    /// Whether something becomes possible, or may.
    widens: bool,
    changes: Vec<Changed>,
    /// What would halt a pod: all that it does afterwards would be refused as well.
    halts: Vec<Halting>,
    unknown: Vec<Unknown>,
    not_by_policy: u64,
    other_agents: u64,
    other_lines: u64,
    /// What the files allow that those before did not.
    rules: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed {
    difference: &'static str,
    agent: String,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Verdict>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Verdict>,
    count: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Halting {
    agent: String,
    policy: String,
    rule: String,
    count: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Unknown {
    why: &'static str,
    count: u64,
}

impl Difference {
    const fn name(self) -> &'static str {
        match self {
            Self::BecomesPossible => "becomesPossible",
            Self::MayBecomePossible => "mayBecomePossible",
            Self::BecomesRefused => "becomesRefused",
            Self::MayBecomeRefused => "mayBecomeRefused",
            Self::OtherRefusal(..) => "otherRefusal",
        }
    }
}

impl Changed {
    fn of(change: Change, count: u64) -> Self {
        let Change { difference, agent, action, rule } = change;
        let (before, after) = match difference {
            Difference::OtherRefusal(before, after) => (Some(before), Some(after)),
            _ => (None, None),
        };
        let operation = match &action {
            LoggedAction::Http { operation, .. } => operation.clone(),
            LoggedAction::Tool { .. } | LoggedAction::Other => None,
        };
        let (policy, rule) = rule.unzip();
        Self {
            difference: difference.name(),
            agent: agent.name(),
            action: action.words(),
            operation,
            policy,
            rule,
            before,
            after,
            count,
        }
    }

    fn line(&self) -> String {
        let Self { difference: _, agent, action, operation, policy, rule, before, after, count } = self;
        let mut line = format!("{count:>8} x  {agent}: {action}");
        if let Some(operation) = operation {
            line += &format!(" ({operation})");
        }
        if let (Some(policy), Some(rule)) = (policy, rule) {
            line += &format!(", rule {rule} of {policy}");
        }
        if let (Some(before), Some(after)) = (before, after) {
            line += &format!(", {} instead of {}", after.as_str(), before.as_str());
        }
        format!("{}\n", plain(&line))
    }
}

impl Report {
    /// Puts together what was counted.
    pub(super) fn of(tally: Tally, rules: Vec<String>) -> Self {
        let Tally {
            records,
            unchanged,
            changes,
            more_wider,
            more_others,
            halts,
            unknown,
            not_by_policy,
            other_agents,
            other_lines,
        } = tally;
        let wider =
            |change: &Change| matches!(change.difference, Difference::BecomesPossible | Difference::MayBecomePossible);
        Self {
            records,
            unchanged,
            more: more_wider + more_others,
            // What is not known at all may be anything.
            widens: more_wider > 0 || changes.keys().any(wider) || !unknown.is_empty(),
            changes: changes.into_iter().map(|(change, count)| Changed::of(change, count)).collect(),
            halts: halts
                .into_iter()
                .map(|((agent, policy, rule), count)| Halting { agent: agent.name(), policy, rule, count })
                .collect(),
            unknown: unknown.into_iter().map(|(why, count)| Unknown { why: why.words(), count }).collect(),
            not_by_policy,
            other_agents,
            other_lines,
            rules,
        }
    }

    /// Whether something becomes possible, or may.
    pub(super) fn widens(&self) -> bool {
        self.widens
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (name, style, heading) in [
            ("becomesPossible", BAD, "becomes possible that was refused"),
            ("mayBecomePossible", BAD, "was refused and may become possible: it depends on what the log does not have"),
            ("becomesRefused", NOTICE, "was possible and becomes refused"),
            (
                "mayBecomeRefused",
                NOTICE,
                "was possible and may become refused: it depends on what the log does not have",
            ),
            ("otherRefusal", QUIET, "stays refused, otherwise than before"),
        ] {
            let lines: Vec<String> =
                self.changes.iter().filter(|change| change.difference == name).map(Changed::line).collect();
            text += &section(&styled(style, heading), &lines);
        }
        let halts = self.halts.iter().map(|Halting { agent, policy, rule, count }| {
            format!("{}\n", plain(&format!("{count:>8} x  {agent}: rule {rule} of {policy}")))
        });
        let heading = "halts the pod: from the first one on, all that it does is refused until a person resumes it";
        text += &section(&styled(NOTICE, heading), &halts.collect::<Vec<_>>());
        let rules: Vec<String> = self.rules.iter().map(|rule| format!("  {}\n", plain(rule))).collect();
        text += &section(&styled(STRONG, "what the files change, tried or not"), &rules);
        let unknown: Vec<String> =
            self.unknown.iter().map(|unknown| format!("{:>8} x  {}\n", unknown.count, unknown.why)).collect();
        text += &section(&styled(NOTICE, "not known, and not counted as allowed"), &unknown);
        let Self { records, unchanged, more, not_by_policy, other_agents, other_lines, .. } = self;
        let style = if self.widens { STRONG } else { GOOD };
        text += &styled(style, format!("{records} records: {unchanged} are decided as before"));
        for (count, what) in [
            (more, "further changes were not kept"),
            (not_by_policy, "were not decided by a policy"),
            (other_agents, "are of other agents"),
            (other_lines, "lines are no records"),
        ] {
            if *count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        text + "\n"
    }
}

fn section(heading: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let more = lines.len().saturating_sub(SHOWN);
    let mut text = format!("{heading}\n{}", lines.iter().take(SHOWN).map(String::as_str).collect::<String>());
    if more > 0 {
        text += &format!("  and {more} more; --output json has all\n");
    }
    text + "\n"
}
