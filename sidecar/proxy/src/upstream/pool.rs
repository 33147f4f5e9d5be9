//! Idle connections to upstreams. A connection is kept under the digest of the upstream's document, so
//! an edit (other CIDRs, other CA) never meets a connection that was checked by the older one.
//!
//! Written by hand because a general client pool hides the dial from the permit and the checked address.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hyper::client::conn::{http1, http2};
use lru::LruCache;

use crate::body::GateBody;
use crate::limits::{IDLE_PER_HOST, IDLE_TIMEOUT, POOL_KEYS};
use crate::request::Target;

/// What a kept connection was made for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Digest of the upstream's document.
    pub(crate) digest: Arc<str>,
    /// Where it goes.
    pub(crate) target: Target,
}

/// A connection that can take a request.
pub(crate) enum Connection {
    Http1(http1::SendRequest<GateBody>),
    Http2(http2::SendRequest<GateBody>),
}

#[derive(Default)]
struct Kept {
    idle: VecDeque<(Instant, http1::SendRequest<GateBody>)>,
    shared: Option<http2::SendRequest<GateBody>>,
}

/// Kept connections.
pub(crate) struct Pool(Mutex<LruCache<Key, Kept>>);

impl Pool {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(POOL_KEYS.try_into().expect("POOL_KEYS is not zero"))))
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Key, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was used before, if one is left.
    pub(crate) fn take(&self, key: &Key) -> Option<Connection> {
        let mut pool = self.lock();
        let kept = pool.get_mut(key)?;
        if let Some(shared) = &kept.shared {
            if !shared.is_closed() {
                return Some(Connection::Http2(shared.clone()));
            }
            kept.shared = None;
        }
        // The newest first: the others may then grow old and end.
        while let Some((since, sender)) = kept.idle.pop_back() {
            if sender.is_ready() && since.elapsed() < IDLE_TIMEOUT {
                return Some(Connection::Http1(sender));
            }
        }
        None
    }

    /// Keeps an HTTP/1 connection whose exchange is over.
    pub(crate) fn put(&self, key: Key, sender: http1::SendRequest<GateBody>) {
        let mut pool = self.lock();
        let kept = pool.get_or_insert_mut(key, Kept::default);
        while kept.idle.front().is_some_and(|(since, old)| old.is_closed() || since.elapsed() >= IDLE_TIMEOUT) {
            kept.idle.pop_front();
        }
        if kept.idle.len() < IDLE_PER_HOST {
            kept.idle.push_back((Instant::now(), sender));
        }
    }

    /// Keeps an HTTP/2 connection for all.
    pub(crate) fn share(&self, key: Key, sender: http2::SendRequest<GateBody>) {
        self.lock().get_or_insert_mut(key, Kept::default).shared = Some(sender);
    }
}
