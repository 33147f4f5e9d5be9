//! Says when to look at the folder again. The kernel's events come at once; a slow poll beside them finds
//! what they miss (network file systems, a folder that was moved away and back, files behind links).

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// How long the folder must be quiet before it is read: editors write, rename and change modes in a few
/// steps. A policy edit must be decided by in under 100 ms, and this is the larger part of it.
const QUIET: Duration = Duration::from_millis(15);

/// How long a folder that is never quiet can put off a look at it.
const PATIENCE: Duration = Duration::from_millis(60);

/// How often the poll looks.
const POLL: Duration = Duration::from_secs(2);

/// Why the wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something may have changed.
    Changed,
    /// The time for the poll has come.
    Poll,
    /// The process ends.
    Stop,
}

enum Signal {
    Changed,
    Stop,
}

/// Waits for changes.
pub(super) struct Watch {
    folder: PathBuf,
    signals: Receiver<Signal>,
    // Dropped, it stops watching.
    watcher: Option<RecommendedWatcher>,
    next_poll: Instant,
}

/// Ends the wait.
pub(super) struct Stopper(SyncSender<Signal>);

impl Stopper {
    /// Ends it; waits until the signal is taken.
    pub(super) fn stop(&self) {
        // An error means that nobody waits any more.
        drop(self.0.send(Signal::Stop));
    }
}

impl Watch {
    /// Watches a folder. Answers a remark when only the poll is left.
    pub(super) fn start(folder: &Path) -> (Self, Stopper, Option<String>) {
        // One waiting signal stands for any number of changes.
        let (sender, signals) = mpsc::sync_channel(1);
        let changed = sender.clone();
        let handler = move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, concerns) {
                drop(changed.try_send(Signal::Changed));
            }
        };
        let watcher = notify::recommended_watcher(handler).and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        let (watcher, remark) = match watcher {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => {
                let seconds = POLL.as_secs();
                (None, Some(format!("the folder cannot be watched ({error}); it is looked at every {seconds} s")))
            }
        };
        let next_poll = Instant::now() + POLL;
        (Self { folder: folder.to_owned(), signals, watcher, next_poll }, Stopper(sender), remark)
    }

    /// Watches again what the folder is now: the kernel follows what it was, also when it was moved away
    /// or is a link that points elsewhere now.
    pub(super) fn renew(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            // What was watched may be gone; and what cannot be watched is still polled.
            drop(watcher.unwatch(&self.folder));
            drop(watcher.watch(&self.folder, RecursiveMode::Recursive));
        }
    }

    /// Waits for the next reason to look.
    pub(super) fn wait(&mut self) -> Woken {
        match self.signals.recv_timeout(self.next_poll.saturating_duration_since(Instant::now())) {
            Ok(Signal::Changed) => self.settle(),
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => Woken::Stop,
            Err(RecvTimeoutError::Timeout) => {
                self.next_poll = Instant::now() + POLL;
                Woken::Poll
            }
        }
    }

    fn settle(&self) -> Woken {
        let latest = Instant::now() + PATIENCE;
        loop {
            let left = latest.saturating_duration_since(Instant::now());
            match self.signals.recv_timeout(QUIET.min(left)) {
                Ok(Signal::Changed) if !left.is_zero() => {}
                Ok(Signal::Changed) | Err(RecvTimeoutError::Timeout) => return Woken::Changed,
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return Woken::Stop,
            }
        }
    }
}

/// Whether an event may be about policy: our own reading is not, and neither is a log beside it.
fn concerns(event: &Event) -> bool {
    let written = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    };
    // A name without extension may be a folder or a link such as `..data`.
    let policy = |path: &PathBuf| {
        path.extension().is_none_or(|extension| extension == "yaml" || extension == "yml")
            || path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".."))
    };
    written && (event.paths.is_empty() || event.paths.iter().any(policy))
}

/// What tells one state of files from another without reading them.
pub(super) type Fingerprint = Vec<(PathBuf, Option<(u64, u64, Option<SystemTime>)>)>;

/// The fingerprint of files.
pub(super) fn fingerprint(files: impl IntoIterator<Item = PathBuf>) -> Fingerprint {
    use std::os::unix::fs::MetadataExt as _;
    let look = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.ino(), metadata.len(), metadata.modified().ok()))
    };
    files.into_iter().map(|path| (path.clone(), look(&path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, ModifyKind};

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(path.into())
    }

    #[test]
    fn reading_and_logs_are_no_change() {
        let close = |mode| EventKind::Access(AccessKind::Close(mode));
        assert!(concerns(&event(EventKind::Modify(ModifyKind::Any), "/p/a.yaml")));
        assert!(concerns(&event(close(AccessMode::Write), "/p/a.yml")));
        assert!(concerns(&event(EventKind::Create(CreateKind::Any), "/p/..data")));
        assert!(concerns(&event(EventKind::Create(CreateKind::Any), "/p/..2026_01_01.123")));
        assert!(concerns(&event(EventKind::Create(CreateKind::Folder), "/p/sub")));
        assert!(!concerns(&event(close(AccessMode::Read), "/p/a.yaml")));
        assert!(!concerns(&event(EventKind::Access(AccessKind::Open(AccessMode::Read)), "/p/a.yaml")));
        assert!(!concerns(&event(EventKind::Modify(ModifyKind::Any), "/p/decisions.jsonl")));
    }

    #[test]
    fn a_change_wakes_and_so_does_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (mut watch, stopper, remark) = Watch::start(dir.path());
        assert_eq!(remark, None);
        std::fs::write(dir.path().join("a.yaml"), "x").unwrap();
        assert_eq!(watch.wait(), Woken::Changed);
        stopper.stop();
        // A second event of the same write may come first.
        while watch.wait() != Woken::Stop {}
    }

    #[test]
    fn a_link_that_points_elsewhere_is_watched_there() {
        let dir = tempfile::tempdir().unwrap();
        let current = dir.path().join("current");
        for version in ["1", "2"] {
            std::fs::create_dir(dir.path().join(version)).unwrap();
        }
        std::os::unix::fs::symlink("1", &current).unwrap();
        let (mut watch, _stopper, _) = Watch::start(&current);
        std::fs::remove_file(&current).unwrap();
        std::os::unix::fs::symlink("2", &current).unwrap();
        watch.renew();
        std::fs::write(dir.path().join("2/a.yaml"), "x").unwrap();
        // Without the renewal only the poll would come.
        while watch.wait() != Woken::Changed {}
    }

    #[test]
    fn the_fingerprint_follows_content_and_links() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        let of = || fingerprint([path.clone()]);
        let absent = of();
        std::fs::write(&path, "x").unwrap();
        let first = of();
        assert_ne!(absent, first);
        assert_eq!(first, of());
        std::fs::write(&path, "longer").unwrap();
        assert_ne!(first, of());
    }
}
