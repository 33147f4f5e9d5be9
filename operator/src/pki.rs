//! Keys and certificates. All of them live in Secrets of the release namespace, which only the operator
//! reads; what is derived from them for one process (leaves of the control API) lives in its memory.
//!
//! - [`anchor`]: the root that sidecars and gateways pin; it signs nothing but the control API's leaves.
//! - [`signing`]: the Ed25519 key of policy documents, assignments and the stored state.
//! - [`tenant`]: one CA per tenant, which [`rolling`] changes without a failed request.
//! - [`webhook`]: the certificate of the admission webhooks.

pub(crate) mod anchor;
pub(crate) mod rolling;
pub(crate) mod secrets;
pub(crate) mod signing;
pub(crate) mod tenant;
pub(crate) mod webhook;
pub(crate) mod x509;

/// Why something of the keys is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// A Secret holds something else.
    #[error(
        "Secret {name}, key {key}: {reason}; restore it from a backup, or delete the Secret so that a new one is made"
    )]
    Secret {
        /// The Secret.
        name: String,
        /// Its key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A key or certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The API server could not be asked.
    #[error(transparent)]
    Write(#[from] crate::cluster::WriteError),
    /// The API server could not be asked.
    #[error("{name}: {}", crate::cluster::Brief(source))]
    Read {
        /// The Secret.
        name: String,
        /// Why it could not be read.
        source: Box<kube::Error>,
    },
    /// A time that no certificate can carry.
    #[error("a certificate cannot carry the time {0} ms after 1970; look at this machine's clock")]
    Time(u64),
}
