//! Host names: one accepted spelling.
//!
//! A name is compared only after it was parsed, so spellings (case, trailing dot, `%2e`, IDN dots,
//! userinfo, IP literals in any notation) cannot slip past a comparison: they do not parse, or they
//! parse to the same value. International names are accepted in their A-label form (RFC 5891).

use std::fmt;
use std::sync::Arc;

/// A DNS host name in lower case, without a trailing dot; never an IP literal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

/// Longest host name in bytes (RFC 1035 section 2.3.4, presentation form).
pub const MAX_HOST: usize = 253;

/// Why a host name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HostError(&'static str);

impl HostName {
    /// Parses a host name.
    ///
    /// # Errors
    /// When it is empty, longer than [`MAX_HOST`], an IP literal in any notation, ends with a dot, or
    /// has a label that is not letters, digits, `-` and `_` (RFC 1123 section 2.1, and `_` as DNS has it).
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() || text.len() > MAX_HOST {
            return Err(HostError("a host name has 1 to 253 characters"));
        }
        for label in text.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(HostError("a label of a host name has 1 to 63 characters, and there is no trailing dot"));
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Err(HostError("a host name has only letters, digits, '-' and '_'"));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(HostError("a label of a host name neither starts nor ends with '-'"));
            }
        }
        // What a resolver would read as an IPv4 number ends in a numeric or hexadecimal label
        // (WHATWG URL, "ends in a number"); no public suffix does.
        let last = text.rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().all(|b| b.is_ascii_digit());
        let hex = last.len() > 1 && last.starts_with('0') && matches!(last.as_bytes()[1], b'x' | b'X');
        if numeric || hex {
            return Err(HostError("an IP address is not a host name"));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostName({})", self.0)
    }
}
