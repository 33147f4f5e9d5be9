//! `shadow`: what mode Audit let pass and Enforce would refuse, summed up from the log.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;

use crate::args::{Format, ShadowArgs};
use crate::log::{Line, Log, LoggedAction};
use crate::output::{self, GOOD, STRONG, styled};
use crate::problem::plain;
use crate::replay::Agent;

/// Most different sums that are kept: bounds memory. What is beyond is counted together.
const MAX_SUMS: usize = 10_000;

/// Most of them that are printed for people.
const SHOWN: usize = 100;

/// What is summed up: who, why Enforce would refuse it, by which policy and rule if it is one, and what.
type Key = (String, String, Option<(String, String)>, String);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    records: u64,
    would_refuse: u64,
    /// Of them, those that are in no sum.
    more: u64,
    other_lines: u64,
    sums: Vec<Sum>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sum {
    count: u64,
    agent: String,
    code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    action: String,
}

/// Sums up and prints.
pub(crate) fn run(args: &ShadowArgs) -> Result<ExitCode, String> {
    let ShadowArgs { from, output } = args;
    let report = sum_up(&mut Log::open(from)?)?;
    match output {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&text(&report))?,
    }
    Ok(if report.would_refuse == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn sum_up(log: &mut Log) -> Result<Report, String> {
    let mut report = Report { records: 0, would_refuse: 0, more: 0, other_lines: 0, sums: Vec::new() };
    let mut sums: BTreeMap<Key, u64> = BTreeMap::new();
    while let Some(line) = log.next()? {
        let Line::Record(record) = line else {
            report.other_lines += 1;
            continue;
        };
        report.records += 1;
        let agent = Agent::of(&record).map(|agent| agent.name()).unwrap_or_default();
        let outcome = record.outcome;
        let Some(code) = outcome.shadow else { continue };
        report.would_refuse += 1;
        // Operations are what people think in; paths have ids in them.
        let action = match record.action {
            LoggedAction::Http { operation: Some(operation), .. } => format!("operation {operation}"),
            action => action.words(),
        };
        let key = (agent, code, outcome.shadow_policy.zip(outcome.shadow_rule), action);
        let room = sums.len() < MAX_SUMS;
        match sums.get_mut(&key) {
            Some(count) => *count += 1,
            None if room => {
                sums.insert(key, 1);
            }
            None => report.more += 1,
        }
    }
    report.sums = sums
        .into_iter()
        .map(|((agent, code, by, action), count)| {
            let (policy, rule) = by.unzip();
            Sum { count, agent, code, policy, rule, action }
        })
        .collect();
    report.sums.sort_by_key(|sum| std::cmp::Reverse(sum.count));
    Ok(report)
}

fn text(report: &Report) -> String {
    let Report { records, would_refuse, more, other_lines, sums } = report;
    let mut out = String::new();
    for Sum { count, agent, code, policy, rule, action } in sums.iter().take(SHOWN) {
        let mut line = format!("{count:>8} x  {code:<20} {agent}: {action}");
        if let (Some(policy), Some(rule)) = (policy, rule) {
            line += &format!(", by rule {rule} of {policy}");
        }
        out += &format!("{}\n", plain(&line));
    }
    if sums.len() > SHOWN {
        out += &format!("  and {} more; --output json has all\n", sums.len() - SHOWN);
    }
    let style = if *would_refuse == 0 { GOOD } else { STRONG };
    let mut end = format!("{would_refuse} of {records} records passed only because of mode Audit");
    for (count, what) in [(more, "are in no line above"), (other_lines, "lines are no records")] {
        if *count > 0 {
            end += &format!(", {count} {what}");
        }
    }
    out + &format!("{}\n", styled(style, end))
}
