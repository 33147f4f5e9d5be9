//! Reports that count only once something has come of them: they are sent again until it has. The stream may break after
//! one was taken, and the operator may be away.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::ToServer;

/// How often what is pending is sent again. What comes of it takes less than a second when all is well.
const REPEAT: Duration = Duration::from_secs(5);

/// Sends what is pending: when it changes, and again from time to time. Runs until nobody takes reports any more.
pub async fn repeat(
    pending: impl Fn() -> Vec<ToServer>,
    mut changed: watch::Receiver<u64>,
    reports: mpsc::Sender<ToServer>,
) {
    loop {
        changed.mark_unchanged();
        let all = pending();
        let unsettled = !all.is_empty();
        // What is in the queue still says the same, and must not fill it for others.
        let free = reports.capacity() == reports.max_capacity();
        for report in all.into_iter().filter(|_| free) {
            if reports.send(report).await.is_err() {
                return;
            }
        }
        let ended = if unsettled {
            matches!(timeout(REPEAT, changed.changed()).await, Ok(Err(_)))
        } else {
            changed.changed().await.is_err()
        };
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn halted(reason: &str) -> ToServer {
        ToServer::Halted { identity: "spiffe://x".to_owned(), reason: reason.to_owned(), rule: None }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_pending_is_sent_at_once_and_again_until_it_is_not() {
        let pending: Arc<Mutex<Vec<ToServer>>> = Arc::default();
        let (bell, changed) = watch::channel(0);
        let (sender, mut reports) = mpsc::channel(4);
        let source = pending.clone();
        let task = tokio::spawn(repeat(move || source.lock().unwrap().clone(), changed, sender));
        tokio::time::sleep(REPEAT * 3).await;
        assert!(reports.try_recv().is_err(), "there is nothing to say");
        pending.lock().unwrap().push(halted("one"));
        bell.send_replace(1);
        for _ in 0..3 {
            assert_eq!(reports.recv().await, Some(halted("one")));
        }
        // Nobody takes it: it waits once, and leaves room for others.
        tokio::time::sleep(REPEAT * 10).await;
        assert_eq!(reports.len(), 1);
        pending.lock().unwrap().clear();
        bell.send_replace(2);
        assert_eq!(reports.recv().await, Some(halted("one")));
        tokio::time::sleep(REPEAT * 3).await;
        assert!(reports.try_recv().is_err());
        drop(bell);
        task.await.unwrap();
    }
}
