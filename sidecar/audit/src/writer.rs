//! A sink that appends records as lines of JSON, and one that shows them to a person on the way.
//!
//! One thread owns the writer, so a disk that hangs can never hang the data path: committers wait
//! for the thread's answer with a bound. Records that queue up while a write is under way go out
//! together in the next one (group commit). There is no state to reset after a failure: the next
//! batch simply tries again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::Record;
use crate::sink::{AuditError, AuditSink, COMMIT_TIMEOUT, Commit, Receipt};

/// Most records that wait for the writer. At 50,000 decisions per second this is 80 ms of work,
/// well within [`COMMIT_TIMEOUT`]; more than that would time out anyway.
pub const QUEUE: usize = 4096;

/// Records that come closer together than this are likely to have company: the writer is then woken
/// only after everything that is ready has run.
const BUSY: Duration = Duration::from_micros(100);

struct Waiting {
    record: Record,
    answer: oneshot::Sender<Result<Receipt, AuditError>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    closed: bool,
    // When the last record came.
    last: Option<Instant>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Condvar,
}

impl Shared {
    // A poisoned lock still guards a valid queue: pushes and swaps cannot stop half-way.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Appends one line of JSON per record.
pub struct JsonLines {
    shared: Arc<Shared>,
    timeout: Duration,
}

impl JsonLines {
    /// Appends to a file, which is created with mode 0600.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread cannot be started.
    pub fn append(path: &Path) -> io::Result<Self> {
        let file: File = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Self::new(file)
    }

    /// Appends to a writer, with the bound [`COMMIT_TIMEOUT`].
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn new(writer: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = shared.clone();
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || write_batches(&thread, writer))?;
        Ok(Self { shared, timeout: COMMIT_TIMEOUT })
    }

    fn enqueue(&self, record: Record) -> Result<Queued<'_>, AuditError> {
        let (answer, receiver) = oneshot::channel();
        let mut queue = self.shared.lock();
        if queue.waiting.len() >= QUEUE {
            return Err(AuditError::Full(QUEUE));
        }
        queue.waiting.push(Waiting { record, answer });
        let first = queue.waiting.len() == 1;
        let now = Instant::now();
        let busy = queue.last.replace(now).is_some_and(|last| now - last < BUSY);
        drop(queue);
        Ok(Queued { answer: receiver, wake: first.then(|| Wake(&self.shared)), busy })
    }
}

/// A record that waits.
struct Queued<'a> {
    answer: oneshot::Receiver<Result<Receipt, AuditError>>,
    /// The first of a batch wakes the writer.
    wake: Option<Wake<'a>>,
    /// Records come in quick succession.
    busy: bool,
}

/// Wakes the writer when it is dropped, so also when its committer gives up.
struct Wake<'a>(&'a Shared);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.ready.notify_one();
    }
}

impl AuditSink for JsonLines {
    fn commit(&self, record: Record) -> Commit<'_> {
        let queued = self.enqueue(record);
        Box::pin(async move {
            let Queued { mut answer, wake, busy } = queued?;
            if busy && wake.is_some() {
                // Whoever is ready to run may add a record first: one wake-up of the writer then serves all
                // of them, where each would cost two switches between threads.
                tokio::task::yield_now().await;
            }
            drop(wake);
            if !busy {
                // A healthy writer needs some microseconds, less than it takes to park this thread and wake
                // it again. Yielding the core once, never more, is what it gets.
                std::thread::yield_now();
                if let Ok(result) = answer.try_recv() {
                    return result;
                }
            }
            match tokio::time::timeout(self.timeout, answer).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(AuditError::Failed("the writer has stopped".to_owned())),
                Err(_) => Err(AuditError::Timeout(self.timeout)),
            }
        })
    }
}

impl Drop for JsonLines {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.ready.notify_one();
    }
}

