//! Graceful end: listeners stop, open requests finish, and after a bound the rest is cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::listen::Place;

/// Ends everything that watches it.
pub struct Drain {
    begin: watch::Sender<bool>,
    // Every watcher holds a sender; the receiver ends when the last one is gone.
    done: mpsc::Receiver<()>,
    watcher: Watcher,
}

/// Held by everything that must end gracefully.
#[derive(Clone)]
pub struct Watcher {
    begin: watch::Receiver<bool>,
    _alive: Arc<mpsc::Sender<()>>,
    place: Option<Place>,
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new() -> Self {
        let (begin, receiver) = watch::channel(false);
        let (alive, done) = mpsc::channel(1);
        Self { begin, done, watcher: Watcher { begin: receiver, _alive: Arc::new(alive), place: None } }
    }

    /// What listeners and connections watch.
    #[must_use]
    pub fn watcher(&self) -> Watcher {
        self.watcher.clone()
    }

    /// Begins, and waits until every watcher is gone, at most for `bound`. Answers whether they were.
    pub async fn finish(self, bound: Duration) -> bool {
        let Self { begin, mut done, watcher } = self;
        drop(watcher);
        begin.send_replace(true);
        tokio::time::timeout(bound, done.recv()).await.is_ok()
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Watcher {
    /// The same, for a connection that has a place.
    pub(crate) fn holding(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The connection's place.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Completes when the drain has begun.
    pub async fn begun(&mut self) {
        // An error means that the drain itself is gone, which is an end as well.
        drop(self.begin.wait_for(|begun| *begun).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_waits_for_the_last_watcher() {
        let drain = Drain::new();
        let mut first = drain.watcher();
        let second = first.clone();
        let task = tokio::spawn(async move {
            first.begun().await;
            drop(second);
        });
        assert!(drain.finish(Duration::from_secs(5)).await);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn it_gives_up_after_its_bound() {
        let drain = Drain::new();
        let _held = drain.watcher();
        assert!(!drain.finish(Duration::from_millis(10)).await);
    }
}
