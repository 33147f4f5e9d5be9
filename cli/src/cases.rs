//! `test`: written cases (an action, and the verdict that is expected of the policy), asked of the same engine, with the
//! same documents, as the gates.

mod format;
mod junit;
mod report;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use clawlock_policy::{Policy, decide};

use crate::action::Asked;
use crate::args::{AgentArgs, Label, Results, TestArgs, Time};
use crate::engine::{self, Rules};
use crate::folder::{self, Node};
use crate::output;
use crate::problem::Problem;

use format::{Case, Suite};
use report::{Got, Report, Tested};

/// Most cases of all files: bounds memory. A policy of a thousand rules has a few thousand.
const MAX_CASES: usize = 100_000;

/// Tests and prints.
pub(crate) fn run(args: &TestArgs) -> Result<ExitCode, String> {
    let TestArgs { paths, folder, output } = args;
    let paths = if paths.is_empty() { std::slice::from_ref(folder) } else { paths };
    let (files, unreadable) = folder::find_cases(paths);
    if let Some(problem) = unreadable.first() {
        return Err(problem.to_string());
    }
    if files.is_empty() {
        return Err("there are no cases; write them into a file NAME.test.yaml, docs/cli.md says how".to_owned());
    }
    let rules = Rules::read(folder)?;
    let mut report = Report::default();
    for file in files {
        let (suite, root) = folder::read_one::<Suite>(&file).map_err(|problem| problem.to_string())?;
        test(&rules, &file, &suite, &root, &mut report).map_err(|problem| problem.to_string())?;
    }
    match output {
        Results::Json => output::print_json(&report)?,
        Results::Text => output::print(&report.text())?,
        Results::Junit => output::print(&junit::render(&report))?,
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tests the cases of one file.
fn test(rules: &Rules, file: &Path, suite: &Suite, root: &Node, report: &mut Report) -> Result<(), Box<Problem>> {
    for (index, case) in suite.cases.iter().enumerate() {
        let path = format!("cases[{index}]");
        let wrong = |path: &str, reason: String| {
            let mut problem = Problem::in_file(file, root.locate(path), reason);
            problem.path = Some(path.to_owned());
            Box::new(problem)
        };
        if report.cases.len() == MAX_CASES {
            return Err(wrong(&path, format!("more than {MAX_CASES} cases; test fewer files at once")));
        }
        if suite.cases.iter().take(index).any(|earlier| earlier.name == case.name) {
            return Err(wrong(&format!("{path}.name"), format!("two cases have the name {:?}; rename one", case.name)));
        }
        let expected =
            case.expect.check().map_err(|(field, reason)| wrong(&format!("{path}.expect.{field}"), reason))?;
        let got = ask(rules, suite, case).map_err(|reason| wrong(&path, reason))?;
        let mismatches = expected.mismatches(&got);
        report.add(Tested {
            file: file.to_owned(),
            line: root.locate(&path).line,
            name: case.name.clone(),
            passed: mismatches.is_empty(),
            mismatches,
            got,
        });
    }
    Ok(())
}

/// What the policy says of a case.
fn ask(rules: &Rules, suite: &Suite, case: &Case) -> Result<Got, String> {
    let asked = case.action()?;
    let agent = agent(suite, case)?;
    let time = case.time.as_ref().or(suite.time.as_ref());
    let time = time.map(|text| text.parse::<Time>()).transpose().map_err(|error| format!("time: {error}"))?;
    let now_ms = engine::now_or(time);
    let policy = rules.policy_of(&agent, now_ms)?;
    Ok(answer(&asked, &policy, now_ms))
}

fn answer(asked: &Asked, policy: &Policy, now_ms: u64) -> Got {
    match asked.route(policy) {
        Ok(routed) => asked.with_facts(policy, &routed, now_ms, |facts| Got::of(&decide(policy, facts))),
        Err(denial) => Got::denied(&denial),
    }
}

/// The agent of a case; what the case says replaces what its file says.
fn agent(suite: &Suite, case: &Case) -> Result<AgentArgs, String> {
    let name = case.agent.as_ref().or(suite.agent.as_ref());
    let agent = name.map(|text| text.parse()).transpose().map_err(|error| format!("agent: {error}"))?;
    let none = BTreeMap::new();
    let labels = case.labels.as_ref().or(suite.labels.as_ref()).unwrap_or(&none);
    let labels = labels.iter().map(|(key, value)| Label { key: key.clone(), value: value.clone() }).collect();
    Ok(AgentArgs { agent, labels })
}
