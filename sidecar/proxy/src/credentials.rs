//! Where the gateway gets upstream credentials from. Values exist only in memory, are wiped when
//! dropped, and can be neither printed nor serialised.

use std::fmt;
use std::sync::Arc;

use clawlock_policy::document::SecretKey;
use zeroize::Zeroizing;

use crate::limits::{MAX_SECRET, MIN_SECRET};

/// A credential's value.
pub struct Secret(Zeroizing<Vec<u8>>);

/// Why a secret was refused. Says nothing about its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Too short to be recognised in a response, or too long for a header.
    #[error("a secret has {MIN_SECRET} to {MAX_SECRET} bytes; this one has {0}")]
    Length(usize),
    /// Not fit for a header.
    #[error("a secret has only visible ASCII characters and inner spaces; byte {0} is another")]
    Character(usize),
}

impl Secret {
    /// Takes a value; one trailing line break, as editors add it, is dropped.
    ///
    /// # Errors
    /// When it is shorter than [`MIN_SECRET`], longer than [`MAX_SECRET`] or not visible ASCII.
    pub fn new(value: Vec<u8>) -> Result<Self, SecretError> {
        let mut value = Zeroizing::new(value);
        if value.ends_with(b"\n") {
            value.pop();
            if value.ends_with(b"\r") {
                value.pop();
            }
        }
        if value.len() < MIN_SECRET || value.len() > MAX_SECRET {
            return Err(SecretError::Length(value.len()));
        }
        match value.iter().position(|b| !matches!(b, 0x20..=0x7e)) {
            Some(at) => Err(SecretError::Character(at)),
            None => Ok(Self(value)),
        }
    }

    /// Whether two values are the same, so that what was derived from one is good for the other.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }

    /// The bytes, for the one place that injects and the one that redacts.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Finds credentials.
pub trait Credentials: Send + Sync {
    /// The value under a key, as it is now; `None` denies the request. The same value is answered as
    /// the same `Arc`, so what was derived from it can be kept.
    fn get(&self, key: &SecretKey) -> Option<Arc<Secret>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class15_a_secret_is_never_printed() {
        let secret = Secret::new(b"canary-4711".to_vec()).unwrap();
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert!(!format!("{:?}", Secret::new(b"short".to_vec())).contains("short"));
    }

    #[test]
    fn line_breaks_are_dropped_at_the_end_and_refused_inside() {
        assert_eq!(Secret::new(b"canary-4711\r\n".to_vec()).unwrap().expose(), b"canary-4711");
        assert_eq!(Secret::new(b"canary\r\nx-evil: 1".to_vec()).unwrap_err(), SecretError::Character(6));
    }

    #[test]
    fn bounds_are_stated() {
        assert_eq!(Secret::new(b"1234567".to_vec()).unwrap_err(), SecretError::Length(7));
        assert!(Secret::new(vec![b'a'; MAX_SECRET]).is_ok());
        assert!(Secret::new(vec![b'a'; MAX_SECRET + 1]).is_err());
    }
}
