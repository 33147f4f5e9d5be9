//! Which streams each pod has. The newest win: a pod that reconnects must not be kept out by the stream
//! that it lost and nobody has missed yet.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::limits::STREAMS_PER_POD;

/// The streams of all pods.
#[derive(Default)]
pub(crate) struct Streams {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    next: u64,
    pods: HashMap<String, VecDeque<(u64, oneshot::Sender<()>)>>,
}

/// A stream that is open.
pub(crate) struct Open {
    streams: Arc<Streams>,
    uid: String,
    id: u64,
}

impl Streams {
    /// A stream of a pod begins. The receiver resolves when a newer one takes its place.
    pub(crate) fn open(self: &Arc<Self>, uid: &str) -> (Open, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let id = inner.next;
        inner.next += 1;
        let pod = inner.pods.entry(uid.to_owned()).or_default();
        pod.push_back((id, sender));
        while pod.len() > STREAMS_PER_POD {
            if let Some((_, oldest)) = pod.pop_front() {
                // It may have ended by itself.
                let _ = oldest.send(());
            }
        }
        (Open { streams: self.clone(), uid: uid.to_owned(), id }, receiver)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut inner = self.streams.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pod) = inner.pods.get_mut(&self.uid) {
            pod.retain(|(id, _)| *id != self.id);
            if pod.is_empty() {
                inner.pods.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_streams_of_a_pod_win() {
        let streams = Arc::new(Streams::default());
        let (_one, mut first) = streams.open("a");
        let (_two, mut second) = streams.open("a");
        let (_other, mut other) = streams.open("b");
        assert!(first.try_recv().is_err());
        let (_three, mut third) = streams.open("a");
        assert_eq!(first.try_recv(), Ok(()));
        assert!(second.try_recv().is_err() && third.try_recv().is_err() && other.try_recv().is_err());
    }

    #[test]
    fn what_has_ended_is_forgotten() {
        let streams = Arc::new(Streams::default());
        drop(streams.open("a"));
        assert!(streams.inner.lock().unwrap().pods.is_empty());
    }
}
