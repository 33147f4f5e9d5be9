//! The ledger on disk: a line per change, written anew when it has grown. In a pod the folder is in memory
//! and ends with the pod, as the ledger should. A write takes microseconds there, so it is done in place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::llm::ledger::{CALLS, Ledger, Line};

/// The file's name.
const NAME: &str = "calls.jsonl";

/// Lines after which the file is written anew: each call makes three.
const LINES: usize = 8 * CALLS.get();

/// Largest file that is read back: more than [`LINES`] of the usual size, so that a broken one takes no memory.
const SIZE: u64 = 64 * 1024 * 1024;

/// The file of one pod's ledger.
pub(super) struct Journal {
    path: PathBuf,
    // `None` after a write has failed.
    file: Option<File>,
    lines: usize,
}

impl Journal {
    /// Opens it, and reads what it holds. What cannot be read is as if it had not been: a line that a killed
    /// process left half, or a file that is no journal.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Ledger)> {
        let path = folder.join(NAME);
        let mut ledger = Ledger::default();
        match File::open(&path) {
            Ok(file) if file.metadata()?.len() <= SIZE => {
                for line in BufReader::new(file).split(b'\n') {
                    match serde_json::from_slice::<Line>(&line?) {
                        Ok(line) => ledger.restore(line),
                        Err(error) => tracing::warn!(%error, "a line of the ledger of tool calls cannot be read"),
                    }
                }
            }
            Ok(_) => tracing::warn!("the ledger of tool calls is too large and was left"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut journal = Self { path, file: None, lines: 0 };
        journal.rewrite(&ledger)?;
        Ok((journal, ledger))
    }

    /// Writes changes down.
    pub(super) fn write(&mut self, changes: &[Line], ledger: &Ledger) {
        if changes.is_empty() {
            return;
        }
        self.lines += changes.len();
        let written = match &mut self.file {
            Some(file) if self.lines <= LINES => file.write_all(&encode(changes)),
            _ => self.rewrite(ledger),
        };
        if let Err(error) = written {
            // A part of it would be worse than nothing: what is missing would look like disobedience.
            tracing::warn!(%error, "the ledger of tool calls cannot be written; it will not outlive this process");
            self.file = None;
            if let Err(error) = fs::remove_file(&self.path) {
                tracing::warn!(%error, "nor can it be removed");
            }
        }
    }

    fn rewrite(&mut self, ledger: &Ledger) -> io::Result<()> {
        let lines = ledger.lines();
        let beside = self.path.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&encode(&lines))?;
        fs::rename(&beside, &self.path)?;
        (self.file, self.lines) = (Some(file), lines.len());
        Ok(())
    }
}

fn encode(lines: &[Line]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(lines.len() * 128);
    for line in lines {
        // Strings, booleans and lists of them, written to memory.
        serde_json::to_writer(&mut bytes, line).expect("a line has only serialisable members");
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Asked;
    use crate::llm::ledger::Decided;

    fn text(ledger: &Ledger) -> Vec<u8> {
        encode(&ledger.lines())
    }

    fn call(ledger: &mut Ledger, n: usize) {
        let id = format!("call_{n}");
        ledger.asked(&Asked::Begun { id: id.clone(), name: "exec".to_owned() });
        ledger.decided(Decided { call_id: &id, tool: "exec", arguments: "{}", denial: Some("no") });
    }

    #[test]
    fn what_was_written_is_read_also_after_a_half_line() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, mut ledger) = Journal::open(folder.path()).unwrap();
        for n in 0..3 {
            call(&mut ledger, n);
            journal.write(&ledger.changes(), &ledger);
        }
        let path = folder.path().join(NAME);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"k\":\"call").unwrap();
        let (_, again) = Journal::open(folder.path()).unwrap();
        assert_eq!(text(&again), text(&ledger));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3, "written anew");
        fs::write(&path, "\0garbage\n[]\n").unwrap();
        assert!(Journal::open(folder.path()).unwrap().1.is_empty());
    }

    #[test]
    fn the_file_stays_small_and_a_lost_one_is_no_half_one() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, mut ledger) = Journal::open(folder.path()).unwrap();
        for n in 0..LINES {
            call(&mut ledger, n % 10);
            journal.write(&ledger.changes(), &ledger);
        }
        let lines = fs::read_to_string(folder.path().join(NAME)).unwrap().lines().count();
        assert!(lines <= LINES, "{lines}");
        journal.file = Some(File::open(folder.path().join(NAME)).unwrap());
        call(&mut ledger, 1);
        journal.write(&ledger.changes(), &ledger);
        assert!(!folder.path().join(NAME).exists(), "it could not be written");
        call(&mut ledger, 2);
        journal.write(&ledger.changes(), &ledger);
        assert_eq!(text(&Journal::open(folder.path()).unwrap().1), text(&ledger), "all of it is there again");
    }
}
