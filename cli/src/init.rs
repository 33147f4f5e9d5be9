//! `init`: a starter folder. The starter is one file of at most 30 lines that lints without a problem.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::args::InitArgs;
use crate::output::{self, QUIET, STRONG, styled};
use crate::problem::plain;

/// The file's name.
const FILE: &str = "clawlock.yaml";

/// The starter.
pub(crate) const STARTER: &str = include_str!("init/clawlock.yaml");

/// Writes the starter.
pub(crate) fn run(args: &InitArgs) -> Result<ExitCode, String> {
    let InitArgs { folder, force } = args;
    let path = folder.join(FILE);
    fs::create_dir_all(folder).map_err(|error| format!("{}: cannot be made: {error}", folder.display()))?;
    write(&path, *force)?;
    output::print(&next_steps(folder, &path))?;
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, force: bool) -> Result<(), String> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let result = options.open(path).and_then(|mut file| file.write_all(STARTER.as_bytes()));
    result.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => format!("{} is there already; pass --force to replace it", path.display()),
        _ => format!("{} cannot be written: {error}", path.display()),
    })
}

fn next_steps(folder: &Path, path: &Path) -> String {
    let folder = plain(&folder.display().to_string());
    format!(
        "{} {}\n\n{}\n  export OPENAI_KEY=...\n  clawlock dev --folder {folder} --secret openai/key=env:OPENAI_KEY -- openclaw gateway run\n\n{}\n",
        styled(STRONG, "wrote"),
        plain(&path.display().to_string()),
        styled(STRONG, "next"),
        styled(QUIET, "clawlock dev --help says what is confined and what is not."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder;

    #[test]
    fn the_starter_has_at_most_30_lines_and_no_problem() {
        assert!(STARTER.lines().count() <= 30, "{} lines", STARTER.lines().count());
        let content = folder::parse(FILE.into(), STARTER);
        assert_eq!(content.problems, []);
        assert_eq!(content.objects.len(), 3);
        let compilation = clawlock_compile::compile(&folder::resources(&content.objects));
        assert_eq!(compilation.problems, []);
        assert_eq!(compilation.tenants().count(), 1);
    }
}
