//! Accepting connections: bounded in number, watched by the drain.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::drain::Watcher;
use crate::metrics::Metrics;

/// How long to wait when accepting fails because file descriptors ran out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A socket that accepts.
pub(crate) trait Listen: Send {
    /// What it accepts.
    type Stream: Send + 'static;
    /// Accepts one connection.
    fn accept(&self) -> impl Future<Output = std::io::Result<Self::Stream>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    async fn accept(&self) -> std::io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    async fn accept(&self) -> std::io::Result<UnixStream> {
        Ok(UnixListener::accept(self).await?.0)
    }
}

/// A place among the connections that are open at once. It is given back when its last clone is gone: a
/// tunnel or WebSocket holds it on, although the connection that it was has ended as such.
#[derive(Clone)]
pub(crate) struct Place {
    _held: Arc<Held>,
}

struct Held {
    metrics: Arc<Metrics>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(permit: OwnedSemaphorePermit, metrics: Arc<Metrics>) -> Self {
        metrics.connections.inc();
        Self { _held: Arc::new(Held { metrics, _permit: permit }) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.metrics.connections.dec();
    }
}

/// Accepts until the drain begins, at most `limit` connections at once; each is served by a task.
pub(crate) async fn accept<L, F, S>(listener: L, limit: usize, metrics: Arc<Metrics>, mut drain: Watcher, serve: F)
where
    L: Listen,
    F: Fn(L::Stream, Watcher) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limit));
    let watcher = drain.clone();
    loop {
        let place = tokio::select! {
            () = drain.begun() => return,
            place = places.clone().acquire_owned() => place.expect("the semaphore is never closed"),
        };
        let stream = tokio::select! {
            () = drain.begun() => return,
            stream = listener.accept() => stream,
        };
        match stream {
            Ok(stream) => {
                let place = Place::new(place, metrics.clone());
                tokio::spawn(serve(stream, watcher.clone().holding(place)));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}
