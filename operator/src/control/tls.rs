//! TLS of the control API: 1.3 only. The server name chooses the tenant, before any certificate is looked
//! at; the tenant chooses the server's leaf and the roots for client certificates, which are optional
//! because the first request asks for one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, version};

use crate::pki::anchor::Anchor;
use crate::pki::tenant::TenantCa;

/// Most configurations that are kept; a tenant has one.
const MAX_CONFIGS: usize = 16_384;

/// Why there is no TLS for a tenant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The leaf cannot be made.
    #[error(transparent)]
    Pki(#[from] crate::pki::PkiError),
    /// rustls refused something.
    #[error("TLS configuration: {0}")]
    Config(#[from] rustls::Error),
    /// The tenant's roots cannot verify clients.
    #[error("the tenant's roots cannot verify clients: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The tenant that a server name names.
pub(crate) fn tenant_of(name: &str) -> Option<&str> {
    let tenant = name.strip_prefix("control.")?.strip_suffix(".clawlock.internal")?;
    (!tenant.is_empty() && !tenant.contains('.')).then_some(tenant)
}

/// A configuration per tenant, kept while leaf and CA are the same.
#[derive(Default)]
pub(crate) struct Configs {
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    ca: Arc<TenantCa>,
    leaf: Arc<CertifiedKey>,
    config: Arc<ServerConfig>,
}

impl Configs {
    /// The configuration of a tenant.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn of(&self, tenant: &str, anchor: &Anchor, ca: &Arc<TenantCa>) -> Result<Arc<ServerConfig>, TlsError> {
        let leaf = anchor.leaf(&clawlock_control::control_name(tenant))?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &&Known| Arc::ptr_eq(&known.ca, ca) && Arc::ptr_eq(&known.leaf, &leaf);
        if let Some(found) = known.get(tenant).filter(same) {
            return Ok(found.config.clone());
        }
        let config = config(ca, leaf.clone())?;
        if known.len() >= MAX_CONFIGS {
            known.clear();
        }
        known.insert(tenant.to_owned(), Known { ca: ca.clone(), leaf, config: config.clone() });
        Ok(config)
    }
}

fn config(ca: &TenantCa, leaf: Arc<CertifiedKey>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in ca.roots() {
        roots.add(root.clone())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = verifier.allow_unauthenticated().build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(leaf)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would carry an identity past its certificate's end.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_control_apis_names_have_a_tenant() {
        assert_eq!(tenant_of("control.acme.clawlock.internal"), Some("acme"));
        for name in [
            "gateway.acme.clawlock.internal",
            "control..clawlock.internal",
            "control.a.b.clawlock.internal",
            "control.acme.clawlock.internal.",
            "control.clawlock.internal",
            "",
        ] {
            assert_eq!(tenant_of(name), None, "{name}");
        }
    }
}
