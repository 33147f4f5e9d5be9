//! `simulate`: what other policies would have decided on the actions of a log, and in words what becomes possible that
//! was not. The log is read once, line by line; what is kept is bounded by the number of different actions, and that by
//! [`MAX_CHANGES`].

mod report;
mod rules;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clawlock_policy::Code;

use crate::args::{Format, SimulateArgs};
use crate::engine::Rules;
use crate::folder::{self, Folder};
use crate::log::{Line, Log, Logged, LoggedAction, Verdict};
use crate::output;
use crate::replay::{Agent, Refusal, Replay, Said, Why};

use report::Report;

/// Most different changes that are kept: a person reads some dozens. Those beyond are counted.
const MAX_CHANGES: usize = 10_000;

/// Simulates and prints.
pub(crate) fn run(args: &SimulateArgs) -> Result<ExitCode, String> {
    let SimulateArgs { from, policy, folder, agent, output } = args;
    let before = folder.as_ref().map(|folder| folder::read(std::slice::from_ref(folder))).unwrap_or_default();
    let changed = folder::read(policy);
    let root = policy.first().ok_or("say with --policy what would change")?;
    let widened = rules::widened(&before, &changed);
    let rules = Rules::of(&overlaid(before, changed), root)?;
    let mut replay = Replay::new(&rules, &agent.labels)?;
    let mut log = Log::open(from)?;
    let mut tally = Tally::default();
    while let Some(line) = log.next()? {
        let record = match line {
            Line::Record(record) => record,
            Line::Other => {
                tally.other_lines += 1;
                continue;
            }
        };
        tally.records += 1;
        let acting = Agent::of(&record);
        match (acting, &agent.agent) {
            (Some(acting), Some(only))
                if (&acting.namespace, &acting.service_account) != (&only.namespace, &only.service_account) =>
            {
                tally.other_agents += 1;
            }
            (Some(acting), _) if is_about_policy(&record) => {
                let refused_with = |code: Code| record.outcome.code.as_deref() == Some(code.as_str());
                let said = if refused_with(Code::RateLimited) {
                    // How much room a limit would have had depends on everything before.
                    Said::Unknown(Why::Limits)
                } else if refused_with(Code::NotDeclared) {
                    Said::Unknown(Why::Manifest)
                } else {
                    replay.ask(&acting, &record)?
                };
                tally.add(acting, &record, said);
            }
            _ => tally.not_by_policy += 1,
        }
    }
    let report = Report::of(tally, widened);
    match output {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&report.text())?,
    }
    Ok(if report.widens() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The objects of a folder, those of the same kind and name replaced.
fn overlaid(mut before: Folder, changed: Folder) -> Folder {
    for file in &mut before.files {
        file.objects.retain(|object| changed.objects().all(|new| new.id != object.id));
    }
    before.files.extend(changed.files);
    before.problems.extend(changed.problems);
    before
}

/// Whether a policy, rather than the state of a gate, a network or an upstream, led to the verdict.
fn is_about_policy(record: &Logged) -> bool {
    const CODES: [Code; 11] = [
        Code::CategoryUnknown,
        Code::ResidencyRefused,
        Code::RateLimited,
        Code::TierBlock,
        Code::ApprovalUnavailable,
        Code::NoMatch,
        Code::NoPolicy,
        Code::ConditionError,
        Code::Halted,
        Code::UnknownUpstream,
        Code::NotDeclared,
    ];
    let code = record.outcome.code.as_deref();
    if code == Some(Code::Halted.as_str()) && record.outcome.rule.is_some() {
        // A rule had refused something before, and its pod was not resumed yet.
        return false;
    }
    record.outcome.verdict == Verdict::Allow || CODES.iter().any(|known| Some(known.as_str()) == code)
}

/// What would be different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Difference {
    /// It was refused and would be allowed.
    BecomesPossible,
    /// It was refused and may be allowed, depending on what the log does not have.
    MayBecomePossible,
    /// It was allowed and would be refused.
    BecomesRefused,
    /// It was allowed and may be refused.
    MayBecomeRefused,
    /// It was refused and would be, with another verdict.
    OtherRefusal(Verdict, Verdict),
}

/// An action that would be decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Change {
    difference: Difference,
    agent: Agent,
    action: LoggedAction,
    /// Who decides: before, when it was refused, and then, when it would be; a policy and a rule.
    rule: Option<(String, String)>,
}

/// What is counted.
#[derive(Debug, Default)]
struct Tally {
    records: u64,
    unchanged: u64,
    changes: BTreeMap<Change, u64>,
    /// Changes that were not kept, by whether they widen.
    more_wider: u64,
    more_others: u64,
    /// Refusals that would halt the pod, by agent, policy and rule.
    halts: BTreeMap<(Agent, String, String), u64>,
    unknown: BTreeMap<Why, u64>,
    not_by_policy: u64,
    other_agents: u64,
    other_lines: u64,
}

impl Tally {
    fn add(&mut self, agent: Agent, record: &Logged, said: Said) {
        if let Said::Refuse(Refusal { rule: Some(rule), halts: true, .. }) = &said {
            let key = (agent.clone(), rule.policy.to_string(), rule.rule.to_string());
            // No more than rules of agents, and both are bounded.
            *self.halts.entry(key).or_default() += 1;
        }
        let allowed = record.outcome.verdict == Verdict::Allow;
        let before = || Some((record.outcome.policy.clone()?, record.outcome.rule.clone()?));
        let (difference, rule) = match (&said, allowed) {
            (Said::Allow(rule), false) => (Difference::BecomesPossible, rule.as_ref()),
            (Said::Refuse(Refusal { rule, .. }), true) => (Difference::BecomesRefused, rule.as_ref()),
            (Said::Refuse(Refusal { verdict: Some(verdict), rule, .. }), false)
                if *verdict != record.outcome.verdict =>
            {
                (Difference::OtherRefusal(record.outcome.verdict, *verdict), rule.as_ref())
            }
            (Said::Unknown(Why::Condition), false) => (Difference::MayBecomePossible, None),
            (Said::Unknown(Why::Condition), true) => (Difference::MayBecomeRefused, None),
            (Said::Unknown(_), _) | (Said::Allow(_), true) | (Said::Refuse(..), false) => {
                self.unchanged += u64::from(!matches!(said, Said::Unknown(_)));
                if let Said::Unknown(why) = said {
                    *self.unknown.entry(why).or_default() += 1;
                }
                return;
            }
        };
        if let Said::Unknown(why) = said {
            *self.unknown.entry(why).or_default() += 1;
        }
        let rule = rule.map(|rule| (rule.policy.to_string(), rule.rule.to_string())).or_else(before);
        let change = Change { difference, agent, action: record.action.clone(), rule };
        let room = self.changes.len() < MAX_CHANGES;
        match self.changes.get_mut(&change) {
            Some(count) => *count += 1,
            None if room => {
                self.changes.insert(change, 1);
            }
            None if allowed => self.more_others += 1,
            None => self.more_wider += 1,
        }
    }
}
