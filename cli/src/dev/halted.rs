//! The halt of a run: it is kept in the state folder, so that neither the end of the agent nor a restart undoes it. There
//! is no operator here that could say it; a person resumes with `--resume`.

use std::io::ErrorKind;
use std::sync::Arc;

use clawlock_proxy::latch;
use clawlock_proxy::policies::PolicyTable;

use super::events::{Event, Teller};
use super::install::Installer;
use super::state::State;
use crate::args::DevArgs;

/// Goes on with a halt of a run before, which a restart must not undo, unless the person at the keyboard resumes.
pub(super) fn keep(args: &DevArgs, state: &State, installer: &Installer) -> Result<(), String> {
    let file = state.path(latch::FILE);
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    if args.resume {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    installer.agent().keep_halt(file.clone(), installer.identity()).map_err(failed)
}

/// Tells of halts. Runs until it is dropped.
pub(super) async fn tell(table: Arc<PolicyTable>, teller: Teller) {
    let mut changed = table.halts_changed();
    loop {
        changed.mark_unchanged();
        for (_, halt) in table.halts() {
            let message = format!("the agent is halted, start again with --resume to resume it: {}", halt.detail);
            teller.tell(Event::Notice { message });
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}
