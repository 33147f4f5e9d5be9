//! `lint`: every problem of files, with its place.

use std::path::Path;
use std::process::ExitCode;

use clawlock_compile::{Compilation, Tenant, Topic};
use serde::Serialize;

use crate::args::{Format, LintArgs};
use crate::folder::{self, Folder, Places};
use crate::output::{self, GOOD, STRONG, problem_line, styled};
use crate::problem::{Fix, Problem};
use crate::suggest::nearest;

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
    judge(folder, root).0
}

/// All problems of a folder, and what it came to.
pub(crate) fn judge(folder: &Folder, root: &Path) -> (Vec<Problem>, Compilation) {
    let compilation = clawlock_compile::compile(&folder::resources(folder.objects()));
    let places = Places::of(folder.objects());
    let names = Names::of(&compilation);
    let mut problems: Vec<Problem> = folder.all_problems().cloned().collect();
    for problem in &compilation.problems {
        let mut located = places.locate(problem, root);
        if problem.topic == Topic::Reference {
            let fix = places.text(problem).and_then(|text| names.fix(&problem.path, text));
            located.iter_mut().for_each(|problem| problem.fix.clone_from(&fix));
        }
        problems.extend(located);
    }
    problems.sort();
    problems.dedup();
    (problems, compilation)
}

/// What rules can refer to.
struct Names {
    upstreams: Vec<String>,
    operations: Vec<String>,
}

impl Names {
    fn of(compilation: &Compilation) -> Self {
        let upstreams = || compilation.tenants().flat_map(Tenant::upstreams);
        let operations = upstreams()
            .flat_map(|up| up.operations.iter().map(move |operation| format!("{}.{}", up.name, operation.name)));
        Self { upstreams: upstreams().map(|up| up.name.clone()).collect(), operations: operations.collect() }
    }

    /// What was probably meant by a reference that leads nowhere.
    fn fix(&self, path: &str, text: &str) -> Option<Fix> {
        let names = match path.rsplit('.').next()? {
            field if field.starts_with("upstreams[") => &self.upstreams,
            field if field.starts_with("operations[") => &self.operations,
            _ => return None,
        };
        let with = nearest(text, names.iter().map(String::as_str))?;
        Some(Fix { replace: text.to_owned(), with: with.to_owned() })
    }
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
