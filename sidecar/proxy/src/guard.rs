//! Open streams and changes of policy: every stream carries what it was allowed for, is decided again
//! when the policy changes, and ends when it is no longer allowed. It ends as well when it is idle.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::watch;

use crate::limits::STREAM_IDLE;

/// Why a stream was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// It is no longer allowed.
    #[error("a change of policy no longer allows this stream")]
    Revoked,
    /// Nothing moved for [`STREAM_IDLE`].
    #[error("the stream was idle for too long")]
    Idle,
}

/// Decides again whether what was allowed once is still allowed.
pub trait Recheck: Send + Sync {
    /// Whether it is.
    fn still_allowed(&self) -> bool;
}

/// Two that must both allow it.
struct Both(Arc<dyn Recheck>, Arc<dyn Recheck>);

impl Recheck for Both {
    fn still_allowed(&self) -> bool {
        self.0.still_allowed() && self.1.still_allowed()
    }
}

/// Watches over one direction of a stream.
pub struct Guard {
    recheck: Arc<dyn Recheck>,
    epoch: watch::Receiver<u64>,
    // Made only when the stream has nothing to do: busy streams compare a number per frame.
    waiting: Option<Pin<Box<dyn Future<Output = Cut> + Send + Sync>>>,
}

impl Clone for Guard {
    fn clone(&self) -> Self {
        Self { recheck: self.recheck.clone(), epoch: self.epoch.clone(), waiting: None }
    }
}

impl Guard {
    /// A guard for something that was decided at or after the receiver's last seen epoch.
    #[must_use]
    pub fn new(recheck: Arc<dyn Recheck>, epoch: watch::Receiver<u64>) -> Self {
        Self { recheck, epoch, waiting: None }
    }

    /// A guard that goes on only as long as something else allows it, too.
    #[must_use]
    pub fn and(self, other: Arc<dyn Recheck>) -> Self {
        Self::new(Arc::new(Both(self.recheck, other)), self.epoch)
    }

    /// Decides again if the policy has changed since the last look.
    ///
    /// # Errors
    /// [`Cut::Revoked`] when it is no longer allowed.
    pub fn check(&mut self) -> Result<(), Cut> {
        // An error means that the table is gone, and with it every reason to go on.
        if !self.epoch.has_changed().map_err(|_| Cut::Revoked)? {
            return Ok(());
        }
        self.epoch.mark_unchanged();
        if self.recheck.still_allowed() { Ok(()) } else { Err(Cut::Revoked) }
    }

    /// Notes that the stream moved: idle time starts anew.
    pub fn moved(&mut self) {
        self.waiting = None;
    }

    /// Ready once the stream must end.
    ///
    /// # Errors
    /// Always, once it is ready.
    pub fn poll_revoked(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(wait(self.recheck.clone(), self.epoch.clone())));
        waiting.as_mut().poll(cx).map(Err)
    }

    /// Completes once it is no longer allowed.
    pub fn revoked(&self) -> impl Future<Output = ()> + Send + use<> {
        revoked(self.recheck.clone(), self.epoch.clone())
    }

    /// Runs a future as long as the policy allows it.
    ///
    /// # Errors
    /// When it was cut.
    ///
    /// The future comes pinned: an `async fn` would hold one that it takes by value twice.
    pub async fn run<F: Future>(&self, future: Pin<&mut F>) -> Result<F::Output, Cut> {
        tokio::select! {
            biased;
            // Polled first: what was decided before a change must not take one more step after it.
            () = self.revoked() => Err(Cut::Revoked),
            output = future => Ok(output),
        }
    }
}

async fn wait(recheck: Arc<dyn Recheck>, epoch: watch::Receiver<u64>) -> Cut {
    tokio::select! {
        () = revoked(recheck, epoch) => Cut::Revoked,
        () = tokio::time::sleep(STREAM_IDLE) => Cut::Idle,
    }
}

async fn revoked(recheck: Arc<dyn Recheck>, mut epoch: watch::Receiver<u64>) {
    while epoch.changed().await.is_ok() {
        if !recheck.still_allowed() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    struct Switch(AtomicBool);
    impl Recheck for Switch {
        fn still_allowed(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn a_change_that_still_allows_goes_on_and_one_that_does_not_cuts() {
        let switch = Arc::new(Switch(AtomicBool::new(true)));
        let (sender, receiver) = watch::channel(0);
        let mut guard = Guard::new(switch.clone(), receiver);
        sender.send(1).unwrap();
        assert_eq!(guard.check(), Ok(()));
        let never = std::pin::pin!(std::future::pending::<()>());
        let never = guard.run(never);
        let change = async {
            switch.0.store(false, Ordering::SeqCst);
            sender.send(2).unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            cut = never => assert_eq!(cut, Err(Cut::Revoked)),
            () = change => unreachable!(),
        }
        assert_eq!(guard.check(), Err(Cut::Revoked));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_stream() {
        let (_sender, receiver) = watch::channel(0);
        let mut guard = Guard::new(Arc::new(Switch(AtomicBool::new(true))), receiver);
        let cut = std::future::poll_fn(|cx| guard.poll_revoked(cx)).await;
        assert_eq!(cut, Err(Cut::Idle));
    }
}
