//! What is printed, in which style. Foreign text goes through [`plain`](crate::problem::plain) first.
//! Colours are written always and taken out by the stream where nobody sees them or NO_COLOR is set.

use std::fmt::Display;
use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::problem::{Level, Problem, plain};

/// What is good: allowed, in force.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What is bad: refused, broken.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What needs a look.
pub(crate) const NOTICE: Style = AnsiColor::Yellow.on_default();
/// What is beside the point.
pub(crate) const QUIET: Style = AnsiColor::BrightBlack.on_default();
/// Headings.
pub(crate) const STRONG: Style = Style::new().bold();

/// A text in a style.
pub(crate) fn styled(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Prints why a command did not run.
pub(crate) fn error(error: &dyn Display) {
    let text = format!("{} {}\n", styled(BAD, "error:"), plain(&error.to_string()));
    // When even the standard error is gone, nobody is left to be told.
    drop(anstream::stderr().write_all(text.as_bytes()));
}

/// Writes to the standard output.
///
/// # Errors
/// When it cannot be written; a reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}

/// Writes one JSON document to the standard output.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    print(&format!("{text}\n"))
}

/// A problem as a line in colour.
pub(crate) fn problem_line(problem: &Problem) -> String {
    let style = match problem.severity {
        Level::Error => BAD,
        Level::Warning => NOTICE,
    };
    format!(
        "{}: {} {}\n",
        styled(STRONG, problem.place()),
        styled(style, format!("{}:", problem.severity.as_str())),
        problem.text()
    )
}
