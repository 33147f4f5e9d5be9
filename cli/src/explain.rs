//! `explain`: what would be decided on an action, by which rule, and what every policy says of it. It
//! asks the same engine with the same documents that the gates get.

mod action;
mod report;

use std::path::Path;
use std::process::ExitCode;

use clawlock_compile::Ticket;
use clawlock_policy::{Policy, explain};
use clawlock_proxy::clock::{Clock as _, SystemClock};

use crate::args::{ExplainArgs, Format, Time};
use crate::folder::{self, Folder};
use crate::{agent, lint, output};

use action::Asked;
use report::Report;

/// Answers.
pub(crate) fn run(args: ExplainArgs) -> Result<ExitCode, String> {
    let ExplainArgs { action, folder, agent, headers, time, output } = args;
    let asked = Asked::parse(&action, headers)?;
    let files = folder::read(std::slice::from_ref(&folder));
    refuse_errors(&files, &folder)?;
    let compilation = clawlock_compile::compile(&folder::resources(files.objects()));
    let pod = agent::pod(&agent, &compilation)?;
    let now_ms = time.map_or_else(|| SystemClock.read().wall_ms, |Time(ms)| ms);
    // The question is what the rules say, not whether a ticket is still valid.
    let ticket = Ticket { generation: 1, issued_at_ms: now_ms, not_after_ms: u64::MAX };
    let assigned = compilation.assign(&pod, ticket).map_err(|error| error.to_string())?;
    let policy = Policy::build(assigned.assignment, assigned.documents).map_err(|error| error.to_string())?;
    let report = match asked.route(&policy) {
        Ok(routed) => {
            asked.with_facts(&policy, &routed, now_ms, |facts| Report::of(&asked, &policy, explain(&policy, facts)))
        }
        Err(denial) => Report::refused(&asked, &policy, denial),
    };
    match output {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&report.text())?,
    }
    Ok(if report.allowed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An answer from half of the files would be a wrong one.
fn refuse_errors(files: &Folder, root: &Path) -> Result<(), String> {
    let problems = lint::check(files, root);
    let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).collect();
    match errors.first() {
        None => Ok(()),
        Some(first) => {
            Err(format!("the policy has {} error(s), the first is {first}; clawlock lint lists all", errors.len()))
        }
    }
}
