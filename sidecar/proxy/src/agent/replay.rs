//! Answers of `/v1/decide` by request id: a client that repeats a request after a broken connection gets
//! the first answer, and the log one record. A repeated id is decided anew once the policy has changed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aws_lc_rs::digest::{Digest, SHA256, digest};
use bytes::Bytes;
use lru::LruCache;
use tokio::sync::OnceCell;

use crate::limits::{DECIDE_REPLAY_TIME, DECIDE_REPLAYS};

/// The place of one answer.
pub(super) type Place = Arc<OnceCell<Answer>>;

/// An answer, and what is still to be heard of its call.
#[derive(Debug)]
pub(super) struct Answer {
    /// What the client gets.
    pub(super) bytes: Bytes,
    allowed: Option<Allowed>,
    reported: AtomicBool,
}

/// A call that was allowed.
#[derive(Clone, Debug)]
pub(super) struct Allowed {
    /// The tool, cut to the size of a record's field.
    pub(super) tool: String,
    /// Generation of the assignment by which it was allowed.
    pub(super) generation: u64,
}

impl Answer {
    pub(super) fn new(bytes: Bytes, allowed: Option<Allowed>) -> Self {
        Self { bytes, allowed, reported: AtomicBool::new(false) }
    }

    /// The call, if it was allowed and nobody has reported on it yet. Whoever gets it reports.
    pub(super) fn claim(&self) -> Option<Allowed> {
        let allowed = self.allowed.clone()?;
        (!self.reported.swap(true, Ordering::AcqRel)).then_some(allowed)
    }

    /// Takes a claim back: the report could not be recorded.
    pub(super) fn unclaim(&self) {
        self.reported.store(false, Ordering::Release);
    }
}

struct Entry {
    body: Digest,
    generation: u64,
    since: Instant,
    place: Place,
}

/// The last answers.
pub(super) struct Replays(Mutex<LruCache<Box<str>, Entry>>);

/// The id was used for another request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conflict;

impl Replays {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(DECIDE_REPLAYS.try_into().expect("DECIDE_REPLAYS is not zero"))))
    }

    /// The place for the answer to a request, new or known.
    pub(super) fn place(&self, id: &str, body: &[u8], generation: u64) -> Result<Place, Conflict> {
        let body = digest(&SHA256, body);
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(id)
            && entry.since.elapsed() < DECIDE_REPLAY_TIME
        {
            if entry.body.as_ref() != body.as_ref() {
                return Err(Conflict);
            }
            if entry.generation == generation {
                return Ok(entry.place.clone());
            }
        }
        let place = Place::default();
        let entry = Entry { body, generation, since: Instant::now(), place: place.clone() };
        entries.put(id.into(), entry);
        Ok(place)
    }

    /// The place of an answer that was given, however long ago.
    pub(super) fn given(&self, id: &str) -> Option<Place> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(id).map(|entry| entry.place.clone())
    }

    /// Forgets an answer that another try may improve.
    pub(super) fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_request_finds_its_answer_and_another_one_conflicts() {
        let replays = Replays::new();
        let first = replays.place("a", b"{}", 1).unwrap();
        first.set(Answer::new(Bytes::from_static(b"answer"), None)).unwrap();
        assert_eq!(replays.place("a", b"{}", 1).unwrap().get().unwrap().bytes, "answer");
        assert_eq!(replays.place("a", b"{ }", 1).map(|_| ()), Err(Conflict));
        assert!(replays.place("a", b"{}", 2).unwrap().get().is_none(), "a new generation decides anew");
    }

    #[test]
    fn the_number_of_answers_is_bounded() {
        let replays = Replays::new();
        for n in 0..DECIDE_REPLAYS * 2 {
            replays.place(&n.to_string(), b"", 1).unwrap();
        }
        assert_eq!(replays.0.lock().unwrap().len(), DECIDE_REPLAYS);
    }
}
