//! `explain`: what would be decided on an action, by which rule, and what every policy says of it. It
//! asks the same engine with the same documents that the gates get.

mod report;
mod request;

use std::process::ExitCode;

use clawlock_policy::explain;

use crate::action::Asked;
use crate::args::{ExplainArgs, Format};
use crate::engine::{self, Rules};
use crate::output;

use report::Report;

/// Answers.
pub(crate) fn run(args: ExplainArgs) -> Result<ExitCode, String> {
    if let Some((id, log)) = args.request.as_ref().zip(args.log.as_ref()) {
        return request::run(id, log, &args);
    }
    let ExplainArgs { action, folder, agent, headers, time, output, request: _, log: _ } = args;
    let asked = Asked::parse(&action, headers)?;
    let rules = Rules::read(&folder)?;
    let now_ms = engine::now_or(time);
    let policy = rules.policy_of(&agent, now_ms)?;
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