fn write_batches(shared: &Shared, mut writer: impl Write) {
    let mut lines = Vec::new();
    let mut batch = Vec::new();
    let mut torn = false;
    loop {
        {
            let mut queue = shared.lock();
            while queue.waiting.is_empty() && !queue.closed {
                queue = shared.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.waiting.is_empty() {
                return;
            }
            std::mem::swap(&mut queue.waiting, &mut batch);
        }
        // Whoever stopped waiting was denied: its record would claim what did not happen.
        batch.retain(|waiting| !waiting.answer.is_closed());
        lines.clear();
        if torn {
            lines.push(b'\n');
        }
        let result =
            serialise(&batch, &mut lines).and_then(|()| writer.write_all(&lines)).and_then(|()| writer.flush());
        torn = result.is_err();
        for waiting in batch.drain(..) {
            let answer = match &result {
                Ok(()) => Ok(Receipt(())),
                Err(error) => Err(AuditError::Failed(error.to_string())),
            };
            // The committer may have just given up; then nobody is left to be told.
            drop(waiting.answer.send(answer));
        }
    }
}

fn serialise(batch: &[Waiting], lines: &mut Vec<u8>) -> io::Result<()> {
    for waiting in batch {
        serde_json::to_writer(&mut *lines, &waiting.record)?;
        lines.push(b'\n');
    }
    Ok(())
}

/// Passes records on and shows a copy of those that were written to whoever listens. A listener that
/// is too slow misses records; the log does not.
pub struct Tap<S> {
    inner: S,
    shown: mpsc::Sender<Record>,
}

impl<S: AuditSink> Tap<S> {
    /// Wraps a sink; `shown` receives the copies.
    pub fn new(inner: S, shown: mpsc::Sender<Record>) -> Self {
        Self { inner, shown }
    }
}

impl<S: AuditSink> AuditSink for Tap<S> {
    fn commit(&self, record: Record) -> Commit<'_> {
        let copy = record.clone();
        let commit = self.inner.commit(record);
        Box::pin(async move {
            let receipt = commit.await?;
            // A full channel means a slow terminal; the record itself is safe.
            drop(self.shown.try_send(copy));
            Ok(receipt)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActionRecord, Gate, Latency, Outcome};
    use std::sync::atomic::{AtomicBool, Ordering};

    fn record(id: &str) -> Record {
        Record {
            version: crate::record::RECORD_VERSION,
            time_ms: 1,
            request_id: id.into(),
            gate: Gate::Gateway,
            tenant: "acme".into(),
            workload: "spiffe://acme.example/ns/acme/sa/default/pod/1".into(),
            action: ActionRecord::Tool { tool: "exec".to_owned(), call_id: None },
            outcome: Outcome { verdict: "allow", ..Outcome::reported(1) },
            latency_us: Latency::default(),
        }
    }

    #[derive(Clone, Default)]
    struct Fickle {
        broken: Arc<AtomicBool>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Fickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.broken.load(Ordering::SeqCst) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_receipt_means_that_the_line_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let sink = JsonLines::append(&path).unwrap();
        let _receipt = sink.commit(record("a")).await.unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(value["requestId"], "a");
    }

    #[tokio::test]
    async fn a_full_disk_refuses() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let sink = JsonLines::new(full).unwrap();
        assert!(matches!(sink.commit(record("a")).await, Err(AuditError::Failed(_))));
        assert!(matches!(sink.commit(record("b")).await, Err(AuditError::Failed(_))));
    }

    #[tokio::test]
    async fn a_failed_sink_refuses_and_recovers_alone() {
        let medium = Fickle::default();
        let sink = JsonLines::new(medium.clone()).unwrap();
        medium.broken.store(true, Ordering::SeqCst);
        assert!(sink.commit(record("lost")).await.is_err());
        medium.broken.store(false, Ordering::SeqCst);
        let _receipt = sink.commit(record("kept")).await.unwrap();
        let text = String::from_utf8(medium.written.lock().unwrap().clone()).unwrap();
        let records: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(records.len(), 1, "{text:?}");
        assert!(records[0].contains("kept"));
    }

    #[tokio::test]
    async fn a_writer_that_hangs_refuses_after_its_bound() {
        // A pipe that nobody reads: the writer blocks once the pipe is full.
        let (_reader, mut filler) = io::pipe().unwrap();
        let sink_end = filler.try_clone().unwrap();
        std::thread::spawn(move || filler.write_all(&vec![b' '; 1 << 20]).ok());
        let sink = JsonLines::new(sink_end).unwrap();
        // The filler may win or lose the race for the last page; once it is full a commit must time out.
        let mut last = Ok(());
        for n in 0..2000 {
            last = sink.commit(record(&format!("{n}"))).await.map(|_| ());
            if last.is_err() {
                break;
            }
        }
        assert_eq!(last, Err(AuditError::Timeout(COMMIT_TIMEOUT)));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (_reader, mut blocked) = io::pipe().unwrap();
        blocked.write_all(&vec![b' '; 1 << 16]).unwrap();
        let sink = JsonLines::new(blocked).unwrap();
        // The writer takes what has come until it wakes, at most a full queue, and then blocks; the next queue fills.
        let commits: Vec<_> = (0..=2 * QUEUE).map(|n| sink.enqueue(record(&n.to_string()))).collect();
        assert!(commits.iter().any(|c| matches!(c, Err(AuditError::Full(QUEUE)))));
    }

    #[tokio::test]
    async fn class16_a_record_is_one_parseable_line() {
        let medium = Fickle::default();
        let sink = JsonLines::new(medium.clone()).unwrap();
        let mut hostile = record("a");
        let text = "x\n{\"verdict\":\"allow\"}\r\u{1b}[31m\"\u{2028}";
        hostile.action = ActionRecord::Tool { tool: text.to_owned(), call_id: Some(text.to_owned()) };
        let _receipt = sink.commit(hostile).await.unwrap();
        let written = String::from_utf8(medium.written.lock().unwrap().clone()).unwrap();
        assert_eq!(written.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(value["action"]["tool"], text);
    }
}
