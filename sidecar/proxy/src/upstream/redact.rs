//! Hides the echo of an injected credential in what an upstream sends.
//!
//! A [`Redactor`] knows the credential in the forms in which servers echo it ([`forms`]); each
//! occurrence, in either case of its letters, is overwritten by a mask of the same length, so that
//! lengths already announced stay true. A [`RedactStream`] does so across any division into chunks
//! and holds back only the longest end of what it saw that could still become a form: an event of a
//! stream is not delayed. Transformed beyond these forms (compressed, encrypted, reversed, one
//! character per message) a credential is not recognised; nothing here may claim otherwise.

mod forms;

use std::fmt;
use std::sync::Arc;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use zeroize::{Zeroize, Zeroizing};

use crate::limits::{MAX_SECRET, MIN_SECRET};

/// Why no redactor could be made. Says nothing about the secret's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedactError {
    /// It cannot be told apart from ordinary text.
    #[error("a secret of {0} bytes is too short: fewer than {MIN_SECRET} could not be told apart from ordinary text")]
    TooShort(usize),
    /// Its forms would take too much memory.
    #[error("a secret of {0} bytes is too long: the bound is {MAX_SECRET}")]
    TooLong(usize),
    /// Every character fit for a mask occurs in it.
    #[error("the secret holds every character that could mask it ({})", String::from_utf8_lossy(MASKS))]
    NoMask,
}

/// Characters for the mask, in order of preference: none that JSON, HTML, URLs or base64 give a
/// meaning. One that occurs in no form is taken, so masked text can never spell a form again.
const MASKS: &[u8] = b"*#~^|!_.-:";

/// Recognises a credential. Cheap to clone.
#[derive(Clone)]
pub struct Redactor(Arc<Matcher>);

struct Matcher {
    automaton: NFA,
    start: StateID,
    /// How many bytes of a form each state stands for, sorted by state. The start is not in it.
    depths: Box<[(StateID, usize)]>,
    /// Bytes with which a form begins: everything else is skipped while no form has begun.
    begins: [bool; 256],
    mask: u8,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor(..)")
    }
}

impl Redactor {
    /// Recognises a secret.
    ///
    /// # Errors
    /// When it is shorter than [`MIN_SECRET`], longer than [`MAX_SECRET`], or has no mask.
    pub fn new(secret: &[u8]) -> Result<Self, RedactError> {
        Self::of(&[secret])
    }

    /// Recognises the password of Basic authentication, alone and with its user (RFC 7617).
    ///
    /// # Errors
    /// As [`Redactor::new`] has them, for the password.
    pub fn basic(user: &str, password: &[u8]) -> Result<Self, RedactError> {
        let pair = Zeroizing::new([user.as_bytes(), b":", password].concat());
        Self::of(&[password, &pair])
    }

    fn of(secrets: &[&[u8]]) -> Result<Self, RedactError> {
        let mut all = forms::Forms::default();
        for secret in secrets {
            if secret.len() < MIN_SECRET {
                return Err(RedactError::TooShort(secret.len()));
            }
            // Twice: a user's name beside a password is bounded by the same number.
            if secret.len() > 2 * MAX_SECRET {
                return Err(RedactError::TooLong(secret.len()));
            }
            all.add(secret);
        }
        let forms = all.into_sorted();
        let used = |mask: &u8| forms.iter().any(|form| form.contains(mask));
        let mask = *MASKS.iter().find(|mask| !used(mask)).ok_or(RedactError::NoMask)?;
        Ok(Self(Arc::new(Matcher::new(&forms, mask))))
    }

    /// A stream of its own for one body.
    #[must_use]
    pub fn stream(&self) -> RedactStream {
        RedactStream { matcher: self.0.clone(), state: self.0.start, held: BytesMut::new() }
    }

    /// The value without the credential; `None` when it has none.
    #[must_use]
    pub fn redact_header(&self, value: &HeaderValue) -> Option<HeaderValue> {
        let (hits, _) = self.0.scan(self.0.start, value.as_bytes());
        if hits.is_empty() {
            return None;
        }
        let mut bytes = value.as_bytes().to_vec();
        self.0.cover(&hits, 0, &mut bytes);
        let mut redacted = HeaderValue::from_bytes(&bytes).expect("a mask of visible ASCII keeps a header value valid");
        redacted.set_sensitive(value.is_sensitive());
        Some(redacted)
    }

    /// Takes the credential out of all values. A name that holds it goes with its values.
    pub fn redact_headers(&self, fields: &mut HeaderMap) {
        let named: Vec<_> = fields.keys().filter(|name| self.0.occurs_in(name.as_str().as_bytes())).cloned().collect();
        for name in named {
            fields.remove(name);
        }
        for value in fields.values_mut() {
            if let Some(redacted) = self.redact_header(value) {
                *value = redacted;
            }
        }
    }
}

