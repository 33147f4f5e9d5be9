//! `generate`: the least policy that allows what a log shows as allowed, for a person to review. Never wider than that:
//! names and paths stand in the rules as they were seen, without a pattern, and each rule holds for the ServiceAccount that
//! was seen. What cannot be written so is left out, and told.

mod render;
mod seen;

use std::process::ExitCode;

use crate::args::{Format, GenerateArgs, Label};
use crate::log::{Line, Log, Verdict};
use crate::output;
use crate::replay::Agent;

use seen::Seen;

/// Generates and prints.
pub(crate) fn run(args: &GenerateArgs) -> Result<ExitCode, String> {
    let GenerateArgs { from, agent, output } = args;
    let mut log = Log::open(from)?;
    let mut seen = Seen::default();
    while let Some(line) = log.next()? {
        let Line::Record(record) = line else {
            seen.other_lines += 1;
            continue;
        };
        let Some(acting) = Agent::of(&record) else { continue };
        if agent.agent.as_ref().is_some_and(|only| {
            (&only.namespace, &only.service_account) != (&acting.namespace, &acting.service_account)
        }) {
            continue;
        }
        match record.outcome.verdict {
            Verdict::Allow => seen.add(acting, record.action)?,
            Verdict::Ask | Verdict::Deny => seen.refused += 1,
        }
    }
    let generated = render::generate(&seen, &Label::unique(&agent.labels)?)?;
    match output {
        Format::Json => output::print_json(&generated)?,
        Format::Text => output::print(&generated.text()?)?,
    }
    Ok(if generated.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests;
