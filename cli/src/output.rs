//! What is printed, in which style. Foreign text goes through [`plain`](crate::problem::plain) first.
//! Colours are written always and taken out by the stream where nobody sees them or NO_COLOR is set.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

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
    print_line(text).map(drop)
}

/// Writes a line to the standard output. Says whether somebody still reads.
///
/// # Errors
/// As [`print`].
pub(crate) fn print_line(line: &str) -> Result<bool, String> {
    let mut stdout = anstream::stdout().lock();
    match stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("standard output: {error}")),
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

/// How far a long reading is, on a terminal only, and gone when it ends.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    steps: u64,
    shown: Option<Instant>,
    begun: Option<Instant>,
}

/// How many steps pass before the clock is looked at.
const STEPS: u64 = 4096;
/// How long a reading takes before anything is shown, and between two showings.
const PATIENCE: Duration = Duration::from_millis(500);

impl Progress {
    /// One step further.
    pub(crate) fn step(&mut self) {
        self.steps += 1;
        if !self.steps.is_multiple_of(STEPS) {
            return;
        }
        let now = Instant::now();
        let since = self.shown.unwrap_or(*self.begun.get_or_insert(now));
        if now - since >= PATIENCE && io::stderr().is_terminal() {
            self.shown = Some(now);
            // Whoever cannot read it misses nothing.
            let _ = write!(io::stderr(), "\r{} lines read", self.steps);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
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
