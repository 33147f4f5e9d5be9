//! What comes over the control stream, and where it goes: the certificate to the hop's door, keys and assignments to
//! the policy table, canaries to the vouchers.
//!
//! The stream is believed only as far as this gateway goes: a certificate of another gateway and an assignment of
//! another tenant are refused, whoever signed them.

use std::sync::{Arc, Mutex, PoisonError};

use clawlock_control::client::{Canaries, Identity, Receiver, Trust};
use clawlock_policy::SpiffeId;
use clawlock_policy::envelope::TrustedKeys;
use clawlock_proxy::hop::Front;
use clawlock_proxy::policies::PolicyTable;
use clawlock_proxy::tls::{self, Leaf};
use clawlock_proxy::voucher::{Targets, Vouchers};

use crate::metrics::Figures;
use crate::readiness::Readiness;

/// Installs what comes.
pub(crate) struct Installer {
    tenant: String,
    identity: SpiffeId,
    parts: Parts,
    /// The certificate in force, for the next trust.
    current: Mutex<Option<Identity>>,
}

/// Where it goes.
#[derive(Clone)]
pub(crate) struct Parts {
    /// The hop's door.
    pub(crate) front: Front,
    /// The assignments in force.
    pub(crate) policies: Arc<PolicyTable>,
    /// Who tries the canaries.
    pub(crate) vouchers: Arc<Vouchers>,
    /// Whether there is enough of it.
    pub(crate) readiness: Arc<Readiness>,
    /// What is counted.
    pub(crate) figures: Figures,
}

impl Installer {
    /// Installs for the gateway of a tenant that runs as this identity.
    pub(crate) fn new(tenant: String, identity: SpiffeId, parts: Parts) -> Self {
        Self { tenant, identity, parts, current: Mutex::default() }
    }

    /// Puts a certificate and a trust in force together, for handshakes from now on.
    fn put_in_force(&self, identity: &Identity, trust: &Trust) -> Result<(), String> {
        let Identity { chain, key, not_after_ms } = identity.copy();
        let Trust { roots, keys } = trust;
        tls::check_gateway_leaf(&chain, &self.tenant, &self.identity).map_err(|error| error.to_string())?;
        let tls = tls::hop_server(roots, Leaf { chain, key }).map_err(|error| error.to_string())?;
        self.parts.policies.trust(TrustedKeys::new(keys.iter().cloned()));
        self.parts.front.set_tls(tls);
        self.parts.readiness.identity_until(not_after_ms);
        let end = i64::try_from(not_after_ms / 1000).unwrap_or(i64::MAX);
        self.parts.figures.certificate_end.set(end);
        Ok(())
    }
}

impl Receiver for Installer {
    fn identity(&self, identity: &Identity, trust: &Trust) -> Result<(), String> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.put_in_force(identity, trust)?;
        *current = Some(identity.copy());
        tracing::info!(not_after_ms = identity.not_after_ms, "a certificate is in force");
        Ok(())
    }

    fn trust(&self, trust: &Trust) -> Result<(), String> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let identity = current.as_ref().ok_or("there is no certificate that the trust could go with")?;
        self.put_in_force(identity, trust)
    }

    fn assignment(&self, envelope: &[u8], documents: &[Vec<u8>]) -> Result<u64, String> {
        self.parts.policies.install(envelope, documents).map_err(|error| {
            self.parts.figures.refused_assignments.inc();
            error.to_string()
        })
    }

    fn remove(&self, identity: &SpiffeId) {
        self.parts.policies.remove(identity);
    }

    fn withdraw(&self, identity: &SpiffeId) {
        self.parts.policies.withdraw(identity);
    }

    fn canaries(&self, canaries: Canaries) {
        let Canaries { tripwire, nodes } = canaries;
        self.parts.vouchers.set_targets(Targets { tripwire, nodes });
    }

    fn synced(&self) {
        self.parts.readiness.synced();
    }
}

#[cfg(test)]
mod tests;
