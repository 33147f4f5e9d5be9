//! SPIFFE IDs of pods (SPIFFE-ID specification, section 2).

use std::fmt;
use std::sync::Arc;

/// `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT/pod/UID`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(Arc<str>);

/// Longest SPIFFE ID in bytes (SPIFFE-ID specification, section 2.3).
pub const MAX_SPIFFE_ID: usize = 2048;

/// Why an identity was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdentityError(&'static str);

impl SpiffeId {
    /// Makes the identity of a pod.
    ///
    /// # Errors
    /// When one of the parts is empty or has a character that the specification does not allow.
    pub fn of_pod(
        trust_domain: &str,
        namespace: &str,
        service_account: &str,
        uid: &str,
    ) -> Result<Self, IdentityError> {
        Self::parse(&format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}/pod/{uid}"))
    }

    /// Parses the identity of a pod.
    ///
    /// # Errors
    /// When it has another shape, or a character that the specification does not allow.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        if text.len() > MAX_SPIFFE_ID {
            return Err(IdentityError("a SPIFFE ID has at most 2048 bytes"));
        }
        let rest = text.strip_prefix("spiffe://").ok_or(IdentityError("a SPIFFE ID starts with spiffe://"))?;
        let parts: Vec<&str> = rest.split('/').collect();
        let &[domain, "ns", namespace, "sa", account, "pod", uid] = parts.as_slice() else {
            return Err(IdentityError("a pod's SPIFFE ID is spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT/pod/UID"));
        };
        let domain_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        let path_ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(domain_ok) {
            return Err(IdentityError("a trust domain has 1 to 255 lower-case letters, digits, '.', '-' and '_'"));
        }
        for part in [namespace, account, uid] {
            if part.is_empty() || part == "." || part == ".." || !part.bytes().all(path_ok) {
                return Err(IdentityError("a path segment of a SPIFFE ID has letters, digits, '.', '-' and '_'"));
            }
        }
        Ok(Self(text.into()))
    }

    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The whole URI, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.0)
    }
}
