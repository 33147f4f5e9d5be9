//! The client of the control API: a certificate, then a stream of trust, documents and assignments, for as long as the
//! program runs. What was received stays in force while the operator is away; its own validity ends it.

mod connection;
mod enrol;
mod pause;
mod reading;
mod repeat;
mod session;
mod store;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use clawlock_policy::SpiffeId;
use clawlock_policy::envelope::PublicKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;

pub use enrol::{EnrolError, enrol};
pub use repeat::repeat;
pub use session::{Config, run};

/// Future of [`Dial::dial`].
pub type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + 'a>>;

/// Opens a connection towards the control API: a sidecar's leads to its gateway, which passes it on.
pub trait Dial: Send + Sync {
    /// Connects once. The caller bounds the time.
    fn dial(&self) -> Dialling<'_>;
}

/// Whom to trust: a tenant's roots and the keys that sign its policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The tenant's roots.
    pub roots: Vec<CertificateDer<'static>>,
    /// Ed25519 keys.
    pub keys: Vec<PublicKey>,
}

/// A certificate with its key, which exists in this process's memory only.
pub struct Identity {
    /// The leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
    /// End of its validity in milliseconds since the Unix epoch.
    pub not_after_ms: u64,
}

impl Identity {
    /// The same again, for a second configuration of TLS.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key(), not_after_ms: self.not_after_ms }
    }
}

/// What must not be reachable from an agent's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Canaries {
    /// Addresses of the tripwire.
    pub tripwire: Vec<IpAddr>,
    /// Addresses of the nodes.
    pub nodes: Vec<IpAddr>,
}

/// What a program does with what comes in. Called in order, from one task.
pub trait Receiver: Send + Sync {
    /// A new certificate, with whom to trust.
    ///
    /// # Errors
    /// When it is not fit for use; then another one is asked for later.
    fn identity(&self, identity: &Identity, trust: &Trust) -> Result<(), String>;

    /// Another trust, for the same certificate.
    ///
    /// # Errors
    /// When it is not fit for use; then the one before stays.
    fn trust(&self, trust: &Trust) -> Result<(), String>;

    /// An assignment with all of its documents. Answers its generation.
    ///
    /// # Errors
    /// When it is not valid; then the one before stays.
    fn assignment(&self, envelope: &[u8], documents: &[Vec<u8>]) -> Result<u64, String>;

    /// An identity whose pod is gone.
    fn remove(&self, identity: &SpiffeId);

    /// An identity that the operator did not name again after a break. It may yet come: a replica that has just
    /// started need not know every pod.
    fn withdraw(&self, identity: &SpiffeId) {
        self.remove(identity);
    }

    /// What must not be reachable.
    fn canaries(&self, canaries: Canaries);

    /// Everything that the operator knew has been received.
    fn synced(&self);
}

/// A shared receiver.
pub type SharedReceiver = Arc<dyn Receiver>;
