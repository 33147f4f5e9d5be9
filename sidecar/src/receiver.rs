//! What comes over the control stream, and where it goes: the certificate to the hop, keys and assignment to the
//! policy table, the rest to whoever watches [`Known`].
//!
//! The stream is believed only as far as this pod goes: a certificate or an assignment of another identity is
//! refused, whoever signed it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use clawlock_control::client::{Canaries, Identity, Receiver, Trust};
use clawlock_policy::envelope::{self, Envelope, TrustedKeys};
use clawlock_policy::{SpiffeId, codec};
use clawlock_proxy::hop::HopClient;
use clawlock_proxy::hop::client::Endpoint;
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::tls::{self, Leaf};
use rustls_pki_types::ServerName;
use tokio::sync::watch;

/// What the rest of the program wants to know of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// There is a certificate, so that the gateway can be spoken to.
    pub(crate) certified: bool,
    /// What must not be reachable from here.
    pub(crate) canaries: Canaries,
    /// How often a stream said all that there is: after each time the operator wants to hear everything again.
    pub(crate) synced: u64,
}

/// Who the pod is, and where its gateway.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// The tenant.
    pub(crate) tenant: String,
    /// The pod.
    pub(crate) identity: SpiffeId,
    /// The gateway's address.
    pub(crate) gateway: SocketAddr,
    /// The name that its certificate carries.
    pub(crate) name: ServerName<'static>,
}

/// Takes what comes.
pub(crate) struct Intake {
    own: Own,
    hop: Arc<HopClient>,
    table: Arc<PolicyTable>,
    held: Mutex<Option<Held>>,
    known: watch::Sender<Known>,
}

/// The certificate in use, and whom is trusted.
struct Held {
    identity: Identity,
    trust: Trust,
}

impl Intake {
    /// Passes on to a hop and a table.
    pub(crate) fn new(own: Own, hop: Arc<HopClient>, table: Arc<PolicyTable>) -> Self {
        Self { own, hop, table, held: Mutex::default(), known: watch::channel(Known::default()).0 }
    }

    /// What is known.
    pub(crate) fn known(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    fn use_certificate(&self, identity: &Identity, trust: &Trust) -> Result<(), String> {
        let Identity { chain, key, not_after_ms: _ } = identity.copy();
        let tls = tls::hop_client(&trust.roots, Leaf { chain, key }).map_err(|error| error.to_string())?;
        self.hop.replace(Endpoint { address: self.own.gateway, name: self.own.name.clone(), tls });
        self.table.trust(keys(trust));
        Ok(())
    }
}

fn keys(trust: &Trust) -> TrustedKeys {
    TrustedKeys::new(trust.keys.iter().cloned())
}

impl Receiver for Intake {
    fn identity(&self, identity: &Identity, trust: &Trust) -> Result<(), String> {
        let named = tls::peer_identity(Some(&identity.chain)).map_err(|error| error.to_string())?;
        if named != self.own.identity {
            return Err(format!("the certificate is of {named}, but this pod is {}", self.own.identity));
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.use_certificate(identity, trust)?;
        *held = Some(Held { identity: identity.copy(), trust: trust.clone() });
        drop(held);
        tracing::info!(identity = %named, not_after_ms = identity.not_after_ms, "a certificate was issued to this pod");
        self.known.send_modify(|known| known.certified = true);
        Ok(())
    }

    fn trust(&self, trust: &Trust) -> Result<(), String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.as_mut().ok_or("whom to trust was said before there was a certificate")?;
        // Said at the start of each stream; the hop must not connect anew for it.
        if held.trust != *trust {
            self.use_certificate(&held.identity, trust)?;
            held.trust = trust.clone();
            tracing::info!(roots = trust.roots.len(), keys = trust.keys.len(), "whom to trust has changed");
        }
        Ok(())
    }

    fn assignment(&self, envelope: &[u8], documents: &[Vec<u8>]) -> Result<u64, String> {
        let keys = self.held.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|held| keys(&held.trust));
        let keys = keys.ok_or("an assignment came before there was a certificate")?;
        let signed = Envelope::decode(envelope).map_err(|error| error.to_string())?;
        let payload = signed.verify(envelope::ASSIGNMENT, &keys).map_err(|error| error.to_string())?;
        let assignment = codec::decode_assignment(payload).map_err(|error| error.to_string())?;
        let Own { tenant, identity, .. } = &self.own;
        if assignment.identity != identity.as_str() || assignment.tenant != *tenant {
            return Err(format!(
                "it is for {} of tenant {}, but this pod is {identity} of tenant {tenant}",
                assignment.identity, assignment.tenant
            ));
        }
        let fresh = !self.table.identities().contains(identity);
        let generation = self.table.install(envelope, documents).map_err(|error| error.to_string())?;
        if fresh {
            tracing::info!(generation, documents = documents.len(), "a policy is in force");
        } else {
            tracing::debug!(generation, documents = documents.len(), "an assignment is in force");
        }
        Ok(generation)
    }

    fn remove(&self, identity: &SpiffeId) {
        if *identity == self.own.identity {
            // The pod runs, since we do: the same assignment may come again from an operator that knows more.
            tracing::warn!(%identity, "the operator no longer assigns a policy to this pod; all is denied");
            self.table.withdraw(identity);
        }
    }

    fn canaries(&self, canaries: Canaries) {
        self.known.send_if_modified(|known| {
            let news = known.canaries != canaries;
            known.canaries = canaries;
            news
        });
    }

    fn synced(&self) {
        self.known.send_modify(|known| known.synced += 1);
    }
}