/// An occurrence: the offset after its last byte, and its length, which may reach back into what was
/// scanned before.
type Hit = (usize, usize);

impl Matcher {
    fn new(forms: &[Zeroizing<Vec<u8>>], mask: u8) -> Self {
        let automaton = NFA::builder()
            .match_kind(MatchKind::Standard)
            .ascii_case_insensitive(true)
            .prefilter(false)
            .build(forms.iter().map(|form| form.as_slice()))
            // At most some 40 forms of at most some 100 KiB: far below 2^31 states.
            .expect("forms of bounded length fit an automaton");
        let start = automaton.start_state(Anchored::No).expect("an automaton starts unanchored by default");
        let mut depths = Vec::new();
        let mut begins = [false; 256];
        for form in forms {
            let mut state = start;
            for (at, byte) in form.iter().enumerate() {
                state = automaton.next_state(Anchored::No, state, *byte);
                depths.push((state, at + 1));
            }
            if let Some(first) = form.first() {
                begins[usize::from(first.to_ascii_lowercase())] = true;
                begins[usize::from(first.to_ascii_uppercase())] = true;
            }
        }
        depths.sort_unstable();
        depths.dedup();
        Self { automaton, start, depths: depths.into(), begins, mask }
    }

    /// Runs over bytes from a state; returns the occurrences that end in them and the state after.
    fn scan(&self, mut state: StateID, bytes: &[u8]) -> (Vec<Hit>, StateID) {
        let mut hits = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            if state == self.start {
                match bytes[at..].iter().position(|byte| self.begins[usize::from(*byte)]) {
                    Some(skipped) => at += skipped,
                    None => break,
                }
            }
            state = self.automaton.next_state(Anchored::No, state, bytes[at]);
            at += 1;
            if self.automaton.is_special(state) && self.automaton.is_match(state) {
                let lengths = (0..self.automaton.match_len(state))
                    .map(|nth| self.automaton.pattern_len(self.automaton.match_pattern(state, nth)));
                record(&mut hits, (at, lengths.max().unwrap_or_default()));
            }
        }
        (hits, state)
    }

    fn occurs_in(&self, bytes: &[u8]) -> bool {
        !self.scan(self.start, bytes).0.is_empty()
    }

    /// Masks occurrences in bytes of which the first `before` were scanned earlier.
    fn cover(&self, hits: &[Hit], before: usize, bytes: &mut [u8]) {
        for (end, length) in hits {
            let end = before + end;
            // What a form has begun is held back, so an occurrence never reaches behind `bytes`.
            bytes[end.saturating_sub(*length)..end].fill(self.mask);
        }
    }

    /// The most bytes before this state that could be the beginning of a form.
    fn depth(&self, state: StateID) -> usize {
        self.depths.binary_search_by_key(&state, |(known, _)| *known).map_or(0, |at| self.depths[at].1)
    }
}

/// Adds an occurrence; one that touches the last is joined with it, so that a body full of
/// occurrences makes no list longer than itself.
fn record(hits: &mut Vec<Hit>, (end, length): Hit) {
    match hits.last_mut() {
        Some((last, covered)) if end - *last <= length => {
            *covered = length.max(*covered + (end - *last));
            *last = end;
        }
        _ => hits.push((end, length)),
    }
}

/// Redacts one body as it streams.
pub struct RedactStream {
    matcher: Arc<Matcher>,
    state: StateID,
    /// The end of what came in that could be the beginning of a form, with earlier masks in it.
    held: BytesMut,
}

impl fmt::Debug for RedactStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedactStream(..)")
    }
}

impl RedactStream {
    /// Takes the next bytes; returns what can be passed on, which may be nothing. Bytes without any
    /// beginning of a form are passed on without a copy.
    pub fn push(&mut self, mut chunk: Bytes) -> Bytes {
        let before = self.held.len();
        let (hits, state) = self.matcher.scan(self.state, &chunk);
        self.state = state;
        let hold = self.matcher.depth(state).min(before + chunk.len());
        if before == 0 && hits.is_empty() {
            self.held.extend_from_slice(&chunk.split_off(chunk.len() - hold));
            return chunk;
        }
        self.held.extend_from_slice(&chunk);
        self.matcher.cover(&hits, before, &mut self.held);
        let passed = self.held.len() - hold;
        self.held.split_to(passed).freeze()
    }

    /// Returns what was held back, once the body has ended.
    pub fn finish(&mut self) -> Bytes {
        self.state = self.matcher.start;
        self.held.split().freeze()
    }

    /// Redacts headers or trailers of the same message.
    pub fn redact_headers(&self, fields: &mut HeaderMap) {
        Redactor(self.matcher.clone()).redact_headers(fields);
    }
}

impl Drop for RedactStream {
    fn drop(&mut self) {
        self.held.as_mut().zeroize();
    }
}

#[cfg(test)]
mod tests;
