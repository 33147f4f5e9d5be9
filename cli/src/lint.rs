//! `lint`: every problem of files, with its place.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::args::{Format, LintArgs};
use crate::folder::{self, Folder, Places};
use crate::output::{self, GOOD, STRONG, problem_line, styled};
use crate::problem::Problem;

/// What `--output json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    files: usize,
    objects: usize,
    errors: usize,
    warnings: usize,
    problems: Vec<Problem>,
}

/// Checks and prints. A warning is a problem: it exits with 1 as well, so that nothing slips through a
/// pipeline unseen.
pub(crate) fn run(args: &LintArgs) -> Result<ExitCode, String> {
    let LintArgs { paths, output } = args;
    let folder = folder::read(paths);
    let problems = check(&folder, paths.first().map_or(Path::new("."), |path| path));
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let report = Report {
        files: folder.files.len(),
        objects: folder.objects().count(),
        errors,
        warnings: problems.len() - errors,
        problems,
    };
    match output {
        Format::Json => output::print_json(&report)?,
        Format::Text => output::print(&text(&report))?,
    }
    Ok(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All problems of a folder, of reading and of compiling, in the order of their places.
pub(crate) fn check(folder: &Folder, root: &Path) -> Vec<Problem> {
    let compilation = clawlock_compile::compile(&folder::resources(folder.objects()));
    let places = Places::of(folder.objects());
    let mut problems: Vec<Problem> = folder.all_problems().cloned().collect();
    problems.extend(compilation.problems.iter().flat_map(|problem| places.locate(problem, root)));
    problems.sort();
    problems.dedup();
    problems
}

fn text(report: &Report) -> String {
    let Report { files, objects, errors, warnings, problems } = report;
    let mut text: String = problems.iter().map(problem_line).collect();
    let count = |number: &usize, one: &str| format!("{number} {one}{}", if *number == 1 { "" } else { "s" });
    let looked = format!("{} in {}", count(objects, "object"), count(files, "file"));
    let line = if problems.is_empty() {
        format!("{}: {looked}\n", styled(GOOD, "no problem"))
    } else {
        let found = format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
        format!("{}: {looked}\n", styled(STRONG, found))
    };
    text.push_str(&line);
    text
}
